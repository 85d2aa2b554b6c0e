"""Record what a killed rollback has left to do with the schema, as commands of its images."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from bedstone.core import files, paths

_FILE = "schema-pending.json"


@dataclass(frozen=True)
class Pending:
    """Commands that bring the schema to a release that serves, not yet carried out.

    ``by`` is the release whose image knows them.
    """

    by: str
    commands: tuple[tuple[str, ...], ...]


def write(app: str, release: str, pending: Pending) -> None:
    """Record, before a rollback changes the schema, the commands that bring it to a release."""
    text = json.dumps(asdict(pending), indent=2)
    files.write(paths.release(app, release) / _FILE, text + "\n", mode=0o600)


def read(app: str, release: str) -> Pending | None:
    """Return what a killed rollback has left to do for a release, if anything."""
    path = paths.release(app, release) / _FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return Pending(data["by"], tuple(tuple(command) for command in data["commands"]))


def clear(app: str, release: str) -> None:
    """Remove the record: it is done, or no longer needed."""
    (paths.release(app, release) / _FILE).unlink(missing_ok=True)
