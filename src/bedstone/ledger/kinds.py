"""Name the kinds of what is backed up, as the ledger and tags of snapshots record them."""

from __future__ import annotations

# The parts of an app's backup.
DUMP = "dump"
MEDIA = "media"
# An app's uploads as they were copied between its backups.
UPLOADS = "uploads"
# The whole server's: its settings, and PostgreSQL's write-ahead log with the cluster's backups.
CONFIGURATION = "configuration"
WAL = "wal"
KINDS = (DUMP, MEDIA, UPLOADS, CONFIGURATION, WAL)

# The app of what belongs to the whole server.
SERVER = ""
