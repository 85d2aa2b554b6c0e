"""A server with a declared app, and servers that hooks talk to."""

from __future__ import annotations

from tests.unit.fixtures.daily import certificate, declared, hooks_file, root, serve, smtp

__all__ = ["certificate", "declared", "hooks_file", "root", "serve", "smtp"]
