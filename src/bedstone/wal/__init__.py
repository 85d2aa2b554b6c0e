"""The WAL archive: pgBackRest's backups and segments."""
