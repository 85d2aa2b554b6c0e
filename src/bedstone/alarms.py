"""What people were told is wrong: once when it begins, and once a day while it lasts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from bedstone import ledger

if TYPE_CHECKING:
    from collections.abc import Collection

AGAIN = timedelta(days=1)


def due(scope: str, red: Collection[str]) -> list[str]:
    """Return which of the names that are red now people are to be told of, and remember that.

    Args:
        scope: whose names they are; those of it that aren't red any longer are forgotten.
        red: the names.

    """
    now = datetime.now(UTC)
    told = []
    with ledger.opened() as connection, ledger.transaction(connection):
        rows = connection.execute(
            "SELECT name, told_at FROM alarms WHERE substr(name, 1, ?) = ?",
            (len(scope) + 1, f"{scope}:"),
        )
        before = {row["name"].partition(":")[2]: row["told_at"] for row in rows}
        for name in before:
            if name not in red:
                connection.execute("DELETE FROM alarms WHERE name = ?", (f"{scope}:{name}",))
        for name in red:
            last = before.get(name)
            # A clock that was set back doesn't silence anything.
            if last and timedelta(0) <= now - datetime.fromisoformat(last) < AGAIN:
                continue
            told.append(name)
            connection.execute(
                "INSERT INTO alarms (name, since, told_at) VALUES (:name, :now, :now)"
                " ON CONFLICT (name) DO UPDATE SET told_at = excluded.told_at",
                {"name": f"{scope}:{name}", "now": now.isoformat()},
            )
    return told


def again(scope: str, names: Collection[str]) -> None:
    """Forget that people were told of these names: nobody could be."""
    with ledger.opened() as connection, ledger.transaction(connection):
        for name in names:
            connection.execute("DELETE FROM alarms WHERE name = ?", (f"{scope}:{name}",))
