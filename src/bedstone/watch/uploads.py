"""Check that the uploads of each app are in this server's backups.

Backups run where PostgreSQL does: they hold no uploads of an app whose database is on another
server, which can be so from the start or since a copy of the databases was promoted.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bedstone.apps import config
from bedstone.backup import settings
from bedstone.core import paths
from bedstone.core.errors import ConfigError
from bedstone.notify.alarms import Alarm

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime
    from pathlib import Path


@dataclass(frozen=True)
class Uploads:
    """The uploads of an app that are meant to be backed up."""

    app: str
    directory: Path
    in_backups: bool


def gather() -> list[Uploads]:
    """Return the uploads on this server, without those that are meant to be in no backup."""
    found = []
    for app in config.declared():
        media = None
        # A damaged file is reported by the app's next operation.
        with suppress(ConfigError):
            media = config.load(app).media
        if media is not None and media.backup:
            found.append(Uploads(app, paths.served(app) / "media", _in_backups(app)))
    return found


def _in_backups(app: str) -> bool:
    held = settings.of_app(app)
    return held is not None and held.app(app).media is not None


def judge(found: Iterable[Uploads], _now: datetime) -> Iterator[Alarm]:
    """Yield an alarm for uploads that no backup holds."""
    for each in found:
        if not each.in_backups:
            yield Alarm(
                f"uploads/{each.app}",
                "red",
                f"no backup holds the uploads of {each.app} ({each.directory}): this server makes"
                " none of them, since it isn't in the group `postgresql`",
                f"copy {each.directory} to another server by your own means and declare"
                " `backup: false` in its `media`, or run app and database on one server"
                " (docs/replica.md, Backups)",
                each.app,
            )
