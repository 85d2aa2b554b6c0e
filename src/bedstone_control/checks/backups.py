"""Check when backups are verified, and the conditions of that."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bedstone_control.checks.apps import located
from bedstone_control.checks.jobs import left_out, schedule_fault
from bedstone_control.settings import calendar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bedstone_control.checks.context import Context
    from bedstone_control.checks.problems import Problem
    from bedstone_control.settings.root import Settings

_EXAMPLE = {"backup_checks": ["SELECT count(*) > 0 FROM payments_request"]}
# The server asks it as `SELECT (QUERY)`: nothing else than a query fits in.
_QUERY = re.compile(r"\s*(SELECT|WITH|VALUES|TABLE)\b[^;]*;?\s*", re.IGNORECASE)


def check(context: Context, settings: Settings) -> Iterator[Problem]:
    """Check the schedule of the verifications and the apps' queries."""
    schedule = settings.backup.verify_schedule
    if schedule is not None and (wrong := schedule_fault(schedule)) is not None:
        yield context.problem(
            ("bedstone_backup", "verify_schedule"),
            f"{schedule!r} is no time that systemd knows: {wrong}.",
            {"verify_schedule": "Sun *-*-* 06:00:00"},
        )
    yield from _left_out(context, settings)
    for place, app in located(context, settings):
        if app.backup_checks and app.database is None:
            yield context.problem(
                (*place, "backup_checks"),
                "The app has no database, so there is nothing to ask.",
                {"backup_checks": []},
            )
        for number, query in enumerate(app.backup_checks):
            if not _QUERY.fullmatch(query):
                yield context.problem(
                    (*place, "backup_checks", number),
                    f"{query!r} is no single query that could be true.",
                    _EXAMPLE,
                )


def _left_out(context: Context, settings: Settings) -> Iterator[Problem]:
    """Find times that a night of daylight saving leaves out."""
    backup, zone = settings.backup, settings.timezone
    if (day := calendar.missing_on(zone, backup.time)) is not None:
        yield context.problem(
            ("bedstone_backup", "time"),
            left_out(backup.time, zone, day, "there would be no backup that night"),
            {"time": calendar.ALWAYS_THERE},
        )
    schedule = backup.verify_schedule
    if schedule is not None and (found := calendar.schedule_missing_on(zone, schedule)) is not None:
        yield context.problem(
            ("bedstone_backup", "verify_schedule"),
            left_out(found[0], zone, found[1], "nothing would be verified that day"),
            {"verify_schedule": "Sun *-*-* 06:00:00"},
        )
