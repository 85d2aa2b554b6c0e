"""Backups on this server: create, list, keep."""
