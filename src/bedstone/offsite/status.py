"""Show the freshness of an app's backups off the host, by the last observations there."""

from __future__ import annotations

from typing import Any

from bedstone.backup import settings
from bedstone.ledger.kinds import CONFIGURATION, SERVER
from bedstone.offsite import freshness
from bedstone.storage import destinations


def app_status(app: str) -> dict[str, Any] | None:
    """Return what is known of an app's copies, or None when there are none to make.

    The most worrying destination stands for all. What is on this server is looked at itself.
    """
    if not settings.path().exists():
        return None
    known = destinations.load()
    if not known.remote:
        return None
    items = freshness.items(settings.load(), known)
    own = [
        item
        for item in items
        if item.destination != destinations.LOCAL
        and (item.app == app or (item.app, item.kind) == (SERVER, CONFIGURATION))
    ]
    if not any(item.app == app for item in own):
        return None
    worst = min(own, key=lambda item: (item.problem is None, item.note is None, _newest(item)))
    return {
        "destination": worst.destination,
        "kind": worst.kind,
        "newest": worst.seen.newest if worst.seen else None,
        "age_seconds": worst.as_json()["age_seconds"],
        "note": worst.note,
        "problem": worst.words() if worst.problem else None,
        "ok": worst.problem is None,
        "items": [item.as_json() for item in own],
    }


def _newest(item: freshness.Item) -> str:
    return str(item.as_json()["newest_at"] or "")
