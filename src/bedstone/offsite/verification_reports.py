"""Exchange the results of verifications by another host, through the destinations.

The two hosts need no connection to each other. The verifying host leaves a mark, a small snapshot
with the results, at each destination; the origin reads it when it looks there each hour. A mark is
encrypted and sealed with the backup key, like everything at a destination. It holds the last
attempts, not the newest alone: a mark that is lost, or reached one of two destinations only, is
replaced by any other. The verifying host changes and removes nothing there: a destination may
forbid that.

"""

from __future__ import annotations

import json
import logging
import sqlite3
import tempfile
from dataclasses import asdict, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bedstone.backup import verify_settings
from bedstone.core import files, paths
from bedstone.core.errors import BedstoneError
from bedstone.ledger import database, verifications
from bedstone.ledger.kinds import DUMP, MEDIA, WAL
from bedstone.ledger.verifications import Verification
from bedstone.storage.restic import Repository

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bedstone.storage.destinations import Destination
    from bedstone.storage.restic import Snapshot

logger = logging.getLogger(__name__)

KIND = "verification"
FILE = "verification.json"
SCHEMA = 1

# Some weeks of a server with many apps and destinations.
_ATTEMPTS = 200
_KEPT = timedelta(days=90)
_STATES = {"succeeded", "failed", "prevented"}


def leave(places: Sequence[Destination], host: str) -> list[BedstoneError]:
    """Leave a mark at each destination.

    Args:
        places: the destinations.
        host: the name of this host.

    Returns:
        For each destination that got none, why.

    """
    with database.opened() as connection:
        attempts = verifications.newest(connection, _ATTEMPTS)
    document = {"schema": SCHEMA, "attempts": [asdict(attempt) for attempt in attempts]}
    failures = []
    paths.ensure_private(paths.ledger().parent)
    with tempfile.TemporaryDirectory(dir=paths.ledger().parent, prefix="mark-") as name:
        files.write(Path(name) / FILE, json.dumps(document) + "\n", mode=0o600)
        for place in places:
            try:
                Repository(place).backup(Path(name), [FILE], {"kind": KIND, "host": host})
            except BedstoneError as error:
                failures.append(error)
    return failures


def read(place: Destination, snapshots: Sequence[Snapshot]) -> None:
    """Record what the marks at a destination hold that isn't recorded yet.

    A mark that can't be read is reported in the journal: the results that it holds grow old, and
    that is red.

    Args:
        place: the destination.
        snapshots: all that are there.

    """
    found = marks(snapshots)
    try:
        if not found or verify_settings.load().host is None:
            return
        with database.opened() as connection:
            known = verifications.read_reports(connection)
        for mark in found:
            if mark.id not in known:
                _take(mark, Repository(place).read(mark.id, f"/{FILE}"))
    except (BedstoneError, sqlite3.Error) as error:
        logger.warning("what was verified elsewhere can't be read at %s: %s", place.name, error)


def marks(snapshots: Sequence[Snapshot]) -> list[Snapshot]:
    """Return the marks among the snapshots of a destination, in their order."""
    return [snapshot for snapshot in snapshots if snapshot.tags.get("kind") == KIND]


def expired(snapshots: Sequence[Snapshot]) -> list[str]:
    """Return the ids of marks that have served their time; the newest one never has."""
    old = datetime.now(UTC) - _KEPT
    return [mark.id for mark in marks(snapshots)[:-1] if mark.time < old]


def _take(mark: Snapshot, text: str) -> None:
    host = mark.tags.get("host") or "another host"
    try:
        found = _parsed(text, host)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        # It will not be another one the next time.
        logger.warning("the mark %s of %s is of no use: %s", mark.id[:8], host, error)
        found = []
    with database.opened() as connection, database.transaction(connection):
        for attempt in found:
            if not verifications.is_known(connection, attempt):
                verifications.insert(connection, attempt)
        verifications.set_report_read(connection, mark.id)


def _parsed(text: str, host: str) -> list[Verification]:
    document = json.loads(text)
    if document["schema"] != SCHEMA:
        raise ValueError(f"its schema is {document['schema']}, this program knows {SCHEMA}")
    return [_attempt(entry, host) for entry in document["attempts"]]


def _attempt(entry: dict[str, Any], host: str) -> Verification:
    names = {field.name for field in fields(Verification)}
    attempt = Verification(**{k: v for k, v in entry.items() if k in names} | {"host": host})
    if attempt.kind not in {DUMP, MEDIA, WAL} or attempt.state not in _STATES:
        raise ValueError(f"it tells of {attempt.kind!r}, {attempt.state!r}")
    for moment in (attempt.started_at, attempt.finished_at):
        if datetime.fromisoformat(moment).tzinfo is None:
            raise ValueError(f"{moment} has no time zone")
    return attempt
