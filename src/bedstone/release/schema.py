"""Record the schema that a release serves with, and read the present one."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from bedstone import migrations
from bedstone.backup import settings as backup_settings
from bedstone.backup.create import server_of
from bedstone.core import files, paths
from bedstone.core.errors import BedstoneError
from bedstone.postgres import queries, schema_digest
from bedstone.release import commands, one_start

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bedstone.apps.config import App
    from bedstone.migrations import Probe, Report
    from bedstone.release.commands import Image
    from bedstone.system.host import Host

PROBE_SECONDS = 300.0
_FILE = "schema.json"


@dataclass(frozen=True)
class Record:
    """The schema that a release began to serve with.

    Attributes:
        applied: migrations that were applied, or None when no tool says.
        breaking: those of them that this release applied and that the release before it
            is incompatible with.
        unknown: those of them that it doesn't know: squashed long ago, or a newer release's.
        digest: of the whole schema, or None when the database is on another host.

    """

    applied: tuple[str, ...] | None
    breaking: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    digest: str | None = None


def write(app: str, release: str, record: Record) -> None:
    """Save a record with a release."""
    text = json.dumps(asdict(record), indent=2)
    files.write(paths.release(app, release) / _FILE, text + "\n", mode=0o600)


def read(app: str, release: str) -> Record | None:
    """Return the record kept with a release, or None when there is none."""
    path = paths.release(app, release) / _FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    applied = data["applied"]
    return Record(
        None if applied is None else tuple(applied),
        tuple(data["breaking"]),
        tuple(data["unknown"]),
        data["digest"],
    )


def ask(
    host: Host,
    image: Image,
    *,
    keep: Sequence[str] | None = None,
    on_line: Callable[[str], None] | None = None,
) -> Report | None:
    """Ask the app's migration tool, in an image, what is applied and what is pending.

    Args:
        host: the server.
        image: the image whose migrations are asked for, with the migrations' environment.
        keep: migrations; the report then says how to come back to exactly them.
        on_line: called with every line that is printed.

    Returns:
        None when the app has no migrations, or no tool that could be asked.

    Raises:
        BedstoneError: the tool failed, or can't reach the database.

    """
    probe = migrations.probe(image.app, keep=keep)
    if probe is None:
        return None
    with one_start.script(image.app.name, probe.script) as path:
        done = commands.run(
            host,
            image,
            probe.command,
            "plan",
            PROBE_SECONDS,
            on_line=on_line,
            variables=probe.variables,
            mounts=[(str(path), migrations.PATH)],
        )
    return migrations.parse(done.stdout)


def ask_after_check(
    host: Host,
    image: Image,
    probe: Probe,
    check_seconds: float,
    *,
    on_line: Callable[[str], None] | None = None,
) -> Report | None:
    """Run the app's check, and ask for the migrations in the same start of the app.

    Args:
        host: the server.
        image: the image, with the migrations' environment.
        probe: of :func:`bedstone.migrations.probe_after_check`.
        check_seconds: how long the check may take.
        on_line: called with every line that is printed.

    Returns:
        None when the check succeeded and the question failed: asked by itself it says why.

    Raises:
        BedstoneError: the check failed.

    """
    declared = image.app.commands.check[0]
    seconds = check_seconds + PROBE_SECONDS
    output = one_start.run(host, image, probe, "check", seconds, declared=declared, on_line=on_line)
    with suppress(BedstoneError):
        return migrations.parse(output or "")
    return None


def drop_invalid_indexes(
    app: App, names: Sequence[str], on_line: Callable[[str], None] | None = None
) -> None:
    """Drop the invalid indexes that stopped builds of pending migrations left behind.

    Args:
        app: whose database it is.
        names: of the indexes that the pending migrations build CONCURRENTLY.
        on_line: called with the text of each that is dropped.

    Raises:
        PostgresError: such an index is in use for longer than the lock timeout.

    """
    settings = backup_settings.of_app(app.name)
    if not names or app.database is None or settings is None:
        return
    for index in queries.drop_invalid_indexes(server_of(settings), app.database.name, names):
        if on_line is not None:
            on_line(f"Dropped the invalid index {index}, which a stopped migration left.")


def digest(app: App) -> str | None:
    """Return a digest of the app's whole schema, or None when it can't be had.

    Its database may be on another host, or a table locked for long; neither is a reason to
    fail, since all that is done with the digest can be done by asking the migration tool.
    """
    if app.database is None or not app.commands.migrate:
        return None
    settings = backup_settings.of_app(app.name)
    if settings is None:
        return None
    try:
        return schema_digest.of_database(server_of(settings), app.database.name)
    except BedstoneError:
        return None
