"""Upgrade PostgreSQL: minor versions at a chosen moment, major ones with rehearsal and undo."""
