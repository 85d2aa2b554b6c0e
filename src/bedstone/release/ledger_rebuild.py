"""Rebuild an unreadable ledger from files.

The directories of the releases say what was released, the apps' files what serves, the backups'
manifests what was backed up; whatever of the old file can still be read comes along. The same, made
temporarily in a directory in memory, replaces an unreadable ledger for commands that only read.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import sqlite3
import tempfile
import threading
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bedstone.apps import slots
from bedstone.backup import catalog, settings
from bedstone.core import files, lock, paths
from bedstone.core.errors import BedstoneError
from bedstone.ledger import database, releases, salvage

RECORD = "record.json"
_stand_in_lock = threading.Lock()
_stand_in_path: list[Path] = []


def keep_record(connection: sqlite3.Connection, app: str, release: str) -> None:
    """Save with a release the facts that only the ledger has."""
    entry = releases.get(connection, app, release)
    if entry is None:
        return
    known = {key: getattr(entry, key) for key in ("version", "fingerprint", "declared", "build")}
    text = json.dumps({**known, "started_at": entry.started_at}, indent=2)
    files.write(paths.release(app, release) / RECORD, text + "\n", mode=0o600)


def rebuild() -> tuple[Path | None, list[str]]:
    """Replace an unreadable ledger by a new one.

    Returns:
        where the old file is kept, if there was one, and in words what couldn't be recovered.

    Raises:
        LockedError: a release, rollback or restart is running.
        BedstoneError: the new one can't be written.

    """
    path = paths.ledger()
    with ExitStack() as stack:
        stack.enter_context(lock.held("ledger", "bedstone ledger rebuild"))
        for app in _apps():
            stack.enter_context(lock.held(app, "bedstone ledger rebuild"))
        fresh = path.with_name(f"{path.name}.rebuilt")
        for suffix in salvage.SIDE_FILES:
            fresh.with_name(fresh.name + suffix).unlink(missing_ok=True)
        paths.ensure_private(path.parent)
        try:
            lost = _fill(fresh, path)
            kept = _put_in_place(fresh, path)
        except (OSError, sqlite3.Error) as error:
            raise BedstoneError(
                f"The new ledger can't be written: {error}.",
                hint=f"Is the disk full? `df -h {path.parent}` shows it.",
            ) from error
    return kept, lost


def stand_in(error: database.UnreadableError) -> sqlite3.Connection:
    """Connect to a ledger made for this process alone; it is gone when the process ends.

    Raises:
        UnreadableError: not even that can be made.

    """
    with _stand_in_lock:
        if not _stand_in_path:
            directory = Path(tempfile.mkdtemp(dir=paths.ensure_private(paths.runtime())))
            atexit.register(shutil.rmtree, directory, ignore_errors=True)
            try:
                _fill(directory / "ledger.sqlite", paths.ledger())
            except (OSError, sqlite3.Error):
                raise error from None
            _stand_in_path.append(directory / "ledger.sqlite")
    return database.connect_file(_stand_in_path[0])


def _fill(fresh: Path, old: Path) -> list[str]:
    """Write a new ledger from the old file and from what is kept; return what was lost."""
    with closing(database.connect_file(fresh)) as connection:
        # One transaction: a sync of the disk for each row would take minutes.
        with database.transaction(connection):
            lost = salvage.copy_readable(connection, old)
            for app in _apps():
                lost += _app(connection, app)
            _backups(connection)
        salvage.close_file(connection)
    fresh.chmod(0o600)
    return lost


def _put_in_place(fresh: Path, path: Path) -> Path | None:
    kept = None
    if path.exists():
        kept = path.with_name(f"ledger.damaged-{datetime.now(UTC):%Y%m%d_%H%M%S}.sqlite")
        for suffix in salvage.SIDE_FILES:
            with suppress(FileNotFoundError):
                os.link(path.with_name(path.name + suffix), kept.with_name(kept.name + suffix))
    # A log of changes to the old file must not be applied to the new one.
    for suffix in salvage.SIDE_FILES[1:]:
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    fresh.replace(path)
    files.sync_directory(path.parent)
    return kept


def _apps() -> list[str]:
    directory = paths.state() / "apps"
    if not directory.is_dir():
        return []
    return sorted(
        path.name
        for path in directory.iterdir()
        if path.is_dir() and not path.name.startswith(".") and (path / "releases").is_dir()
    )


def _app(connection: sqlite3.Connection, app: str) -> list[str]:
    """Enter an app's kept releases, and the one that serves; return what was lost."""
    lost = []
    for directory in sorted((paths.app_state(app) / "releases").iterdir()):
        if (directory / "made.json").exists():
            lost += _release(connection, app, directory)
    serving = slots.serving(app)
    if serving is not None and paths.release(app, serving[0]).is_dir():
        salvage.enter_serving(connection, app, *serving)
    elif slots.keys(app):
        lost.append(
            f"which release of {app} serves: its slots run several, and no file says it;"
            f" `bedstone release {app}` decides it"
        )
    return lost


def _release(connection: sqlite3.Connection, app: str, directory: Path) -> list[str]:
    try:
        made = slots.read_made(app, directory.name)
        record: dict[str, Any] = json.loads((directory / RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        record = {}
    except (BedstoneError, OSError, ValueError, TypeError) as error:
        return [f"the release {directory.name} of {app} ({error})"]
    known = releases.get(connection, app, directory.name)
    if known is not None and known.state != "running":
        return []
    time, _, version = directory.name.partition("-")
    try:
        started = datetime.strptime(time, releases.ID_TIME).replace(tzinfo=UTC).isoformat()
    except ValueError:
        return [f"the release {directory.name} of {app}: its name has no time"]
    salvage.enter_release(
        connection,
        app,
        directory.name,
        image=made.image,
        version=version,
        record=record,
        started=started,
    )
    if record.get("fingerprint"):
        return []
    made_from = f"what the release {directory.name} of {app} was made from"
    return [f"{made_from}: the next deploy.yml releases {app} again"]


def _backups(connection: sqlite3.Connection) -> None:
    """Enter the backups that lie on this server, and which of them are releases' restore points."""
    directory = paths.backups("x").parent
    with suppress(BedstoneError):
        directory = settings.load().directory
    if not directory.is_dir():
        return
    for place in sorted(path for path in directory.iterdir() if path.is_dir()):
        for backup in reversed(catalog.backups(place)):
            manifest = backup.manifest
            if manifest is None or not backup.good:
                continue
            salvage.enter_backup(
                connection,
                manifest.app,
                backup.path,
                label=manifest.label,
                started=manifest.started.isoformat(),
            )
