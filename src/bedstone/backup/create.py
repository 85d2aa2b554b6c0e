"""Make a backup: ``bedstone backup``.

A backup is written under a name that says that it is incomplete, brought to the disk, read back,
and only then renamed. Whatever fails, there is either a complete backup under its name or none.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import sqlite3
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from bedstone import __version__
from bedstone.appdata.journal import recover
from bedstone.backup import catalog, manifest, media, media_snapshots, retention
from bedstone.backup import kept as kept_backups
from bedstone.backup.manifest import RESTIC
from bedstone.core import disk, files, lock, paths
from bedstone.core.errors import BedstoneError
from bedstone.ledger import backups
from bedstone.postgres import dump
from bedstone.postgres import properties as database_properties
from bedstone.postgres.server import Server
from bedstone.storage import destinations

if TYPE_CHECKING:
    from collections.abc import Callable

    from bedstone.backup.catalog import Backup
    from bedstone.backup.manifest import Manifest
    from bedstone.backup.settings import App, Settings

logger = logging.getLogger(__name__)

# The label of the backup that follows an app's first release by itself.
FIRST = "first"
_FIRST_SECONDS = 3600.0

# An estimate from the last backup may be too small by this factor.
_MARGIN = 1.25


@dataclass(frozen=True)
class Made:
    """A finished backup, and what retention removed after it."""

    backup: Backup
    removed: tuple[str, ...]


def create(
    settings: Settings,
    app: str,
    *,
    directory: Path | None = None,
    label: str | None = None,
    with_media: bool = True,
    wait_seconds: float = 0,
) -> Made:
    """Back up one app, and remove its obsolete backups.

    Args:
        settings: this server's.
        app: whose data.
        directory: the backup goes to ``directory/APP/NAME`` (default: the settings').
        label: what it is for; that of a restore point is its release's id.
        with_media: the uploaded files too; without them, it is a restore point.
        wait_seconds: how long to wait for another backup of the app to finish.

    Raises:
        RefusedError: another backup of the app is running, or there is too little disk space.
        BedstoneError: it failed; nothing of it is left, and the ledger says so.

    """
    entry = settings.app(app)
    point = not with_media
    if point:
        entry = replace(entry, media=None)
    home = (directory or settings.directory) / app
    started = datetime.now(UTC)
    purpose = f"bedstone backup {app}" + (f" --label {FIRST}" if label == FIRST else "")
    other = lock.owner(f"{app}.backup")
    if other is not None and other.purpose.endswith(f" --label {FIRST}"):
        # It started by itself: an operator's backup must not be refused because of it.
        wait_seconds = max(wait_seconds, _FIRST_SECONDS)
    with lock.held(f"{app}.backup", purpose, wait_seconds=wait_seconds):
        try:
            recover(server_of(settings), app)
            # What goes elsewhere (a disk that is taken away) holds all of itself.
            deduplicated = home.parent == settings.directory and destinations.has_key()
            backup = _create(
                settings, entry, home, label, started, point=point, deduplicated=deduplicated
            )
        except BaseException as error:
            why = cause(error)
            remember(lambda: backups.failed(app, label, started, why))
            raise
        size = backup.manifest.bytes if backup.manifest else 0
        remember(lambda: backups.succeeded(app, backup.path, label, started, size))
        return Made(backup, _prune(settings, entry, home, backup))


def server_of(settings: Settings) -> Server:
    """Return the PostgreSQL server of this host."""
    return Server(settings.socket, settings.port)


def estimate(
    last: Manifest | None, database: int, media_size: int, *, deduplicated: bool = False
) -> int:
    """Return how many bytes a backup will take.

    Args:
        last: manifest of the app's last backup, if there is one.
        database: bytes of the database on the server's disk.
        media_size: bytes of the media directory.
        deduplicated: of the media, only what is new takes space.

    """
    if deduplicated:
        kept = last.media.bytes if last and last.media and last.media.engine == RESTIC else 0
        return estimate(_without_media(last), database, 0) + max(media_size - kept, 0)
    now = database + media_size
    if last is None:
        # A dump has no indexes and is compressed: smaller than what it is made of.
        return now
    then = (last.database.bytes if last.database else 0) + (last.media.bytes if last.media else 0)
    growth = now / then if then else 1.0
    return int(last.bytes * max(growth, 1.0) * _MARGIN)


def _without_media(last: Manifest | None) -> Manifest | None:
    if last is None or last.media is None:
        return last
    archive = last.media.archive
    rest = {name: file for name, file in last.files.items() if name != archive}
    return replace(last, media=None, files=rest)


def _create(
    settings: Settings,
    entry: App,
    home: Path,
    label: str | None,
    started: datetime,
    *,
    point: bool,
    deduplicated: bool,
) -> Backup:
    paths.ensure_private(home)
    for leftover in catalog.leftovers(home):
        files.remove_tree(leftover)
    if entry.media is not None and not entry.media.is_dir():
        raise BedstoneError(
            f"The media directory {entry.media} of {entry.app} isn't there.",
            hint="Release the app once (`bedstone release`), or correct its `media` setting.",
        )
    what = f"A backup of {entry.app}"
    needed = _needed(settings, entry, home, point=point, deduplicated=deduplicated)
    disk.require(home, needed, settings.reserve_bytes, what)
    name = catalog.free_name(home, started)
    incomplete = home / f"{catalog.INCOMPLETE}{name}"
    incomplete.mkdir(mode=0o700)
    try:
        _fill(
            settings, entry, incomplete, name, label, started, point=point,
            deduplicated=deduplicated,
            watch=lambda: disk.still(home, settings.reserve_bytes, what),
        )  # fmt: skip
        incomplete.rename(home / name)
    except BaseException:
        files.remove_tree(incomplete)
        raise
    files.sync_directory(home)
    return catalog.load(home / name)


def _needed(settings: Settings, entry: App, home: Path, *, point: bool, deduplicated: bool) -> int:
    size = 0
    if entry.database:
        properties = database_properties.read(server_of(settings), entry.database)
        size = int(properties["size"]) if properties else 0
    last = catalog.newest(home, points=point)
    return estimate(
        last.manifest if last else None,
        size,
        media.tree_bytes(entry.media) if entry.media else 0,
        deduplicated=deduplicated,
    )


def _fill(
    settings: Settings,
    entry: App,
    directory: Path,
    name: str,
    label: str | None,
    started: datetime,
    *,
    point: bool,
    deduplicated: bool,
    watch: Callable[[], None],
) -> None:
    server = server_of(settings)
    database = None
    if entry.database:
        database = dump.dump(
            server,
            entry.database,
            directory / manifest.DATABASE,
            jobs=settings.dump_jobs,
            watch=watch,
        )
    archived = None
    if entry.media and deduplicated:
        archived = media_snapshots.take(entry.media, entry.app, name, watch=watch)
    elif entry.media:
        archived = media.archive(entry.media, directory, watch=watch)
    configuration = paths.app_config(entry.app)
    if configuration.exists():
        shutil.copyfile(configuration, directory / manifest.APP_SETTINGS)
        (directory / manifest.APP_SETTINGS).chmod(0o600)
    contents = _sync(directory)
    if (
        database is not None
        and dump.contents(server, directory / manifest.DATABASE) == 0
        and database.rows
    ):
        raise BedstoneError(f"The dump of {entry.database} is empty, although it has tables.")
    manifest.write(
        directory,
        manifest.Manifest(
            app=entry.app,
            name=name,
            label=label,
            host=socket.gethostname(),
            program=__version__,
            release=_release(entry.app),
            started=started,
            finished=datetime.now(UTC),
            database=database,
            media=archived,
            files={str(path.relative_to(directory)): manifest.describe(path) for path in contents},
            restore_point=point,
        ),
    )


def _sync(directory: Path) -> list[Path]:
    """Sync all files to the disk, and return them."""
    found: list[Path] = []
    for base, _, names in os.walk(directory):
        for name in sorted(names):
            path = Path(base) / name
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            found.append(path)
        files.sync_directory(Path(base))
    return found


def _prune(settings: Settings, entry: App, home: Path, made: Backup) -> tuple[str, ...]:
    known = _known(entry.app)
    if known is None:
        return ()
    doomed = retention.expired(
        catalog.backups(home),
        app=entry.app,
        now=datetime.now(UTC),
        rules=kept_backups.rules(settings),
        known=known,
        protected={made.name},
    )
    for backup in doomed:
        try:
            retention.remove(backup)
        except OSError as error:
            raise BedstoneError(
                f"The backup {made.path} is complete, but the old one {backup.name} could not be"
                f" removed: {error}.",
                hint="The disk fills up until it can be.",
            ) from error
    if doomed and home.parent == settings.directory:
        _forget_media(entry.app, home, doomed)
    return tuple(backup.name for backup in doomed)


def _forget_media(app: str, home: Path, removed: list[Backup]) -> None:
    """Remove the uploads of backups that are gone; a failure to do so is no error."""
    try:
        media_snapshots.forget(app, removed, catalog.backups(home))
    except BedstoneError as error:
        logger.warning("%s: old uploads were not forgotten: %s", app, error.text())


def _known(app: str) -> retention.Known | None:
    """Return what the ledger says of an app's backups; None if it doesn't."""
    try:
        return kept_backups.known(app)
    except (BedstoneError, sqlite3.Error) as error:
        logger.warning(
            "the ledger doesn't tell which backups are needed: %s No old backup is removed.", error
        )
        return None


def remember(record: Callable[[], None]) -> None:
    """Write to the ledger; one that can't be written is reported, and fails no backup."""
    # A damaged ledger is no reason to have no backup.
    try:
        record()
    except (BedstoneError, sqlite3.Error) as error:
        logger.warning("nothing was recorded: %s", error)


def _release(app: str) -> str | None:
    try:
        return backups.served_release(app)
    except (BedstoneError, sqlite3.Error):
        return None


def cause(error: BaseException) -> str:
    """Return why a backup failed, without a hint."""
    return error.message if isinstance(error, BedstoneError) else str(error) or repr(error)
