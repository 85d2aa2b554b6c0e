"""Choose which backups are obsolete, and give the reason why each other one is kept.

Everything is counted in backups, not in time that has passed: the newest thirty days *that have a
backup*. So neither a long outage nor a clock that jumped ahead makes a backup obsolete, and a
backup from the future takes the place of no other one.

"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date
from typing import TYPE_CHECKING

from bedstone.backup import catalog
from bedstone.core import files

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from datetime import datetime

    from bedstone.backup.catalog import Backup

# Of so many days all backups stay, not only the newest: an operator who makes three before a risky
# change may need the first one.
_WHOLE_DAYS = 2

_Period = tuple[int, int, int]


@dataclass(frozen=True)
class Rules:
    """The rules of the retention.

    Attributes:
        days: the newest backup of each of the newest so many days that have one.
        weeks: likewise of weeks (Monday to Sunday); 0 for none.
        months: likewise of months; 0 for none.
        at_least: the newest so many complete ones, whatever their age.

    """

    days: int
    weeks: int
    months: int
    at_least: int


@dataclass(frozen=True)
class Known:
    """The ledger's record of an app's backups.

    Attributes:
        points: names of the restore points of releases that are kept.
        verified: what was verified ("dump", "media") -> names of the backups that passed.

    """

    points: Collection[str] = ()
    verified: Mapping[str, Collection[str]] = field(default_factory=dict)


def reasons(
    backups: Iterable[Backup], *, app: str, now: datetime, rules: Rules, known: Known
) -> dict[str, tuple[str, ...]]:
    """Return why each backup is kept; one without a reason may be removed.

    Days, weeks and months are those of UTC. Of a period, the newest complete backup counts; a
    restore point (the database alone) counts only in a period that has no full one.

    Args:
        backups: what was found in an app's directory.
        app: whose backups are judged: a directory without a manifest of ours, or with
            another app's, is not in the result.
        now: the present moment.
        rules: how much is kept.
        known: the ledger's record.

    """
    ours = sorted(
        (backup for backup in backups if backup.manifest and backup.manifest.app == app),
        key=lambda backup: (_started(backup), backup.name),
        reverse=True,
    )
    past = [backup for backup in ours if _started(backup) <= now]
    good = [backup for backup in past if backup.good]
    full = [backup for backup in past if backup.full]
    found: dict[str, list[str]] = {backup.name: [] for backup in ours}

    def keep(why: str, chosen: Iterable[Backup]) -> None:
        for backup in chosen:
            if why not in found[backup.name]:
                found[backup.name].append(why)

    keep("newest", [*full[: rules.at_least], *good[: rules.at_least]])
    days = _newest(map(_day, good), rules.days)
    whole_days = _newest(map(_day, good), _WHOLE_DAYS)
    keep("recent", [backup for backup in good if _day(backup) in whole_days])
    keep("daily", _newest_of_each(_day, rules.days, full, good))
    keep("weekly", _newest_of_each(_week, rules.weeks, full, good))
    keep("monthly", _newest_of_each(_month, rules.months, full, good))
    for kind, names in sorted(known.verified.items()):
        passed = [backup for backup in good if backup.name in names]
        keep(f"verified {kind}", [*passed[:1], *[b for b in passed if b.full][:1]])
    for backup in ours:
        if backup.name in known.points:
            keep(_point(backup), [backup])
    # What counts in no period, a restore point whose release is gone or a damaged backup,
    # goes when the daily ones of its time do.
    keep(
        "its days aren't over",
        [
            backup
            for backup in past
            if not found[backup.name]
            and not backup.full
            and (len(days) < rules.days or _day(backup) >= days[-1])
        ],
    )
    keep("from the future", [backup for backup in ours if _started(backup) > now])
    return {name: tuple(why) for name, why in found.items()}


def expired(
    backups: Sequence[Backup],
    *,
    app: str,
    now: datetime,
    rules: Rules,
    known: Known,
    protected: Collection[str] = (),
) -> list[Backup]:
    """Return the backups that may be removed; see :func:`reasons`.

    ``protected`` are names that stay in any case.
    """
    found = reasons(backups, app=app, now=now, rules=rules, known=known)
    return [
        backup
        for backup in backups
        if found.get(backup.name) == () and backup.name not in protected
    ]


def remove(backup: Backup) -> None:
    """Remove a backup; one that is half removed no longer has a backup's name."""
    doomed = backup.path.with_name(f"{catalog.DELETING}{backup.name}")
    backup.path.rename(doomed)
    files.sync_directory(doomed.parent)
    files.remove_tree(doomed)


def _newest_of_each(
    period: Callable[[Backup], _Period],
    number: int,
    full: Sequence[Backup],
    good: Sequence[Backup],
) -> list[Backup]:
    whole: dict[_Period, Backup] = {}
    for backup in full:
        whole.setdefault(period(backup), backup)
    any_good: dict[_Period, Backup] = {}
    for backup in good:
        any_good.setdefault(period(backup), backup)
    # The two are counted apart, so that days with nothing but a restore point don't push
    # full backups out.
    return [
        *(whole[key] for key in _newest(whole, number)),
        *(any_good[key] for key in _newest(any_good, number) if key not in whole),
    ]


def _newest(periods: Iterable[_Period], number: int) -> list[_Period]:
    return sorted(set(periods), reverse=True)[:number]


def _started(backup: Backup) -> datetime:
    assert backup.manifest is not None
    return backup.manifest.started


def _date(backup: Backup) -> date:
    return _started(backup).astimezone(UTC).date()


def _day(backup: Backup) -> _Period:
    found = _date(backup)
    return found.year, found.month, found.day


def _week(backup: Backup) -> _Period:
    year, week, _ = _date(backup).isocalendar()
    return year, week, 0


def _month(backup: Backup) -> _Period:
    found = _date(backup)
    return found.year, found.month, 0


def _point(backup: Backup) -> str:
    label = backup.manifest.label if backup.manifest else None
    return f"restore point {label}" if label else "restore point"
