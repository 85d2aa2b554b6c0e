"""The host program: releases, backups, restores and status of the apps on one server."""

__version__ = "0.1.0"
