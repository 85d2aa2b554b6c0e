"""Check and drop the roles that an app logs in to PostgreSQL as: one for each password it has had.

Another password in the settings makes another role (role postgresql, `app_login`), and the release
that serves logs in with the earlier one until it is replaced. Then no container uses that any more.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from bedstone.apps import config, environment, slots
from bedstone.backup import settings as backup_settings
from bedstone.backup.create import server_of
from bedstone.core import paths
from bedstone.core.errors import BedstoneError, RefusedError
from bedstone.postgres import logins
from bedstone.release.steps import prepare
from bedstone.system.container import LABEL_APP

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bedstone.apps.config import App, Database
    from bedstone.postgres.server import Server
    from bedstone.release.context import Rollout

# PostgreSQL sees the end of a container's connections at once, or nearly.
SESSIONS_END_SECONDS = 10.0
_PAUSE_SECONDS = 0.5


def require(app: App) -> None:
    """Refuse a release whose login isn't in PostgreSQL yet.

    Raises:
        RefusedError: names the playbook that makes it.

    """
    database, server = app.database, server_for(app)
    if database is None or database.login is None or server is None:
        return
    if database.login not in server.roles():
        raise RefusedError(
            f"The role {database.login}, which {app.name} logs in as, isn't in PostgreSQL.",
            hint="Run the playbook `provision.yml`, whose role `postgresql` makes it.",
        )


def server_for(app: App) -> Server | None:
    """Return this host's PostgreSQL if it has the app's database and the app has logins."""
    if app.database is None or app.database.role is None:
        return None
    settings = backup_settings.of_app(app.name)
    return None if settings is None else server_of(settings)


def has_logins(name: str) -> bool:
    """Return whether an app has logins on this host that may be left from an earlier password."""
    try:
        return server_for(config.load(name)) is not None
    except BedstoneError:
        return False


def drop_unused(rollout: Rollout) -> str:
    """Drop the logins that neither what serves nor a running container uses."""
    declared = config.load(rollout.app.name)
    database, server = declared.database, server_for(declared)
    if database is None or database.role is None or server is None:
        return "none on this server"
    texts = [*_kept_values(rollout, declared), *_running_values(rollout)]
    unused = [
        name for name in logins.sessions(server, str(database.role)) if not is_used(name, texts)
    ]
    if database.login in unused:
        unused.remove(database.login)
    logins.end_idle(server, unused)
    deadline = time.monotonic() + SESSIONS_END_SECONDS
    while (open_ := _open(server, database, unused)) and time.monotonic() < deadline:
        time.sleep(_PAUSE_SECONDS)
    said = []
    for name in unused:
        if name in open_:
            said.append(f"{name} stays: {open_[name]} sessions of it are open")
        elif name == database.role:
            logins.close(server, name)
            said.append(f"{name} can't log in any more")
        else:
            logins.drop(server, database.name, name, database.role)
            said.append(f"{name} dropped")
    return ", ".join(said) or "nothing to drop"


def is_used(name: str, texts: Iterable[str]) -> bool:
    """Return whether a text names a role as a user: alone, or in an address.

    `payments_app` is neither in `payments_app.settings` nor in `payments_app_1a2b3c4d`.
    """
    pattern = re.compile(rf"(?:^|[\s/=:'\"@,;]){re.escape(name)}(?:$|[\s:@'\",;&?/])")
    return any(pattern.search(text) for text in texts)


def _open(server: Server, database: Database, names: Iterable[str]) -> dict[str, int]:
    found = logins.sessions(server, str(database.role)) if names else {}
    return {name: found[name] for name in names if found.get(name)}


def _kept_values(rollout: Rollout, declared: App) -> list[str]:
    """Return the values of all variables that are declared, or that a slot runs with."""
    releases = {rollout.id, *(slot.release for slot in slots.all_of(declared.name))}
    environments: list[Mapping[str, str]] = [*prepare.declared_environments(declared).values()]
    for release in sorted(releases):
        environments += environment.load_all(paths.release(declared.name, release)).values()
    return [value for variables in environments for value in variables.values()]


def _running_values(rollout: Rollout) -> list[str]:
    """Return the values of what runs now, a job of the release before for example."""
    return rollout.host.docker.environment_values(f"{LABEL_APP}={rollout.app.name}")
