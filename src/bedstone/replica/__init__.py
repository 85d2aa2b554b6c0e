"""Keep a copy of the databases on another host, and promote it."""
