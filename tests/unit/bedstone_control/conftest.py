"""The fixtures of the operator's side: an inventory, and Django projects."""

from __future__ import annotations

from tests.unit.fixtures.control import django, good_secrets, site

__all__ = ["django", "good_secrets", "site"]
