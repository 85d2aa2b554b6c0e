"""Choose the backups that retention keeps, and why, by the settings and the ledger."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bedstone.backup import retention, retention_held
from bedstone.backup.retention import Known, Rules
from bedstone.ledger import database, releases, verifications

if TYPE_CHECKING:
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
        verified = verifications.passed(connection, app)
        if destination is not None:
            there = verifications.passed(connection, app, destination)
            verified |= {f"{kind} at {destination}": names for kind, names in there.items()}
        return Known(releases.restore_points(connection, app), verified)


def reasons(settings: Settings, app: str, backups: Sequence[Backup]) -> dict[str, tuple[str, ...]]:
    """Return why each backup of an app is kept; see :func:`retention.reasons`."""
    return retention.reasons(
        backups, app=app, now=datetime.now(UTC), rules=rules(settings), known=known(app)
    )
