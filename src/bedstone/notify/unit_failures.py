"""Describe a systemd unit that has failed."""

from __future__ import annotations

import os
import re
import sqlite3
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from bedstone.apps import config
from bedstone.core import names, reason
from bedstone.core.errors import BedstoneError
from bedstone.core.process import Runner
from bedstone.ledger import database, releases
from bedstone.notify.events import Event
from bedstone.system import container_hints
from bedstone.system.systemd import LIMIT_PROPERTIES, START_LIMIT, Systemd, is_at_limit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_LINES = 30
_SYSTEMD_SECONDS = 15.0
# How long systemd may wait before it starts a failed unit again (RestartSec), and how often to ask.
_RESTART_SECONDS, _PAUSE_SECONDS = 30.0, 0.2
_RESULTS = {
    "exit-code": "it ended with exit code {status}",
    "signal": "it was ended by signal {status}",
    "core-dump": "it crashed with signal {status}",
    "timeout": "it took longer than it may",
    "watchdog": "it didn't answer its watchdog",
    "oom-kill": "it ran out of memory",
    START_LIMIT: "it failed too often in a row",
    "resources": "systemd couldn't start it",
}


def is_restarted(
    unit: str, runner: Runner | None = None, sleep: Callable[[float], None] = time.sleep
) -> bool:
    """Return whether systemd starts a failed unit again by itself; waits until that is known.

    systemd (from 254 on) starts the units of `OnFailure=` at each failure, also of a unit with
    `Restart=`. A limit of starts is hit a second after the last failure, so one run tells both.
    """
    systemd = Systemd() if runner is None else Systemd(runner)
    for _ in range(round(_RESTART_SECONDS / _PAUSE_SECONDS)):
        shown = _shown(systemd, _service(unit), ("ActiveState", "SubState", "Restart"))
        if shown.get("Restart", "no") == "no":
            return False
        # `auto-restart-queued` too.
        if "auto-restart" not in shown.get("SubState", ""):
            break
        sleep(_PAUSE_SECONDS)
    return shown.get("ActiveState") != "failed"


def _service(unit: str) -> str:
    return unit if re.search(r"\.[a-z]+$", unit) else f"{unit}.service"


def _shown(systemd: Systemd, unit: str, properties: Sequence[str]) -> dict[str, str]:
    # A server in trouble is none to be silent about.
    with suppress(BedstoneError):
        return systemd.properties([unit], properties, timeout=_SYSTEMD_SECONDS).get(unit, {})
    return {}


def event_of(unit: str, runner: Runner | None = None) -> Event:
    """Return the event of a failed unit, with the end of what it wrote to the journal."""
    name = _service(unit)
    systemd = Systemd() if runner is None else Systemd(runner)
    # systemd passes the failure in variables to the unit that it starts on one: by now the unit may
    # have been started again.
    told = os.environ if os.environ.get("MONITOR_UNIT") == name else {}
    shown = _shown(systemd, name, ("ExecMainStatus", "InvocationID", *LIMIT_PROPERTIES))
    result = told.get("MONITOR_SERVICE_RESULT") or shown.get("Result", "")
    if is_at_limit(shown):
        # Told of the last failure, and the limit was hit since.
        result = START_LIMIT
    status = told.get("MONITOR_EXIT_STATUS") or shown.get("ExecMainStatus", "")
    run_id = told.get("MONITOR_INVOCATION_ID") or shown.get("InvocationID", "")
    app, what = about(name)
    lines = systemd.journal([name], lines=_LINES, invocation=run_id or None)
    cause = reason.exception(lines) if app is not None else None
    known = container_hints.of_database(lines) if app is not None else None
    hint = f"All it wrote: `journalctl -u {name}`; its state: `systemctl status {name}`."
    return Event(
        kind="failure",
        app=app,
        title=f"{what} failed.",
        error=f"{why(result, status)}." + (f" {cause}" if cause else ""),
        hint=f"{known} {hint}" if known else hint,
        details=lines,
        release=_serving(app),
    )


def why(result: str, status: str) -> str:
    """Return systemd's `Result` and exit status in words: "it ended with exit code 3"."""
    return _RESULTS.get(result, result or "systemd doesn't know why").format(status=status)


def about(unit: str) -> tuple[str | None, str]:
    """Return the app that a unit belongs to, if any, and what it is, for a sentence."""
    if unit == names.BACKUP_UNIT:
        return None, "The backup"
    if found := names.parse_unit(unit, _apps()):
        what = {
            "operation": f"A release, rollback or restart of {found.app}",
            "first backup": f"The first backup of {found.app}",
        }.get(found.kind, f"The {found.kind} {found.name} of {found.app}")
        return found.app, what
    return None, f"The unit {unit}"


def _apps() -> dict[str, set[str]]:
    known = config.declared_parts()
    # A damaged ledger or a full disk is no reason to be silent about a failure.
    with suppress(BedstoneError, OSError, sqlite3.Error), database.opened() as connection:
        known = {app: set() for app in releases.known_apps(connection)} | known
    return known


def _serving(app: str | None) -> str | None:
    if app is None:
        return None
    with suppress(BedstoneError, OSError, sqlite3.Error), database.opened() as connection:
        serving = releases.serving(connection, app)
        return serving.release if serving else None
    return None
