"""Start the releases that were restored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bedstone.apps import current, network
from bedstone.core import lock, paths
from bedstone.core.errors import BedstoneError
from bedstone.ledger import database
from bedstone.release import operations
from bedstone.release.context import Rollout
from bedstone.release.steps import prepare
from bedstone.release.steps.static import static
from bedstone.system.host import Host

if TYPE_CHECKING:
    from collections.abc import Callable


def serve(app: str, say: Callable[[str], None], host: Host | None = None) -> str:
    """Start the release of an app that the ledger says serves, and return its id.

    It gets the secrets of today, which are those of the databases' accounts by now. Its static
    files are collected again from its image: they are no data, and not copied.

    Args:
        app: which.
        say: called with the text of what is done.
        host: the server.

    Raises:
        BedstoneError: it doesn't start; its last lines are in the details.

    """
    host = host or Host()
    found = current.load(app)
    with (
        lock.held(app, f"bedstone rebuild --serve {app}", wait_seconds=60),
        database.opened() as connection,
    ):
        rollout = Rollout(found.app, found.release, 0, None, host, connection)
        say(f"{app}: {prepare.revive(rollout)}")
        network.ensure(host.docker, found.app)
        # Of a call that was killed they may be there already.
        if found.made.static is not None and not paths.host(found.made.static).is_dir():
            say(f"{app}: static files: {static(rollout)}")
    outcome = operations.put_right(app, host=host)
    if not outcome.ok:
        raise BedstoneError(
            f"{app}: the release {found.release} doesn't start: {outcome.error}",
            hint=f"`bedstone logs {app}` says why; `bedstone release {app}` releases it anew from"
            " its source.",
            details=outcome.details,
        )
    say(f"{app}: {found.release} serves")
    return found.release
