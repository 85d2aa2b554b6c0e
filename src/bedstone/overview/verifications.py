"""When an app's backup was last proved to be one, and whether that is as it should be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from bedstone import age, backup_settings, ledger, verify_history
from bedstone.verify_history import DUMP, MEDIA

if TYPE_CHECKING:
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
    successes = [_last_success(attempts, kind) for kind in kinds]
    proved = [success for success in successes if success is not None]
    oldest = min(proved, key=lambda success: success.finished_at, default=None)
    # Until all parts were proved, the backup isn't.
    last = oldest if len(proved) == len(kinds) else None
    problem = _failure(attempts, kinds, settings.directory / app)
    if problem is None:
        problem = _age_problem(app, last, first_served)
    return {
        "verified_at": last.finished_at if last else None,
        "age_seconds": int(last.age_seconds) if last else None,
        "backup": last.backup if last else None,
        "problem": problem,
        "ok": problem is None,
    }


def _last_success(attempts: Sequence[Verification], kind: str) -> Verification | None:
    return next((a for a in attempts if a.kind == kind and a.state == "succeeded"), None)


def _failure(attempts: Sequence[Verification], kinds: Sequence[str], home: Path) -> str | None:
    """Return the failure that no later success has made good."""
    for kind in kinds:
        succeeded = ""
        for number, attempt in enumerate(a for a in attempts if a.kind == kind):
            if attempt.state == "succeeded":
                succeeded = max(succeeded, attempt.backup or "")
            elif attempt.state == "failed":
                # An older backup that is whole says nothing about this one; a newer one
                # makes it unimportant, and so does its removal.
                name = attempt.backup or ""
                if name > succeeded and (home / name).exists():
                    return f"the verification of {name} failed: {_first_line(attempt)}"
            elif number == 0:
                return f"the last verification came to nothing: {_first_line(attempt)}"
    return None


def _first_line(attempt: Verification) -> str:
    return (attempt.error or "").partition("\n")[0]


def _age_problem(app: str, last: Verification | None, first_served: str | None) -> str | None:
    if last is None:
        since = datetime.fromisoformat(first_served) if first_served else None
        if since is not None and datetime.now(UTC) - since > OLDEST:
            return f"no backup was ever verified: `bedstone verify {app}`"
        return None
    if last.age_seconds > OLDEST.total_seconds():
        return (
            f"the last verification is {age.words(last.age_seconds)} old:"
            " `systemctl status bedstone-verify.timer`"
        )
    if last.age_seconds < -_TOLERANCE_SECONDS:
        return (
            f"the last verification is from the future ({age.short(last.finished_at)}): the"
            " server's clock was wrong (`timedatectl`)"
        )
    return None
