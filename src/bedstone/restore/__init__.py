"""Restores of an app's databases and uploads."""
