"""Finish or undo a restore that was killed."""

from __future__ import annotations

from contextlib import suppress

from bedstone.appdata.journal import load, recover
from bedstone.backup import settings as backup_settings
from bedstone.core import lock
from bedstone.postgres.server import Server


def settle(app: str) -> None:
    """Finish or undo an app's restore that was killed, unless another operation uses its data.

    Raises:
        BedstoneError: it could not be done.

    """
    if load(app) is None:
        return
    settings = backup_settings.load()
    with suppress(lock.LockedError), lock.held(f"{app}.backup", f"bedstone settle {app}"):
        recover(Server(settings.socket, settings.port), app)
