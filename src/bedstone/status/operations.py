"""Show the last releases, rollbacks and restarts of an app, and the running one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bedstone.core import lock
from bedstone.core.reason import telling
from bedstone.ledger import releases

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from bedstone.ledger.releases import Serving


def last(connection: sqlite3.Connection, app: str, limit: int) -> list[dict[str, Any]]:
    """Return an app's last operations, the newest first."""
    return [
        {
            "id": operation.id,
            "kind": operation.kind,
            "release": operation.release,
            "previous": operation.previous,
            "state": operation.state,
            "caller": operation.caller,
            "started_at": operation.started_at,
            "finished_at": operation.finished_at,
            "failed_step": operation.failed_step,
            "error": operation.error,
            "hint": operation.hint,
            "lines": telling(operation.details or ""),
            "restore_point": operation.restore_point,
        }
        for operation in releases.operations(connection, app, limit=limit)
    ]


def serving_since(connection: sqlite3.Connection, app: str, serving: Serving | None) -> str | None:
    """Return when the release that serves took over: a restart of it doesn't count."""
    if serving is None:
        return None
    for operation in releases.operations(connection, app):
        wanted = operation.state == "succeeded" and operation.kind in {"release", "rollback"}
        if wanted and operation.release == serving.release:
            return operation.finished_at
    entry = releases.get(connection, app, serving.release)
    return entry.finished_at if entry else None


def first_served(connection: sqlite3.Connection, app: str) -> str | None:
    """Return when an app's first release served, or None."""
    moments = [
        entry.finished_at
        for entry in releases.entries(connection, app)
        if entry.state == "succeeded" and entry.finished_at
    ]
    return min(moments, default=None)


def running(app: str) -> dict[str, Any] | None:
    """Return the holder of the app's lock now, since when and at which step."""
    owner = lock.owner(app)
    if owner is None:
        return None
    return {
        "what": owner.purpose,
        "caller": owner.user,
        "process": owner.pid,
        "since": owner.since,
        "step": owner.step,
        "step_since": owner.beat,
    }


def problems(shown: Sequence[dict[str, Any]], at_it: dict[str, Any] | None) -> list[str]:
    """Return what is wrong with the newest operation, a few words."""
    if not shown:
        return []
    newest = shown[0]
    if newest["state"] == "failed":
        return [f"the last {newest['kind']} failed at {newest['failed_step']}"]
    if newest["state"] == "running" and at_it is None:
        return [f"the last {newest['kind']} was interrupted: `bedstone settle` puts it right"]
    return []
