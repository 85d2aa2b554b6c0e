"""Define where files are on a server.

``BEDSTONE_ROOT`` puts everything below another directory, so that tests never
touch the real one.

A host may verify the backups of others (``bedstone verify --of ORIGIN``). The settings, keys and
ledger of each of them are in directories of that origin: see :func:`of_origin`.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_ORIGIN: ContextVar[str | None] = ContextVar("origin", default=None)


def root() -> Path:
    """Return the directory that stands for ``/``."""
    return Path(os.environ.get("BEDSTONE_ROOT") or "/")


def host(path: str | Path) -> Path:
    """Return where an absolute path of the configuration is, with the root applied."""
    return root() / str(path).lstrip("/")


@contextmanager
def of_origin(name: str | None) -> Iterator[None]:
    """Use the settings, keys and ledger of another host's backups in a block, instead of its own.

    Args:
        name: the other host; None for this one.

    """
    token = _ORIGIN.set(name)
    try:
        yield
    finally:
        _ORIGIN.reset(token)


def origin() -> str | None:
    """Return the host whose backups are meant, or None for this one."""
    return _ORIGIN.get()


def origins() -> Path:
    """Return the directory of the other hosts whose backups this one verifies."""
    return host("/etc/bedstone/verify")


def backups_config() -> Path:
    """Return the directory of the backups' settings, destinations and keys."""
    name = origin()
    return origins() / name if name else host("/etc/bedstone")


def pgbackrest() -> Path:
    """Return the directory of pgBackRest's settings and keys."""
    name = origin()
    return host("/etc/pgbackrest/verify") / name if name else host("/etc/pgbackrest")


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


def acme() -> Path:
    """Return the directory of the certificates by ACME: certbot's, and what is known of each."""
    return state() / "acme"


def site_certificate(app: str) -> Path:
    """Return nginx's file that names the certificate of an app's site, when that is by ACME."""
    return host("/etc/nginx/bedstone/certificates") / f"{app}.conf"


def ledger() -> Path:
    """Return the SQLite ledger."""
    name = origin()
    return (state() / "verify" / name if name else state()) / "ledger.sqlite"


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
    """Return nginx's file with the addresses of a service's slots."""
    return host("/etc/nginx/bedstone/upstreams") / f"{app}-{service}.conf"


def serving_link(app: str) -> Path:
    """Return the link to the slot that gets an app's requests; nginx follows it at each one."""
    return host("/etc/nginx/bedstone/serving") / app


def reload_owed(app: str) -> Path:
    """Return the file that is there while nginx may not have loaded an app's upstreams."""
    return app_state(app) / "nginx-reload-owed"


def ensure_private(directory: Path) -> Path:
    """Make a directory (and its parents) that only root can read, and return it."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory


def apps_that_serve() -> list[str]:
    """Return the apps of which a release serves by the files."""
    directory = state() / "apps"
    names = {path.parent.name for path in directory.glob("*/serving.json")}
    names |= {path.parent.parent.name for path in directory.glob("*/slots/*@*.json")}
    return sorted(name for name in names if not name.startswith("."))
