"""Let the releases that were brought back serve."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bedstone import current, ledger, lock, network, paths, perform
from bedstone.errors import BedstoneError
from bedstone.rollout.context import Host, Rollout
from bedstone.rollout.static import static

if TYPE_CHECKING:
    from collections.abc import Callable


def serve(app: str, say: Callable[[str], None], host: Host | None = None) -> str:
    """Start the release of an app that the ledger says serves, and return its id.

    Its static files are collected anew from its image: they are no data, and not copied.

    Args:
        app: which.
        say: told what is done.
        host: the server.

    Raises:
        BedstoneError: it doesn't start; its last lines are in the details.

    """
    host = host or Host()
    found = current.load(app)
    with lock.held(app, f"bedstone rebuild --serve {app}", wait_seconds=60):
        _collect_static(found, host, say)
    outcome = perform.put_right(app, host=host)
    if not outcome.ok:
        raise BedstoneError(
            f"{app}: the release {found.release} doesn't start: {outcome.error}",
            hint=f"`bedstone logs {app}` says why; `bedstone release {app}` releases it anew from"
            " its source.",
            details=outcome.details,
        )
    say(f"{app}: {found.release} serves")
    return found.release


def _collect_static(found: current.Current, host: Host, say: Callable[[str], None]) -> None:
    app, made = found.app, found.made
    if app.static is None or made.static is None or paths.host(made.static).is_dir():
        return
    with ledger.opened() as connection:
        network.ensure(host.docker, connection, app)
        rollout = Rollout(
            app, found.release, 0, None, host, connection,
            image=made.image, uid=made.uid, gid=made.gid,
        )  # fmt: skip
        say(f"{app.name}: static files: {static(rollout)}")
