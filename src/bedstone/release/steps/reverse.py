"""Undo migrations that an older release lacks, with the image that has them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from bedstone.core import files, paths
from bedstone.core.errors import BedstoneError
from bedstone.release import commands

if TYPE_CHECKING:
    from bedstone.apps.current import Current
    from bedstone.release.commands import Image
    from bedstone.release.context import Rollout


def image_of(current: Current) -> Image:
    """Return the image of a release that serves, for its migrations."""
    return commands.Image(
        current.app, current.release, current.made, "migrate.env", present_secrets=True
    )


def reverse_first(rollout: Rollout) -> str:
    """Undo migrations that the older release is incompatible with, before it starts."""
    wanted = rollout.schema
    # A rollback that was killed recorded it; this one decides again.
    clear_pending(rollout.app.name, rollout.id)
    if not wanted.reversal:
        return "nothing to undo"
    if not wanted.reverse_first:
        # If it is killed after the moment of record, the next operation reads here what is left to
        # do.
        later = Pending(_newer(rollout).release, wanted.reversal)
        write_pending(rollout.app.name, rollout.id, later)
        return "after the switch: the older release lives with the newer schema"
    newer = _newer(rollout)
    # Until the older one serves, the newer one does, and needs its schema.
    write_pending(
        rollout.app.name, newer.release, Pending(newer.release, newer.app.commands.migrate)
    )
    return _reverse(rollout)


def undo_reverse(rollout: Rollout) -> None:
    """Give the release that serves on its schema again."""
    clear_pending(rollout.app.name, rollout.id)
    if not rollout.schema.reversal or not rollout.schema.reverse_first:
        return
    newer = _newer(rollout)
    commands.run_migrations(
        rollout.host, image_of(newer), newer.app.commands.migrate, "migrate", rollout.on_line
    )
    clear_pending(rollout.app.name, newer.release)


def reverse_after(rollout: Rollout) -> str:
    """Undo migrations that the older release is compatible with, once the newer one has stopped."""
    newer = rollout.newer
    if newer is not None:
        # It doesn't serve any more and needs no schema.
        clear_pending(rollout.app.name, newer.release)
    if not rollout.schema.reversal or rollout.schema.reverse_first:
        return "nothing to undo"
    said = _reverse(rollout)
    clear_pending(rollout.app.name, rollout.id)
    return said


def _reverse(rollout: Rollout) -> str:
    newer = _newer(rollout)
    commands.run_migrations(
        rollout.host, image_of(newer), rollout.schema.reversal, "reverse", rollout.on_line
    )
    return commands.said(rollout.schema.reversal)


def _newer(rollout: Rollout) -> Current:
    if rollout.newer is None:
        raise BedstoneError("Nothing newer serves: there is nothing to undo.")
    return rollout.newer


_FILE = "schema-pending.json"


@dataclass(frozen=True)
class Pending:
    """Commands that bring the schema to a release that serves, not yet carried out.

    ``by`` is the release whose image knows them.
    """

    by: str
    commands: tuple[tuple[str, ...], ...]


def write_pending(app: str, release: str, pending: Pending) -> None:
    """Record, before a rollback changes the schema, the commands that bring it to a release."""
    text = json.dumps(asdict(pending), indent=2)
    files.write(paths.release(app, release) / _FILE, text + "\n", mode=0o600)


def read_pending(app: str, release: str) -> Pending | None:
    """Return what a killed rollback has left to do for a release, if anything."""
    path = paths.release(app, release) / _FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return Pending(data["by"], tuple(tuple(command) for command in data["commands"]))


def clear_pending(app: str, release: str) -> None:
    """Remove the record: it is done, or no longer needed."""
    (paths.release(app, release) / _FILE).unlink(missing_ok=True)
