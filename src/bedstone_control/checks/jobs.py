"""Check the jobs of the apps, and the other settings of a release."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bedstone_control import names
from bedstone_control.checks.apps import located
from bedstone_control.settings import calendar

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    from bedstone_control.checks.context import Context, Place
    from bedstone_control.checks.problems import Problem
    from bedstone_control.settings.app import App
    from bedstone_control.settings.root import Settings

_EXAMPLE = {"command": "python manage.py clearsessions", "schedule": "*-*-* 04:00:00"}
# Only what no calendar of systemd.time(7) holds; systemd itself judges the rest on the server.
_FOREIGN = re.compile(r"[^A-Za-z0-9 :*/.,~_+-]")
_CRON_FIELDS = 5
_WORDS = {
    *("minutely", "hourly", "daily", "monthly", "weekly", "yearly", "annually"),
    *("quarterly", "semiannually", "semi-annually", "quaterly"),
    *("mon", "tue", "wed", "thu", "fri", "sat", "sun"),
    *("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"),
}


def check(context: Context, settings: Settings) -> Iterator[Problem]:
    """Check names, commands and times of the jobs, and the tool for migrations."""
    for place, app in located(context, settings):
        yield from _jobs(context, place, app)
        yield from _left_out(context, settings, place, app)
        yield from _migrations(context, place, app)


def _jobs(context: Context, place: Place, app: App) -> Iterator[Problem]:
    for name, job in app.jobs.items():
        where = (*place, "jobs", name)
        if not re.fullmatch(names.APP_NAME, name):
            message = (
                f"The job name `{name}` can't be used: lower-case letters, digits and dashes, "
                "a letter first, no dash last."
            )
            yield context.problem(where, message, {"cleanup": _EXAMPLE})
        if not job.command:
            yield context.problem((*where, "command"), "A job runs a command.", _EXAMPLE)
        if job.schedule is not None and (wrong := schedule_fault(job.schedule)) is not None:
            message = f"{job.schedule!r} is no time that systemd knows: {wrong}."
            example = (
                "schedule: '*-*-* 04:00:00'   # or: hourly; Mon..Fri 07:30; *-*-* *:00/15\n"
                f"# systemd-analyze calendar --iterations=3 '{_EXAMPLE['schedule']}'   says when"
            )
            yield context.problem((*where, "schedule"), message, example)


def left_out(time: str, zone: str, day: date, so: str) -> str:
    """Return that a time doesn't exist on a day, and what follows."""
    return (
        f"In {zone} the time {time} doesn't exist on {day:%Y-%m-%d}, when the clocks go forward:"
        f" {so}. Times from 04:00 to 21:59 exist on every day in every zone."
    )


def _left_out(context: Context, settings: Settings, place: Place, app: App) -> Iterator[Problem]:
    for name, job in app.jobs.items():
        found = calendar.schedule_missing_on(settings.timezone, job.schedule or "")
        if found is not None:
            message = left_out(found[0], settings.timezone, found[1], "the job wouldn't run")
            yield context.problem((*place, "jobs", name, "schedule"), message, _EXAMPLE)


def schedule_fault(text: str) -> str | None:
    """Return what is clearly wrong with a time of systemd.time(7), None when nothing is."""
    fields = text.split()
    first = re.split(r"[,.]+", fields[0].lower()) if fields else []
    foreign = _FOREIGN.search(text)
    faults = (
        (not fields, "it is empty; leave the key out for a job that runs by hand"),
        (text.startswith("@"), "that is cron's form; without the @ it is systemd's"),
        (foreign is not None, f"it holds {foreign[0]!r}" if foreign else ""),
        (
            len(fields) >= _CRON_FIELDS,
            "five fields are cron's form; systemd's is weekdays, date and time",
        ),
        (
            not any(character in text for character in "0123456789*")
            and not set(first) <= _WORDS | {""},
            "it names no time",
        ),
    )
    return next((fault for wrong, fault in faults if wrong), None)


def _migrations(context: Context, place: Place, app: App) -> Iterator[Problem]:
    if app.migrations in {"django", "alembic"} and not (app.database and app.commands.migrate):
        lacking = "command `migrate`" if app.database else "database"
        message = f"The app has no {lacking}, so there are no migrations to ask for."
        yield context.problem((*place, "migrations"), message, {"migrations": "none"})
