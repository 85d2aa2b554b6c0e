"""Hold back a smaller retention until an operator accepts it.

The settings may say `keep_days: 3` in place of 30 by a slip, and the next night would remove what
can't be brought back, on this server and at every destination. So the largest retention that was in
force stays in force, in a file of the server's, until `bedstone retention --accept`. Timers and
playbooks remove backups, too: so the check is here, and not in a prompt that needs a terminal.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

from bedstone.backup import settings as backup_settings
from bedstone.core import files, lock, paths
from bedstone.storage import destinations

if TYPE_CHECKING:
    from pathlib import Path

    from bedstone.backup.settings import Settings

SCHEMA = 1


@dataclass(frozen=True)
class Retention:
    """The retention: of backups everywhere, and of PostgreSQL's WAL."""

    keep_days: int
    keep_weeks: int
    keep_months: int
    keep_at_least: int
    keep_point_in_time_days: int

    def largest(self, other: Retention) -> Retention:
        """Return the larger one of each value."""
        return Retention(
            **{name: max(value, asdict(other)[name]) for name, value in asdict(self).items()}
        )


# A file that can't be read holds back everything.
_ALL = Retention(3650, 520, 120, 1, 90)


def path() -> Path:
    """Return the file of what is in force."""
    return paths.state() / "retention.json"


def of_backups(settings: Settings) -> Retention:
    """Return what the settings of the backups say; nothing of the log."""
    return Retention(
        settings.keep_days, settings.keep_weeks, settings.keep_months, settings.keep_at_least, 0
    )


def of_log(keep_days: int) -> Retention:
    """Return how much of PostgreSQL's log is kept; nothing of the backups."""
    return Retention(0, 0, 0, 0, keep_days)


def declared() -> Retention:
    """Return all that the settings of this server say.

    Raises:
        ConfigError: their file is missing or wrong.

    """
    log = destinations.load().point_in_time
    found = of_log(log.keep_days if log else 0)
    # A cluster's log may be kept on a host that backs up no app.
    return found.largest(of_backups(backup_settings.load())) if _has_backups() else found


def _has_backups() -> bool:
    return backup_settings.path().exists()


def in_force(wanted: Retention) -> Retention:
    """Return the retention in force: the declared one, or the former one where that was larger.

    A larger one is in force at once, and remembered. On a full disk it isn't remembered now.
    """
    known = _read()
    found = wanted if known is None else wanted.largest(known)
    if found != known and known is not _ALL:
        with (
            suppress(OSError, lock.LockedError),
            lock.held("retention", "what is kept", wait_seconds=10),
        ):
            _write(found.largest(_read() or found))
    return found


def held() -> dict[str, tuple[int, int]]:
    """Return what is held back: setting -> what is in force, and what the settings say."""
    said = declared()
    wanted, found = asdict(said), asdict(in_force(said))
    return {name: (found[name], wanted[name]) for name in found if found[name] != wanted[name]}


def accept() -> None:
    """Put the declared retention into force.

    Raises:
        OSError: it can't be written.

    """
    with lock.held("retention", "bedstone retention --accept", wait_seconds=10):
        _write(declared())


def sentence() -> str | None:
    """Return in words what is held back and what decides it, or None."""
    found = held()
    if not found:
        return None
    said = ", ".join(f"{name} from {before} to {now}" for name, (before, now) in found.items())
    return (
        f"the settings lower {said}: nothing is removed for that until `bedstone retention"
        " --accept`; `bedstone retention` shows what would go"
    )


def _read() -> Retention | None:
    try:
        data = json.loads(path().read_text(encoding="utf-8"))
        return Retention(**{field.name: int(data[field.name]) for field in fields(Retention)})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        return _ALL


def _write(found: Retention) -> None:
    paths.ensure_private(path().parent)
    text = json.dumps({"schema": SCHEMA, **asdict(found)}, indent=2, sort_keys=True)
    files.write(path(), text + "\n", mode=0o600)
