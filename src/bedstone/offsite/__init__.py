"""Copies of backups at other places, and how fresh they are."""
