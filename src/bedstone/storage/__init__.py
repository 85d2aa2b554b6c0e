"""Destinations of backups and restic, which writes to them."""
