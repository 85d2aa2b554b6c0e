"""The schema of the settings."""
