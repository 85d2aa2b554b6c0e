"""Read the settings of the backups: /etc/bedstone/backup.json."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bedstone.core import paths
from bedstone.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA = 1
MEBIBYTE = 1024 * 1024

_MOST_JOBS = 4


@dataclass(frozen=True)
class App:
    """One app's data on this server.

    Attributes:
        app: the app's name.
        database: its database, or None for an app without one.
        owner: the role that owns the database.
        media: directory of uploaded files on this server, or None.
        copy_every_minutes: how often that goes to the destinations between the backups, or None.

    """

    app: str
    database: str | None
    owner: str | None
    media: Path | None
    copy_every_minutes: int | None = None

    @property
    def copy_every(self) -> timedelta | None:
        """How often its uploads go to the destinations between the backups, or None."""
        return timedelta(minutes=self.copy_every_minutes) if self.copy_every_minutes else None


@dataclass(frozen=True)
class Settings:
    """The settings of the backups.

    Attributes:
        directory: backups go into ``directory/APP/backup_YYYYMMDD_HHMMSS``.
        keep_days: the newest backup of each of so many days is kept.
        keep_weeks: likewise of weeks; 0 for none.
        keep_months: likewise of months; 0 for none.
        keep_at_least: the newest so many are kept whatever their age, so that
            neither a long outage nor a jumped clock empties the directory.
        reserve_bytes: what a backup or restore leaves free on a disk.
        jobs: parallel processes of a restore.
        socket: directory of PostgreSQL's socket.
        port: PostgreSQL's port (it names the socket).
        apps: the apps, in the file's order.
        dump_jobs: parallel processes of a dump.

    """

    directory: Path
    keep_days: int
    keep_weeks: int
    keep_months: int
    keep_at_least: int
    reserve_bytes: int
    jobs: int
    socket: str
    port: int
    apps: tuple[App, ...]
    dump_jobs: int = 1

    def app(self, name: str) -> App:
        """Return one app's entry.

        Raises:
            ConfigError: there is none; names the nearest one.

        """
        for entry in self.apps:
            if entry.app == name:
                return entry
        names = [entry.app for entry in self.apps]
        close = get_close_matches(name, names, n=1)
        raise ConfigError(
            f"No app {name!r} has data on this server.",
            hint=f"Did you mean {close[0]!r}?"
            if close
            else f"The apps in {path()}: {', '.join(names) or 'none'}.",
        )


def path() -> Path:
    """Return the settings' file."""
    return paths.backups_config() / "backup.json"


def load() -> Settings:
    """Return the settings of this server.

    Raises:
        ConfigError: the file is missing, is no JSON, or misses a key.

    """
    source = path()
    try:
        data = json.loads(source.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"Backups aren't set up on this server: {source} is missing.",
            hint="Run the playbook `provision.yml`, whose role `backup` writes it.",
        ) from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{source} can't be read: {error}.") from error
    try:
        return parse(data)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{source} isn't what the role `backup` writes: {error}.",
            hint="Run the playbook `provision.yml`, which writes it anew.",
        ) from error


def of_app(name: str) -> Settings | None:
    """Return the settings of this server if an app's data is on it, else None.

    Raises:
        ConfigError: the file is there and wrong.

    """
    if not path().exists():
        return None
    settings = load()
    return settings if any(entry.app == name for entry in settings.apps) else None


def default_dump_jobs(processors: int) -> int:
    """Return how many processes dump in parallel while the app serves, unless the settings say it.

    Each keeps one of the database's busy, too: one processor is left to the app. A restore may
    take them all, since visitors wait for it.
    """
    return min(max(processors - 1, 1), _MOST_JOBS)


def parse(data: Mapping[str, Any]) -> Settings:
    """Return settings from the file's parsed JSON.

    Raises:
        KeyError: a key is missing.
        ValueError: a value is out of range.

    """
    if data["schema"] != SCHEMA:
        raise ValueError(f"its schema is {data['schema']}, this program knows {SCHEMA}")
    settings = Settings(
        directory=paths.host(data["directory"]),
        keep_days=int(data["keep_days"]),
        # The file of an earlier version doesn't have them.
        keep_weeks=int(data.get("keep_weeks", 8)),
        keep_months=int(data.get("keep_months", 6)),
        keep_at_least=int(data["keep_at_least"]),
        reserve_bytes=int(data["reserve_mb"]) * MEBIBYTE,
        jobs=int(data["jobs"]) or min(os.cpu_count() or 1, _MOST_JOBS),
        socket=str(data["socket"]),
        port=int(data["port"]),
        apps=_apps(data),
        dump_jobs=int(data["jobs"]) or default_dump_jobs(os.cpu_count() or 1),
    )
    for name, value, least in (
        ("keep_days", settings.keep_days, 1),
        ("keep_weeks", settings.keep_weeks, 0),
        ("keep_months", settings.keep_months, 0),
        ("keep_at_least", settings.keep_at_least, 1),
        ("jobs", settings.jobs, 1),
    ):
        if value < least:
            raise ValueError(f"{name} is {value}, and must be at least {least}")
    return settings


def _apps(data: Mapping[str, Any]) -> tuple[App, ...]:
    # Databases and media come in two lists, since they may be on different hosts.
    databases = {str(entry["app"]): entry for entry in data["databases"]}
    media = {str(entry["app"]): str(entry["directory"]) for entry in data["media"]}
    copied = {str(entry["app"]): entry.get("copy_every_minutes") for entry in data["media"]}
    return tuple(
        App(
            app=app,
            database=str(databases[app]["name"]) if app in databases else None,
            owner=str(databases[app]["owner"]) if app in databases else None,
            media=paths.host(media[app]) if app in media else None,
            copy_every_minutes=int(minutes) if (minutes := copied.get(app)) else None,
        )
        for app in dict.fromkeys((*databases, *media))
    )
