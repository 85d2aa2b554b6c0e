"""A server with a declared app."""

from __future__ import annotations

from tests.unit.fixtures.daily import declared, root

__all__ = ["declared", "root"]
