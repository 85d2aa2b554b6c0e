"""Compose the daily summary: what happened in the last day, and how the server is now.

It is text for a telephone: short lines, what needs attention first. Everything in it comes from
the picture of `bedstone status`, the ledger and the record of alarms.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from bedstone import watch
from bedstone.core import age
from bedstone.core import disk as space
from bedstone.core.errors import BedstoneError
from bedstone.core.terminal import Paint
from bedstone.ledger import database as ledger
from bedstone.notify import alarms
from bedstone.notify.events import Event
from bedstone.status import database, operations
from bedstone.wal import status as wal

DAY = timedelta(days=1)
# An app that is released more often has a line with the number of the others.
MOST_OPERATIONS = 10
# More certificates than these are named by the first that end.
MOST_CERTIFICATES = 5
_SEARCHED = 200
_PLAIN = Paint(on=False)


@dataclass(frozen=True)
class Happened:
    """What happened in a day that the picture of now doesn't show.

    Attributes:
        operations: releases, rollbacks and restarts by app, the newest first.
        ended: the sentences of alarms that were over.
        since: the moments since which alarms exist, by name.

    """

    operations: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)
    since: Mapping[str, str] = field(default_factory=dict)


def happened(picture: Mapping[str, Any], now: datetime) -> Happened:
    """Read what happened in the day before a moment.

    Args:
        picture: what `gather.gather` returned, for its apps.
        now: the moment.

    """
    found: dict[str, list[dict[str, Any]]] = {}
    # An unreadable ledger is an alarm, which the summary has.
    with suppress(BedstoneError, OSError, sqlite3.Error), ledger.opened() as connection:
        for app in picture["apps"]:
            last = operations.last(connection, app["app"], _SEARCHED)
            found[app["app"]] = [entry for entry in last if _is_of_day(entry, now)]
    return Happened(found, alarms.ended(watch.SCOPE, now - DAY), alarms.since(watch.SCOPE))


def _is_of_day(operation: Mapping[str, Any], now: datetime) -> bool:
    moment = datetime.fromisoformat(operation["finished_at"] or operation["started_at"])
    return now - DAY <= moment <= now + DAY


def compose(picture: Mapping[str, Any], day: Happened, now: datetime) -> Event:
    """Return the summary as an event for the hooks.

    Args:
        picture: what `gather.gather` returned.
        day: what happened before.
        now: the moment it is made.

    """
    needs, later = list(picture["problems"]), _warnings(picture, day)
    parts = [
        [f"{now.astimezone(UTC):%a %Y-%m-%d %H:%M} UTC, the last 24 hours"],
        _section("Needs attention", needs),
        _section("Warnings", later),
        _section("Over since yesterday", day.ended),
        *(_app(app, day) for app in picture["apps"]),
        _section("Server", list(_server(picture, now))),
    ]
    return Event(
        kind="summary",
        title=_title(len(needs), len(later)),
        details="\n\n".join("\n".join(part) for part in parts if part),
    )


def _title(needs: int, warnings: int) -> str:
    if needs:
        return f"Daily summary: {_number(needs, 'thing')} to mend."
    if warnings:
        return f"Daily summary: all is up, {_number(warnings, 'warning')}."
    return "Daily summary: all is well."


def _number(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _section(name: str, lines: list[str]) -> list[str]:
    return [name, *(f"- {line}" for line in lines)] if lines else []


def _warnings(picture: Mapping[str, Any], day: Happened) -> list[str]:
    if picture["alarms"] is None:
        return ["the alarms couldn't be judged: `bedstone alarms`"]
    return [
        f"{alarm['words']}{_since(day.since.get(alarm['name']))}: {alarm['command']}"
        for alarm in picture["alarms"]
        if alarm["severity"] == "warning"
    ]


def _since(moment: str | None) -> str:
    return f" (for {age.since(moment)})" if moment else ""


def _app(app: Mapping[str, Any], day: Happened) -> list[str]:
    return _section(str(app["app"]), list(_app_lines(app, day)))


def _app_lines(app: Mapping[str, Any], day: Happened) -> Iterator[str]:
    down = [service["service"] for service in app["services"] if not service["ok"]]
    if app["release"] is None:
        yield "not released"
    else:
        since = f", for {age.since(app['since'])}" if app["since"] else ""
        yield f"release {app['release']} serves{since}"
    if down:
        yield f"down: {', '.join(down)}"
    done = day.operations.get(app["app"], [])
    for operation in done[:MOST_OPERATIONS]:
        yield _operation(operation)
    if len(done) > MOST_OPERATIONS:
        yield f"and {len(done) - MOST_OPERATIONS} more before"
    if not done:
        yield "nothing released"
    failed = [job["job"] for job in app["jobs"] if job["result"] == "failed"]
    if failed:
        yield f"failed jobs: {', '.join(failed)}"
    yield from _backup(app)


def _operation(operation: Mapping[str, Any]) -> str:
    moment = datetime.fromisoformat(operation["started_at"]).astimezone(UTC)
    what = f"{moment:%H:%M} {operation['kind']} {operation['release']} {operation['state']}"
    if operation["state"] == "failed":
        what += f" at {operation['failed_step']}"
    elif operation["finished_at"]:
        took = datetime.fromisoformat(operation["finished_at"]) - moment
        what += f" in {took.total_seconds():.0f} s"
    return what + (f", by {operation['caller']}" if operation["caller"] else "")


def _backup(app: Mapping[str, Any]) -> Iterator[str]:
    backup, copies, verified = app["backup"], app["copies"], app["verification"]
    if backup:
        yield _aged("backup", backup["newest"] and backup["age_seconds"])
    if copies:
        yield _aged(f"copy at {copies['destination']}", copies["newest"] and copies["age_seconds"])
    if verified:
        yield _aged("verified by a restore", verified["verified_at"] and verified["age_seconds"])


def _aged(what: str, seconds: float | None) -> str:
    return f"{what}: {f'{age.humanize(seconds)} ago' if seconds is not None else 'not yet'}"


def _server(picture: Mapping[str, Any], now: datetime) -> Iterator[str]:
    for disk in picture["disks"]:
        yield (
            f"{disk['path']}: {space.human(disk['free_bytes'])} of {space.human(disk['bytes'])}"
            f" free ({disk['free_percent']:.0f} %)"
        )
    yield from database.lines(picture["database"], _PLAIN)
    yield from wal.lines(picture["wal"], _PLAIN)
    ends = sorted(
        (datetime.fromisoformat(entry["ends_at"]), str(entry["subject"] or entry["place"]))
        for entry in picture["certificates"]
        if entry["ends_at"]
    )
    for end, subject in list(dict.fromkeys(ends))[:MOST_CERTIFICATES]:
        yield f"certificate {subject}: {(end - now).days} days left"
