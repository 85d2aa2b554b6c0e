"""The rebuild of a lost server from its backups."""
