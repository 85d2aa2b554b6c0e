"""Restore what isn't in the databases: the ledger, the kept releases, the images, the uploads."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bedstone.apps import slots
from bedstone.backup import manifest, media
from bedstone.core import files, names, paths
from bedstone.core.errors import BedstoneError, RefusedError
from bedstone.ledger import database, releases
from bedstone.ledger.kinds import CONFIGURATION, DUMP, MEDIA, SERVER, UPLOADS
from bedstone.offsite import copies
from bedstone.offsite import uploads as fitting
from bedstone.storage.restic import Repository
from bedstone.system.docker import Docker

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from bedstone.backup.settings import Settings
    from bedstone.storage.destinations import Destination
    from bedstone.storage.restic import Snapshot


def place() -> Path:
    """Return the directory into which things are fetched."""
    return paths.host("/var/cache/bedstone-rebuild")


def configuration(
    destination: Destination, say: Callable[[str], None], docker: Docker | None = None
) -> dict[str, Any]:
    """Restore the ledger, the kept releases, and the image of each release that served.

    May be done again: what is there is replaced by the same.

    Returns:
        ``releases``: app -> release that is ready to serve; ``configured``: when all this was
        copied; ``warnings``.

    Raises:
        BedstoneError: it can't be fetched, or a newer program wrote it.

    """
    there = copies.of_kind(copies.snapshots_of(Repository(destination)), SERVER, CONFIGURATION)
    if not there:
        warning = (
            f"No configuration is at {destination.name}: the apps are released anew from their"
            " sources, and the history of releases is gone."
        )
        return {"releases": {}, "warnings": [warning]}
    docker = docker or Docker()
    try:
        directory = copies.fetch(destination, SERVER, copies.LATEST, place(), kind=CONFIGURATION)
        contents = json.loads((directory / "contents.json").read_text(encoding="utf-8"))
        _bring_releases(directory / "state" / "apps")
        _bring_ledger(directory / "ledger.sqlite")
        say(f"brought back the ledger and the kept releases, as of {there[-1].time:%Y-%m-%d %H:%M}")
        ready, warnings = {}, []
        for app, entry in contents["apps"].items():
            problem = _bring_image(destination, docker, app, entry)
            if problem is None:
                ready[app] = str(entry["release"])
                say(f"{app}: brought back the image of {entry['release']}")
            else:
                warnings.append(f"{app}: {problem} It is released anew from its source.")
                _forget_serving(app)
    finally:
        files.remove_tree(place())
    return {"releases": ready, "configured": there[-1].time.isoformat(), "warnings": warnings}


def uploads(
    settings: Settings,
    destination: Destination,
    say: Callable[[str], None],
    target: datetime | None = None,
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Restore the uploads of each app: the state that fits the databases.

    What can't be fetched of it is taken from the last backup, with a warning.

    Args:
        settings: this server's.
        destination: where from.
        say: called with the text of each step.
        target: the moment of the databases; None for all that was archived.

    Returns:
        app -> ``files``, ``backup`` (the name of the backup or copy) and ``started`` (when that was
        begun); the warnings.

    Raises:
        BedstoneError: they can't be fetched.

    """
    found: dict[str, dict[str, Any]] = {}
    warnings = []
    for app in settings.apps:
        if app.media is None:
            continue
        # On the file system on which they will be.
        side = app.media.with_name(f".{app.media.name}.rebuild")
        files.remove_tree(side)
        try:
            chosen, problem = _choose(destination, app.app, target, side)
            if problem is not None:
                warnings.append(problem)
            if chosen is None:
                say(f"{app.app}: no backup of its uploads is there")
                continue
            files.remove_tree(app.media)
            chosen.brought.rename(app.media)
        finally:
            files.remove_tree(side)
        number = media.count(app.media)
        found[app.app] = {
            "files": number,
            "backup": chosen.name,
            "started": chosen.started.isoformat(),
        }
        say(f"{app.app}: brought back {number} uploaded files of {chosen.started:%Y-%m-%d %H:%M}")
    return found, warnings


@dataclass(frozen=True)
class _Chosen:
    """Uploads that were fetched: of which backup or copy, and where they are."""

    name: str
    started: datetime
    brought: Path


def _choose(
    destination: Destination, app: str, target: datetime | None, side: Path
) -> tuple[_Chosen | None, str | None]:
    """Fetch the uploads that fit, else those of the last backup; return them and a warning."""
    there = copies.snapshots_of(Repository(destination))
    full = [remote for remote in copies.whole(there, app) if remote.full]
    state = fitting.fitting(there, app, target)
    last = full[0] if full else None
    warning = None
    if state is not None and (last is None or _is_better(state, last, target)):
        name = state.tags.get("backup", "")
        try:
            brought = copies.fetch(destination, app, name, side, kind=UPLOADS)
            return _Chosen(name, state.time, brought), None
        except BedstoneError as error:
            if last is None:
                raise
            warning = (
                f"{app}: its uploads of {state.time:%Y-%m-%d %H:%M:%S} UTC can't be fetched"
                f" ({error.message}); those of {last.name} took their place."
            )
    if last is None:
        return None, None
    found = _fetch_uploads(destination, last, side)
    return _Chosen(last.name, last.started, found) if found else None, warning


def _is_better(state: Snapshot, last: copies.Remote, target: datetime | None) -> bool:
    """Return whether a state fits better than the uploads of the last backup."""
    if MEDIA in last.kinds:
        return state != last.snapshots[MEDIA]
    # That has its uploads in its directory, so it is no state.
    return target is not None or state.time > last.started


def _fetch_uploads(destination: Destination, remote: copies.Remote, side: Path) -> Path | None:
    if MEDIA in remote.kinds:
        return copies.fetch(destination, remote.app, remote.name, side, kind=MEDIA)
    backup = copies.fetch(destination, remote.app, remote.name, side, kind=DUMP)
    recorded = manifest.read(backup).media
    if recorded is None:
        return None
    media.unpack(recorded, backup, side / MEDIA, watch=lambda: None)
    return side / MEDIA


def _bring_releases(source: Path) -> None:
    if not source.is_dir():
        return
    target = paths.ensure_private(paths.state() / "apps")
    for app in sorted(source.iterdir()):
        side = target / f".{app.name}.rebuild"
        files.remove_tree(side)
        shutil.copytree(app, side, symlinks=True)
        # No slot runs here yet; whatever serves gets its own.
        files.remove_tree(side / "slots")
        files.remove_tree(target / app.name)
        side.rename(target / app.name)


def _bring_ledger(source: Path) -> None:
    """Replace this server's ledger by that of the server that is gone, all or nothing."""
    try:
        with closing(sqlite3.connect(source)) as brought:
            version = database.schema_version(brought)
            if version > len(database.MIGRATIONS):
                raise RefusedError(
                    "The ledger at the destination was written by a newer bedstone.",
                    hint="Rebuild with the version of the project that ran the server last.",
                )
            with closing(database.connect()) as own:
                brought.backup(own)
    except sqlite3.Error as error:
        raise BedstoneError(f"The ledger can't be brought back: {error}.") from error
    # Its schema may be an older one.
    database.connect().close()


def _bring_image(
    destination: Destination, docker: Docker, app: str, entry: dict[str, Any]
) -> str | None:
    """Load the image of a release that served; return what is wrong, or None."""
    release = str(entry["release"])
    try:
        archive = copies.fetch(destination, app, release, place(), kind=copies.IMAGE)
    except RefusedError as error:
        return error.message
    docker.load_all(archive)
    archive.unlink()
    for service, wanted in {"": entry["image"], **(entry.get("services") or {})}.items():
        loaded = docker.image(names.image(app, release, service))
        if loaded is None or loaded.id != wanted:
            return f"The image of {release} has another id here than it had."
    return None


def _forget_serving(app: str) -> None:
    with database.opened() as connection, database.transaction(connection):
        releases.forget_serving(connection, app)
    slots.forget_serving(app)
