"""Show when an app's backup was last verified, and whether that is recent enough."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from bedstone.backup import settings as backup_settings
from bedstone.backup import verify_settings
from bedstone.core import age, clock, names
from bedstone.ledger import backups as backups_history
from bedstone.ledger import copies as copies_history
from bedstone.ledger import database, verifications
from bedstone.ledger.kinds import DUMP, MEDIA, SERVER, WAL
from bedstone.ledger.verifications import LOCAL
from bedstone.storage import destinations

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence
    from pathlib import Path

    from bedstone.backup.verify_settings import VerifySettings
    from bedstone.ledger.verifications import Verification
    from bedstone.storage.destinations import Destination

# A week, and a day for the run that was missed.
OLDEST = timedelta(days=8)
_NOTHING = {"destination": LOCAL, "verified_at": None, "age_seconds": None, "backup": None}


def app_status(app: str, first_served: str | None) -> dict[str, Any] | None:
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
    how = verify_settings.load()
    with database.opened() as connection:
        attempts = verifications.of_app(connection, app)
        places = {
            place.name: _since(connection, app, place.name, first_served)
            for place in places_of(how)
        }
    shown = [
        _at(attempts, place, kinds, settings.directory / app, app, since, how)
        for place, since in places.items()
    ]
    problem = next((str(found["problem"]) for found in shown if found["problem"]), None)
    first = shown[0] if shown else _NOTHING
    return {
        # How sure one can be of what lies on this server, or, when another one proves, at the
        # first destination; elsewhere: `destinations`.
        **{key: first[key] for key in ("destination", "verified_at", "age_seconds", "backup")},
        "host": how.host,
        "destinations": shown,
        "problem": problem,
        "ok": problem is None,
    }


def of_wal() -> list[dict[str, Any]]:
    """Return what is known of the verifications of the WAL at each destination that has it."""
    if destinations.load().point_in_time is None:
        return []
    how = verify_settings.load()
    with database.opened() as connection:
        attempts = verifications.of_app(connection, SERVER)
        since = _since(connection, SERVER, "", None)
        return [
            _at(attempts, place.name, [WAL], None, "", since, how)
            for place in places_of(how)
            if place.pgbackrest is not None
        ]


def places_of(how: VerifySettings) -> tuple[Destination, ...]:
    """Return the destinations whose backups are verified each week.

    Another host reaches those off this one alone. What lies here was sent there, byte by byte.
    """
    known = destinations.load()
    return known.all if how.host is None else known.remote


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
    how: VerifySettings,
) -> dict[str, Any]:
    """Return what is known of what lies at one destination."""
    here = [attempt for attempt in attempts if attempt.destination == place]
    proved = [success for kind in kinds if (success := _last_success(here, kind)) is not None]
    oldest = min(proved, key=lambda success: success.finished_at, default=None)
    # The backup is verified only once all parts are.
    last = oldest if len(proved) == len(kinds) else None
    problem = _failure(here, kinds, home if place == LOCAL else None)
    if problem is None:
        problem = _age_problem(app, place, last, since, how)
    elif place != LOCAL and app:
        problem = f"{problem} ({place})"
    return {
        "destination": place,
        "verified_at": last.finished_at if last else None,
        "age_seconds": int(last.age_seconds) if last else None,
        "backup": last.backup if last else None,
        "host": last.host if last else None,
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
        return backups_history.first_success(connection)
    return copies_history.first_arrival(connection, app, place)


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


def _age_problem(
    app: str, place: str, last: Verification | None, since: str | None, how: VerifySettings
) -> str | None:
    where = f" at {place}" if place != LOCAL and app else ""
    if last is None:
        begun = datetime.fromisoformat(since) if since else None
        if begun is not None and datetime.now(UTC) - begun > OLDEST:
            command = f"bedstone verify{_of(how)} {app or '--kind wal'}"
            what = f"no backup{where} was ever verified" if app else "it was never verified"
            return f"{what}: `{command}`{_on(how)}"
        return None
    if last.age_seconds > OLDEST.total_seconds():
        return (
            f"the last verification{where} is {age.humanize(last.age_seconds)} old:"
            f" `systemctl status {_timer(how)}`{_on(how)}"
        )
    if clock.is_ahead(datetime.fromisoformat(last.finished_at)):
        return (
            f"the last verification{where} is from the future ({age.short(last.finished_at)}): the"
            f" server's clock was wrong (`timedatectl`){_on(how)}"
        )
    return None


def _on(how: VerifySettings) -> str:
    return f" on {how.host}" if how.host else ""


def _of(how: VerifySettings) -> str:
    return f" --of {how.origin}" if how.origin else ""


def _timer(how: VerifySettings) -> str:
    return names.verify_timer(how.origin)
