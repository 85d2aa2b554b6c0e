"""Where things are on a server.

``BEDSTONE_ROOT`` puts everything below another directory, so that tests never
touch the real one.
"""

from __future__ import annotations

import os
from pathlib import Path


def root() -> Path:
    """Return the directory that stands for ``/``."""
    return Path(os.environ.get("BEDSTONE_ROOT") or "/")


def host(path: str | Path) -> Path:
    """Return where an absolute path of the configuration is, with the root applied."""
    return root() / str(path).lstrip("/")


def apps_config() -> Path:
    """Return the directory of the declared apps' settings."""
    return host("/etc/bedstone/apps")


def app_config(app: str) -> Path:
    """Return the file that describes an app."""
    return apps_config() / app / "app.json"


def ca_certificate() -> Path:
    """Return the certificate of Bedstone's own authority."""
    return host("/etc/bedstone/tls/ca.crt")


def state() -> Path:
    """Return the directory of the program's own state."""
    return host("/var/lib/bedstone")


def ledger() -> Path:
    """Return the SQLite ledger."""
    return state() / "ledger.sqlite"


def app_state(app: str) -> Path:
    """Return the directory of an app's state: slots, kept releases."""
    return state() / "apps" / app


def slots(app: str) -> Path:
    """Return the directory of the files that say what each slot runs."""
    return app_state(app) / "slots"


def release(app: str, release_id: str) -> Path:
    """Return the directory that keeps a release's settings and environment."""
    return app_state(app) / "releases" / release_id


def served(app: str) -> Path:
    """Return the directory of an app's static and media files."""
    return host("/srv/bedstone") / app


def backups(app: str) -> Path:
    """Return the directory of an app's backups."""
    return host("/var/backups/bedstone") / app


def runtime() -> Path:
    """Return the directory for locks and short-lived files with secrets (a tmpfs)."""
    return host("/run/bedstone")


def upstream(app: str, service: str) -> Path:
    """Return nginx's file that names the address a service answers on."""
    return host("/etc/nginx/bedstone/upstreams") / f"{app}-{service}.conf"


def ensure_private(directory: Path) -> Path:
    """Make a directory (and its parents) that only root can read, and return it."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory
