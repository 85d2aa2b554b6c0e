"""Collect the state of the apps and the server within seconds.

A part that exceeds its limit (a service that doesn't answer, a busy Docker) is left out and delays
no other.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bedstone import watch
from bedstone.apps import config, current, health, jobs, maintenance
from bedstone.backup import retention_held, status
from bedstone.core import parallel
from bedstone.core.errors import BedstoneError
from bedstone.ledger import database as ledger
from bedstone.ledger import releases
from bedstone.offsite import freshness as destinations
from bedstone.release import retire
from bedstone.status import database, images, operations, written
from bedstone.system.container import LABEL_APP
from bedstone.system.docker import Docker
from bedstone.system.systemd import Systemd
from bedstone.upgrade import status as upgrades
from bedstone.verify import status as verifications
from bedstone.wal import status as wal
from bedstone.watch.machine import LEDGER_ALARM

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Hashable, Sequence

    from bedstone.apps.current import Current
    from bedstone.apps.health import Asks

SECONDS = 8.0
LAST_OPERATIONS = 3
_SHARE = 0.8


@dataclass
class Tools:
    """The programs that inspect the server; tests replace them by fakes."""

    systemd: Systemd = field(default_factory=Systemd)
    docker: Docker = field(default_factory=Docker)
    asks: Asks = health.ask
    seconds: float = SECONDS
    database: Callable[[], dict[str, Any] | None] = database.look
    wal: Callable[[], dict[str, Any] | None] = wal.wal_status
    upgrades: Callable[[], dict[str, Any] | None] = upgrades.upgrade_status
    alarms: Callable[..., watch.Look] = watch.run_checks


def gather(tools: Tools | None = None) -> dict[str, Any]:
    """Return the whole picture, as `bedstone status --json` prints it."""
    tools = tools or Tools()
    unreadable = ledger.problem()
    with closing(ledger.connect()) as connection:
        names = sorted({*config.declared(), *releases.known_apps(connection)})
        apps = [_App(name, connection) for name in names]
    tasks: dict[Hashable, Callable[[], Any]] = {}
    for app in apps:
        tasks |= app.tasks(tools)
    if apps:
        tasks["docker"] = lambda: tools.docker.containers(LABEL_APP)
        tasks["images"] = lambda: images.usage(tools.docker, [app.name for app in apps])
    tasks["database"] = tools.database
    tasks["wal"] = tools.wal
    tasks["upgrades"] = tools.upgrades
    # It says itself what didn't answer in time.
    tasks["alarms"] = lambda: tools.alarms(seconds=tools.seconds * _SHARE)
    found = parallel.run(tasks, tools.seconds)
    shown = [app.as_json(found) for app in apps]
    seen = found.get("alarms")
    alarms = [*watch.stale(), *(seen.alarms if seen else ())]
    deaf = bool(apps) and "docker" not in found
    return {
        "ok": all(app["ok"] for app in shown) and not deaf,
        "problems": [
            *([unreadable] if unreadable else []),
            *(["Docker doesn't answer: `systemctl status docker`"] if deaf else []),
            *(f"{app['app']}: {problem}" for app in shown for problem in app["problems"]),
            *_retention_problems(),
            *(
                alarm.text()
                for alarm in alarms
                if alarm.severity == "red" and alarm.name != LEDGER_ALARM
            ),
            *database.problems(found.get("database")),
            *wal.problems(found.get("wal")),
            *verifications.wal_problems(),
            *upgrades.problems(found.get("upgrades")),
        ],
        "apps": shown,
        "retired": [
            {
                "app": app,
                "since": since.isoformat(timespec="seconds"),
                "kept_until": retire.until(since).isoformat(timespec="seconds"),
            }
            for app, since in retire.retired().items()
        ],
        "alarms": [alarm.as_json() for alarm in alarms] if seen else None,
        "certificates": [
            entry.as_json() for entry in (seen.facts.get("certificates") if seen else None) or ()
        ],
        "disks": (seen.facts.get("disks") if seen else None) or [],
        "database": found.get("database"),
        "wal": found.get("wal"),
        "wal_verifications": verifications.of_wal(),
        "upgrades": found.get("upgrades"),
        "replication": (seen.facts.get("replication") if seen else None) or None,
    }


class _App:
    """One app: what the ledger says at once, and what has to be asked for."""

    def __init__(self, name: str, connection: sqlite3.Connection) -> None:
        self.name = name
        self.error: str | None = None
        self.current: Current | None = None
        self.serving = releases.serving(connection, name)
        entry = self.serving and releases.get(connection, name, self.serving.release)
        self.version = entry.version if entry else None
        self.operations = operations.last(connection, name, LAST_OPERATIONS)
        self.since = operations.serving_since(connection, name, self.serving)
        self.first_served = operations.first_served(connection, name)
        self.running = operations.running(name)
        if self.serving is not None:
            try:
                self.current = current.load(name)
            except BedstoneError as error:
                self.error = error.message
        try:
            self.jobs = list(jobs.declared(name).values())
        except BedstoneError as error:
            self.jobs = []
            self.error = self.error or error.message

    def tasks(self, tools: Tools) -> dict[Hashable, Callable[[], Any]]:
        """Return what is to be asked, all at the same time."""
        tasks: dict[Hashable, Callable[[], Any]] = {
            ("backup", self.name): lambda: status.app_status(self.name, self.first_served),
            ("copies", self.name): lambda: destinations.app_status(self.name),
            ("verification", self.name): lambda: verifications.app_status(
                self.name, self.first_served
            ),
        }
        if self.jobs:
            tasks["jobs", self.name] = lambda: jobs.states(
                self.name, self.jobs, tools.systemd, timeout=tools.seconds
            )
        if self.current is not None:
            tasks |= health.tasks(self.current, tools.systemd, tools.asks, tools.seconds)
            serves = self.current
            tasks["written", self.name] = lambda: written.written_files(tools.docker, serves)
        return tasks

    def as_json(self, found: dict[Hashable, Any]) -> dict[str, Any]:
        """Return the app's part of the picture."""
        shown = health.as_json(self.current, found) if self.current is not None else []
        states = [state.as_json() for state in found.get(("jobs", self.name)) or []]
        backup = found.get(("backup", self.name))
        copies = found.get(("copies", self.name))
        verification = found.get(("verification", self.name))
        sizes = found.get("images") or {}
        page_since = maintenance.since(self.name)
        problems = [
            *([self.error] if self.error else []),
            *([] if self.serving else ["it isn't released"]),
            *health.problems(shown),
            *_job_problems(states),
            *operations.problems(self.operations, self.running),
            *([backup["problem"]] if backup and backup["problem"] else []),
            *([copies["problem"]] if copies and copies["problem"] else []),
            *([verification["problem"]] if verification and verification["problem"] else []),
        ]
        return {
            "app": self.name,
            "ok": bool(shown) and not self.error and all(service["ok"] for service in shown),
            "problems": problems,
            "error": self.error,
            "release": self.serving.release if self.serving else None,
            "version": self.version,
            "slot": self.serving.slot if self.serving else None,
            "since": self.since,
            "domains": list(self.current.app.domains) if self.current else [],
            "maintenance_since": page_since.isoformat(timespec="seconds") if page_since else None,
            "services": shown,
            "jobs": states,
            "running": self.running,
            "operations": self.operations,
            "images": sizes.get(self.name),
            "written": found.get(("written", self.name)) or [],
            "backup": backup,
            "copies": copies,
            "verification": verification,
        }


def _retention_problems() -> list[str]:
    try:
        said = retention_held.sentence()
    except BedstoneError as error:
        return [error.message]
    return [said] if said else []


def _job_problems(states: Sequence[dict[str, Any]]) -> list[str]:
    failed = [state["job"] for state in states if state["result"] == "failed"]
    missing = [state["job"] for state in states if not state["installed"]]
    return [f"the job {job} failed" for job in failed] + [
        f"the job {job} isn't installed" for job in missing
    ]
