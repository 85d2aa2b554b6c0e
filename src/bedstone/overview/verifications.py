"""When an app's backup was last proved to be one, and whether that is as it should be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from bedstone import age, backup_settings, destinations, ledger, verify_history
from bedstone.verify_history import DUMP, LOCAL, MEDIA, SERVER, WAL

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence
    from pathlib import Path

    from bedstone.verify_history import Verification

# A week, and a day for the run that was missed.
OLDEST = timedelta(days=8)
_TOLERANCE_SECONDS = 300


def of(app: str, first_served: str | None) -> dict[str, Any] | None:
    """Return what is known of the verifications of an app's backups, or None without backups.

    Args:
        app: the app.
        first_served: when its first release served, ISO 8601.

    """
    if not backup_settings.path().exists():
        return None
    settings = backup_settings.load()
    entry = next((entry for entry in settings.apps if entry.app == app), None)
    if entry is None:
        return None
    kinds = [*([DUMP] if entry.database else []), *([MEDIA] if entry.media else [])]
    with ledger.opened() as connection:
        attempts = verify_history.of_app(connection, app)
        places = {
            place.name: _since(connection, app, place.name, first_served)
            for place in destinations.load().all
        }
    shown = [
        _at(attempts, place, kinds, settings.directory / app, app, since)
        for place, since in places.items()
    ]
    problem = next((str(found["problem"]) for found in shown if found["problem"]), None)
    return {
        # How sure one can be of what lies on this server; elsewhere: `destinations`.
        **{key: shown[0][key] for key in ("verified_at", "age_seconds", "backup")},
        "destinations": shown,
        "problem": problem,
        "ok": problem is None,
    }


def of_wal() -> list[dict[str, Any]]:
    """Return what is known of the verifications of the WAL at each destination that has it."""
    known = destinations.load()
    if known.point_in_time is None:
        return []
    with ledger.opened() as connection:
        attempts = verify_history.of_app(connection, SERVER)
        return [
            _at(attempts, place.name, [WAL], None, "", _since(connection, SERVER, place.name, None))
            for place in known.all
            if place.pgbackrest is not None
        ]


def wal_problems() -> list[str]:
    """Return what is wrong with the verifications of the WAL, for `bedstone status`."""
    if not backup_settings.path().exists():
        return []
    return [
        f"WAL at {found['destination']}: {found['problem']}"
        for found in of_wal()
        if not found["ok"]
    ]


def _at(
    attempts: Sequence[Verification],
    place: str,
    kinds: Sequence[str],
    home: Path | None,
    app: str,
    since: str | None,
) -> dict[str, Any]:
    """Return what is known of what lies at one destination."""
    here = [attempt for attempt in attempts if attempt.destination == place]
    proved = [success for kind in kinds if (success := _last_success(here, kind)) is not None]
    oldest = min(proved, key=lambda success: success.finished_at, default=None)
    # Until all parts were proved, the backup isn't.
    last = oldest if len(proved) == len(kinds) else None
    problem = _failure(here, kinds, home if place == LOCAL else None)
    if problem is None:
        problem = _age_problem(app, place, last, since)
    elif place != LOCAL and app:
        problem = f"{problem} ({place})"
    return {
        "destination": place,
        "verified_at": last.finished_at if last else None,
        "age_seconds": int(last.age_seconds) if last else None,
        "backup": last.backup if last else None,
        "problem": problem,
        "ok": problem is None,
    }


def _since(
    connection: sqlite3.Connection, app: str, place: str, first_served: str | None
) -> str | None:
    """Return since when there is something to verify at a destination."""
    if place == LOCAL and app:
        return first_served
    if app == SERVER:
        row = connection.execute("SELECT min(finished_at) FROM backups WHERE state = 'succeeded'")
    else:
        row = connection.execute(
            "SELECT min(finished_at) FROM copies WHERE destination = ? AND app = ?"
            " AND state = 'succeeded'",
            (place, app),
        )
    found = row.fetchone()[0]
    return str(found) if found else None


def _last_success(attempts: Sequence[Verification], kind: str) -> Verification | None:
    return next((a for a in attempts if a.kind == kind and a.state == "succeeded"), None)


def _failure(
    attempts: Sequence[Verification], kinds: Sequence[str], home: Path | None
) -> str | None:
    """Return the failure that no later success has made good.

    Args:
        attempts: at one destination, the newest first.
        kinds: the parts.
        home: where the backups are if that is on this server; else None.

    """
    for kind in kinds:
        succeeded = ""
        for number, attempt in enumerate(a for a in attempts if a.kind == kind):
            if attempt.state == "succeeded":
                if kind == WAL:
                    # Its last moment counts, whatever the backup that it begins from.
                    break
                succeeded = max(succeeded, attempt.backup or "")
            elif attempt.state == "failed":
                # An older backup that is whole says nothing about this one; a newer one
                # makes it unimportant, and so does its removal.
                name = attempt.backup or ""
                if home is not None and not (home / name).exists():
                    continue
                if name > succeeded or (kind == WAL and not succeeded):
                    what = "the WAL" if kind == WAL else name
                    return f"the verification of {what} failed: {_first_line(attempt)}"
            elif number == 0:
                return f"the last verification came to nothing: {_first_line(attempt)}"
    return None


def _first_line(attempt: Verification) -> str:
    return (attempt.error or "").partition("\n")[0]


def _age_problem(app: str, place: str, last: Verification | None, since: str | None) -> str | None:
    where = f" at {place}" if place != LOCAL and app else ""
    if last is None:
        begun = datetime.fromisoformat(since) if since else None
        if begun is not None and datetime.now(UTC) - begun > OLDEST:
            command = f"bedstone verify {app}" if app else "bedstone verify --kind wal"
            what = f"no backup{where} was ever verified" if app else "it was never verified"
            return f"{what}: `{command}`"
        return None
    if last.age_seconds > OLDEST.total_seconds():
        return (
            f"the last verification{where} is {age.words(last.age_seconds)} old:"
            " `systemctl status bedstone-verify.timer`"
        )
    if last.age_seconds < -_TOLERANCE_SECONDS:
        return (
            f"the last verification{where} is from the future ({age.short(last.finished_at)}): the"
            " server's clock was wrong (`timedatectl`)"
        )
    return None
