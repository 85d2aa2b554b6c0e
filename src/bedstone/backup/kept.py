"""Choose the backups that retention keeps, and why, by the settings and the ledger."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bedstone.backup import retention, retention_held
from bedstone.backup.retention import Known, Rules
from bedstone.ledger import database, releases

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from bedstone.backup.catalog import Backup
    from bedstone.backup.retention_held import Retention
    from bedstone.backup.settings import Settings


def rules(settings: Settings) -> Rules:
    """Return how much is kept: a smaller retention is in force only once it was accepted."""
    return rules_of(retention_held.in_force(retention_held.of_backups(settings)))


def rules_of(found: Retention) -> Rules:
    """Return a retention as the rules of the backups."""
    return Rules(
        days=found.keep_days,
        weeks=found.keep_weeks,
        months=found.keep_months,
        at_least=found.keep_at_least,
    )


def known(app: str, destination: str | None = None) -> Known:
    """Return the ledger's records of an app's backups.

    Args:
        app: whose.
        destination: the newest one that was verified there is named of its own.

    Raises:
        BedstoneError: the ledger can't be opened.
        sqlite3.Error: it can't be read.

    """
    with database.opened() as connection:
        verified = verified_names(connection, app)
        if destination is not None:
            there = verified_names(connection, app, destination)
            verified |= {f"{kind} at {destination}": names for kind, names in there.items()}
        return Known(releases.restore_points(connection, app), verified)


def verified_names(
    connection: sqlite3.Connection, app: str, destination: str | None = None
) -> dict[str, set[str]]:
    """Return which backups passed their last verification: kind ("dump", "media") -> names.

    Args:
        connection: of the ledger.
        app: whose.
        destination: where they were verified; anywhere by default.

    """
    rows = connection.execute(
        "SELECT kind, backup FROM verifications WHERE id IN ("
        "  SELECT max(id) FROM verifications"
        "  WHERE app = :app AND backup IS NOT NULL AND state <> 'prevented'"
        "  AND (:destination IS NULL OR destination = :destination)"
        "  GROUP BY kind, backup, destination"
        ") AND state = 'succeeded'",
        {"app": app, "destination": destination},
    )
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row["kind"], set()).add(row["backup"])
    return found


def reasons(settings: Settings, app: str, backups: Sequence[Backup]) -> dict[str, tuple[str, ...]]:
    """Return why each backup of an app is kept; see :func:`retention.reasons`."""
    return retention.reasons(
        backups, app=app, now=datetime.now(UTC), rules=rules(settings), known=known(app)
    )
