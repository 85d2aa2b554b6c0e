"""Run the pre-flight checks of a restore."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bedstone.backup import catalog, manifest, media_snapshots
from bedstone.backup.create import server_of
from bedstone.core import disk
from bedstone.core.errors import BedstoneError, RefusedError
from bedstone.postgres import dump, queries, restore_role

if TYPE_CHECKING:
    from bedstone.backup.catalog import Backup
    from bedstone.backup.manifest import Manifest, Media
    from bedstone.backup.settings import App, Settings
    from bedstone.postgres.server import Server

# As in bedstone.release.steps.logins.
_LOGIN = re.compile(r"_[0-9a-f]{8}$")
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")


@dataclass(frozen=True)
class Plan:
    """A restore that passed the checks.

    Attributes:
        app: whose data.
        backup: what is restored.
        manifest: its manifest.
        database: the app's database, when one is restored, or None.
        owner: the role that is to own it.
        into: name of a new database next to the app's, or None to replace the app's.
        media: the directory to replace, or None.
        foreign: the backup is another app's.
        replaces: whether a database of this name is there now.

    """

    app: App
    backup: Backup
    manifest: Manifest
    database: str | None
    owner: str | None
    into: str | None
    media: Path | None
    foreign: bool
    replaces: bool

    def describe(self) -> str:
        """Return what is about to happen, for the operator's confirmation."""
        found = self.manifest
        lines = [
            f"Backup   {self.backup.path}",
            f"         of {found.app} on {found.host}, {found.started:%Y-%m-%d %H:%M:%S} UTC,"
            f" {disk.human(found.bytes)}" + (f", label {found.label}" if found.label else ""),
        ]
        if self.database is not None and found.database is not None:
            rows = sum(found.database.rows.values())
            what = f"{len(found.database.rows)} tables, {rows} rows"
            if self.into:
                lines.append(f"Database {self.into} is made beside ({what}).")
            elif self.replaces:
                lines.append(
                    f"Database {self.database} is REPLACED ({what}); everything written since then"
                    " is only in the old one, which is kept under another name."
                )
            else:
                lines.append(f"Database {self.database} is made ({what}).")
        if self.media is not None and found.media is not None:
            lines.append(f"Media    {self.media} is REPLACED ({found.media.files} files).")
        return "\n".join(lines)


def check(
    settings: Settings,
    app: App,
    path: Path,
    *,
    into: str | None = None,
    with_media: bool | None = None,
    uploads: Media | None = None,
    from_other_app: bool = False,
    as_superuser: bool = False,
) -> Plan:
    """Return the plan of a restore after its pre-flight checks.

    Args:
        settings: this server's.
        app: whose data is to be replaced.
        path: the backup's directory.
        into: name of a new database next to the app's.
        with_media: True to insist on the media, False to leave them alone, None for "if the backup
            and the app have them, and ``into`` is not given".
        uploads: those that fit the backup, which has none of its own.
        from_other_app: accept another app's backup.
        as_superuser: objects of other apps' roles are no reason to refuse.

    Raises:
        RefusedError: says why not; nothing has been touched.

    """
    backup = catalog.load(path)
    if backup.manifest is None:
        raise RefusedError(backup.problem or f"{path} isn't a backup.")
    found = backup.manifest
    foreign = found.app != app.app
    if foreign and not from_other_app:
        raise RefusedError(
            f"{path.name} is a backup of {found.app}, not of {app.app}.",
            hint="If you mean it, add --from-other-app.",
        )
    damages = list(manifest.damages(path, found, contents=True))
    if damages:
        raise RefusedError(
            f"{path} is damaged; it can't be trusted and isn't restored.",
            hint="Take another one: `bedstone backups --check` tells which are whole.",
            details="\n".join(damages[:20]),
        )
    if uploads is not None:
        found = replace(found, media=uploads)
    directory = _media(settings, app, path, found, into=into, wanted=with_media)
    database = _database(settings, app, backup, into=into, foreign=foreign)
    if database is not None:
        _room(settings, found)
    if database is not None and not foreign and not as_superuser:
        server = server_of(settings)
        lines = dump.listing(server, path / manifest.DATABASE).splitlines()
        restore_role.refuse_strangers(server, str(app.owner), lines)
    if database is None and directory is None:
        raise RefusedError(f"{path.name} holds nothing that could be restored for {app.app}.")
    replaces = database is not None and server_of(settings).oid(database) is not None
    return Plan(
        app=app,
        backup=backup,
        manifest=found,
        database=database,
        owner=app.owner if database else None,
        into=into,
        media=directory,
        foreign=foreign,
        replaces=replaces,
    )


def _media(
    settings: Settings,
    app: App,
    path: Path,
    found: Manifest,
    *,
    into: str | None,
    wanted: bool | None,
) -> Path | None:
    if wanted is False or (wanted is None and into is not None):
        return None
    if found.media is None or app.media is None:
        if wanted:
            raise RefusedError(
                "--media asks for uploaded files, but "
                + ("the backup holds none." if found.media is None else f"{app.app} has none.")
            )
        return None
    if into is not None:
        raise RefusedError("--into restores a database beside; media can't be restored beside.")
    if app.media.is_mount():
        raise RefusedError(
            f"{app.media} is a file system of its own, which can't be exchanged in one go.",
            hint="Restore the database with --no-media, and unpack the media by hand.",
        )
    if found.media.engine == manifest.RESTIC:
        # Is it still somewhere? Before anything is touched.
        media_snapshots.find(found.media, path)
    disk.require(
        app.media.parent, found.media.bytes, settings.reserve_bytes, "The media of the backup"
    )
    return app.media


def _database(
    settings: Settings, app: App, backup: Backup, *, into: str | None, foreign: bool
) -> str | None:
    found = backup.manifest.database if backup.manifest else None
    if found is None or app.database is None:
        if into is not None:
            raise RefusedError(f"{backup.name} holds no database that could be restored beside.")
        return None
    server = server_of(settings)
    major = server.major()
    if found.server_major > major:
        raise RefusedError(
            f"{backup.name} comes from PostgreSQL {found.server_major}, and this server has"
            f" {major}: a dump goes to the same or a newer version only.",
            hint=f"Install PostgreSQL {found.server_major} (`postgresql_version` in the settings).",
        )
    try:
        if dump.contents(server, backup.path / manifest.DATABASE) == 0 and found.rows:
            raise RefusedError(f"The dump in {backup.name} is empty.")
    except BedstoneError as error:
        raise RefusedError(
            f"pg_restore can't read the dump in {backup.name}.", details=error.details
        ) from error
    _roles(server, app, found, foreign=foreign)
    _extensions(server, found)
    if into is not None:
        _side_name(server, app, into)
    if foreign and server.oid(app.database) is None:
        raise RefusedError(
            f"{app.app} has no database yet, whose privileges another app's data could get.",
            hint="Run the playbook `provision.yml` first, which makes it.",
        )
    return app.database


def _room(settings: Settings, found: Manifest) -> None:
    assert found.database is not None
    disk.require(
        queries.data_directory(server_of(settings)),
        queries.restored_bytes(found.database.bytes),
        settings.reserve_bytes,
        "The restored database",
    )


def _roles(server: Server, app: App, found: dump.Database, *, foreign: bool) -> None:
    present = server.roles()
    needed = {str(app.owner)} | (set() if foreign else set(found.roles))
    # A login with an earlier password owns nothing that lasts, and a release drops it.
    gone = {name for name in needed - present if _LOGIN.sub("", name) in present}
    if missing := sorted(needed - present - gone):
        raise RefusedError(
            f"The backup names roles that this server doesn't have: {', '.join(missing)}.",
            hint="Run the playbook `provision.yml`, which makes the app's roles; make others by"
            " hand (CREATE ROLE ... NOLOGIN).",
        )


def _extensions(server: Server, found: dump.Database) -> None:
    available = queries.available_extensions(server)
    if missing := sorted(set(found.extensions) - available):
        raise RefusedError(
            f"The backup needs extensions that this server doesn't have: {', '.join(missing)}.",
            hint="Install their packages (postgresql-VERSION-NAME), then restore.",
        )


def _side_name(server: Server, app: App, into: str) -> None:
    if not _NAME.fullmatch(into):
        raise RefusedError(
            f"{into!r} can't be a database's name here: small letters, digits and underscores,"
            " a letter first, at most 63.",
        )
    if server.oid(into) is not None:
        raise RefusedError(
            f"There is a database {into} already, and --into makes a new one.",
            hint=f"Another name, or without --into to replace the database of {app.app}.",
        )
