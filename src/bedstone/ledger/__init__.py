"""The SQLite database of what happened on this server."""
