"""Record a restore before it begins, so that the next run can finish or undo it.

The renaming of the database is the point of no return. A restore that was killed before it is
undone: the prepared database is removed, and the old data has served all the time. One that was
killed after it is finished.

"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bedstone.apps import config, maintenance, services
from bedstone.core import files, paths
from bedstone.core import journal as journal_file
from bedstone.core.errors import BedstoneError
from bedstone.postgres import queries
from bedstone.postgres.server import Server

logger = logging.getLogger(__name__)

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@dataclass(frozen=True)
class Database:
    """The database's part: ``side`` (with the identity ``oid``) becomes ``name``."""

    name: str
    side: str
    old: str
    oid: int | None = None


@dataclass(frozen=True)
class Media:
    """The media's part: directory ``side`` (with the number ``inode``) becomes ``path``."""

    path: str
    side: str
    old: str
    inode: int | None = None


@dataclass(frozen=True)
class Journal:
    """One restore: of which app, from which backup, what goes where.

    ``page``: visitors see the maintenance page during the restore; it is removed with the journal.
    """

    app: str
    backup: str
    database: Database | None
    media: Media | None
    page: bool = False

    def save(self) -> None:
        """Write it to the disk."""
        journal_file.save(_path(self.app), self)

    def clear(self) -> None:
        """Remove it: the restore is finished, or undone."""
        journal_file.clear(_path(self.app))

    def with_oid(self, oid: int | None) -> Journal:
        """Return the journal with the side database's identity."""
        assert self.database is not None
        return replace(self, database=replace(self.database, oid=oid))

    def with_inode(self, inode: int) -> Journal:
        """Return the journal with the side directory's number."""
        assert self.media is not None
        return replace(self, media=replace(self.media, inode=inode))

    def in_place(self) -> Journal:
        """Return what is left of it when the data is in place: the page, which is still shown."""
        return replace(self, database=None, media=None)


def load(app: str) -> Journal | None:
    """Return the journal of a restore that is under way or was killed, or None.

    Raises:
        BedstoneError: the file isn't what was written.

    """
    return journal_file.load(
        _path(app),
        _made,
        of="an interrupted restore",
        hint="See which databases there are (`runuser -u postgres -- psql -l`) and remove it.",
    )


def _made(document: dict[str, Any]) -> Journal:
    database, media = document["database"], document["media"]
    return Journal(
        app=document["app"],
        backup=document["backup"],
        database=Database(**database) if database else None,
        media=Media(**media) if media else None,
        page=bool(document.get("page")),
    )


def recover(server: Server, app: str) -> None:
    """Finish or undo a restore of an app that was killed.

    The caller holds the lock of the app's data.

    Raises:
        BedstoneError: it could not be done.

    """
    journal = load(app)
    if journal is None:
        return
    if journal.database is None and journal.media is None:
        # All is in place; the app may still hold on to what was there before.
        logger.info("%s: ending the restore of %s.", app, journal.backup)
        end(journal)
        return
    if passed(server, journal):
        logger.info("%s: finishing the interrupted restore of %s.", app, journal.backup)
        finish(journal)
        journal.in_place().save()
        if journal.database is not None and server.oid(journal.database.old) is not None:
            logger.info("%s: the former database is %s.", app, journal.database.old)
        if journal.media is not None and Path(journal.media.old).exists():
            logger.info("%s: the former media are %s.", app, journal.media.old)
        end(journal)
        return
    logger.info("%s: undoing the interrupted restore of %s.", app, journal.backup)
    undo(server, journal)


def end(journal: Journal, *, restart: bool = True) -> tuple[str, ...]:
    """Restart the app's services on the restored data, and remove the maintenance page.

    Whatever happens, the page and the journal go: an app that doesn't start must not keep the next
    backup from running, and is to be seen.
    """
    try:
        return services.restart(journal.app) if restart else ()
    finally:
        hide(journal)
        journal.clear()


def passed(server: Server, journal: Journal) -> bool:
    """Return whether the point of no return has been passed."""
    if journal.database is not None:
        oid = journal.database.oid
        return oid is not None and server.oid(journal.database.name) == oid
    return journal.media is not None and _media_swapped(journal.media)


def finish(journal: Journal) -> None:
    """Finish a restore after the point of no return: swap the media directory."""
    media = journal.media
    if media is None:
        return
    path, side, old = Path(media.path), Path(media.side), Path(media.old)
    if not _media_swapped(media):
        _swap_directory(path, side, old)
    elif side.exists():
        # Exchanged, but not yet given its last name.
        side.rename(old)


def undo(server: Server, journal: Journal) -> None:
    """Remove the prepared database and media, and the journal."""
    if journal.database is not None:
        queries.drop_database(server, journal.database.side)
    if journal.media is not None:
        side = Path(journal.media.side)
        files.remove_tree(side)
        # Where it was unpacked before it got its name.
        for left in side.parent.glob(f".{side.name}-*"):
            files.remove_tree(left)
    hide(journal)
    journal.clear()


def _media_swapped(media: Media) -> bool:
    path = Path(media.path)
    return media.inode is not None and path.exists() and path.stat().st_ino == media.inode


def _path(app: str) -> Path:
    return paths.app_state(app) / "restore.json"


MESSAGE = (
    "The data of this service is being restored from a backup. It will be back soon.\n\n"
    "Please don't enter anything again before you have seen what is there."
)


def wanted(app: str) -> bool:
    """Return whether a restore should show the page: visitors come, and don't see one already."""
    if maintenance.is_on(app):
        return False
    if not (paths.host("/etc/nginx/bedstone/sites") / f"{app}.conf").is_file():
        return False
    try:
        config.load(app)
    except BedstoneError:
        return False
    return True


def show(journal: Journal) -> None:
    """Show the page, if the journal says that it is the restore's."""
    if journal.page:
        maintenance.turn_on(journal.app, maintenance.page(MESSAGE))


def hide(journal: Journal) -> None:
    """Remove the maintenance page, if it is the restore's."""
    if journal.page:
        maintenance.turn_off(journal.app)


def _swap_directory(path: Path, side: Path, old: Path) -> None:
    """Replace the directory ``path`` by ``side``, and keep it as ``old``."""
    if not path.exists():
        side.rename(path)
    else:
        _exchange(path, side)
        side.rename(old)
    files.sync_directory(path.parent)


def _exchange(one: Path, other: Path) -> None:
    """Exchange two directories atomically (renameat2(2))."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.renameat2(
        _AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE
    ):
        number = ctypes.get_errno()
        if number not in {errno.EINVAL, errno.ENOSYS}:
            raise OSError(number, os.strerror(number), str(one))
        # A file system without it: a moment with nothing in place can't be avoided.
        spare = one.with_name(f".exchange_{one.name}")
        one.rename(spare)
        other.rename(one)
        spare.rename(other)
