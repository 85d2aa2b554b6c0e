"""A release that serves, and the programs of the server played by small scripts."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

from bedstone.apps import slots
from bedstone.apps.slots import Made
from bedstone.core import paths
from bedstone.ledger import database, releases
from tests.unit.host_daily.conftest import APP

RELEASE = "20261120_010000-abc"
MADE = Made("sha256:1", 10001, 10001)


def put_into_service(app: dict[str, Any] = APP, release: str = RELEASE, slot: str = "blue") -> None:
    """Make a release the one that serves, as the release's steps leave it."""
    name = app["name"]
    kept = paths.release(name, release)
    kept.mkdir(parents=True, exist_ok=True)
    (kept / "app.json").write_text(json.dumps(app))
    (kept / "app.env").write_text("MODE=live\n")
    slots.write_made(name, release, MADE)
    with database.opened() as connection:
        connection.execute(
            "INSERT INTO releases (app, id, version, fingerprint, state, started_at, finished_at)"
            " VALUES (?, ?, 'abc', 'f', 'succeeded', ?, ?)",
            (name, release, releases.now(), releases.now()),
        )
        connection.execute(
            "INSERT INTO apps VALUES (?, ?, ?) ON CONFLICT (app)"
            " DO UPDATE SET release = excluded.release, slot = excluded.slot",
            (name, release, slot),
        )


def program(directory: Path, name: str, body: str) -> Path:
    """Put a shell script where it is found as a program."""
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(stat.S_IRWXU)
    return path
