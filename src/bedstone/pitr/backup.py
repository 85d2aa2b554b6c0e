"""Make an ordinary backup of an app's database as of an earlier moment."""

from __future__ import annotations

import os
import shutil
import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bedstone import __version__
from bedstone.backup import catalog, manifest
from bedstone.core import disk, files, paths
from bedstone.core.errors import RefusedError
from bedstone.postgres import dump, queries

if TYPE_CHECKING:
    from pathlib import Path

    from bedstone.backup.settings import App, Settings
    from bedstone.pitr.cluster import Past


def make(settings: Settings, app: App, home: Path, past: Past, target: datetime) -> Path:
    """Dump an app's database out of a cluster of the past, and return the backup.

    It counts as a restore point: it is never `latest`, and goes in its time.

    Args:
        settings: this server's.
        app: whose database.
        home: where the app's backups are.
        past: the cluster.
        target: the moment that was asked for.

    Raises:
        RefusedError: the app had no database then, or there is too little disk space.
        BedstoneError: it failed; nothing of it is left.

    """
    assert app.database is not None
    size = queries.database_size(past.server, app.database)
    if size is None:
        raise RefusedError(
            f"There was no database {app.database} of {app.app} at that moment.",
            hint="Take a later one.",
        )
    paths.ensure_private(home)
    what = f"The backup of {app.app} of then"
    # As in a first backup: it is smaller than that, by an unknown factor.
    disk.require(home, size, settings.reserve_bytes, what)
    name = catalog.free_name(home, datetime.now(UTC))
    incomplete = home / f"{catalog.INCOMPLETE}{name}"
    incomplete.mkdir(mode=0o700)
    try:
        database = dump.dump(
            past.server,
            app.database,
            incomplete / manifest.DATABASE,
            jobs=settings.dump_jobs,
            watch=lambda: disk.still(home, settings.reserve_bytes, what),
        )
        _complete(app, incomplete, name, target, database)
        incomplete.rename(home / name)
    except BaseException:
        files.remove_tree(incomplete)
        raise
    files.sync_directory(home)
    return home / name


def _complete(
    app: App, directory: Path, name: str, target: datetime, database: dump.Database
) -> None:
    now = datetime.now(UTC)
    configuration = paths.app_config(app.app)
    if configuration.exists():
        shutil.copyfile(configuration, directory / manifest.APP_SETTINGS)
        (directory / manifest.APP_SETTINGS).chmod(0o600)
    contents = sorted(path for path in directory.rglob("*") if path.is_file())
    os.sync()
    manifest.write(
        directory,
        manifest.Manifest(
            app=app.app,
            name=name,
            label=f"as of {target.astimezone(UTC).isoformat(sep=' ')}",
            host=socket.gethostname(),
            program=__version__,
            release=None,
            started=now,
            finished=now,
            database=database,
            media=None,
            files={str(path.relative_to(directory)): manifest.describe(path) for path in contents},
            restore_point=True,
        ),
    )
