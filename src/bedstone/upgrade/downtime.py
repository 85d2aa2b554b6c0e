"""Stop the apps while the database is down, and show visitors a page."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bedstone.apps import config, current, health, maintenance
from bedstone.core import names, parallel, paths
from bedstone.core.errors import BedstoneError, CommandError, RefusedError
from bedstone.release.steps.verify import front_door_path, is_right
from bedstone.system import http_check
from bedstone.system.systemd import Systemd

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bedstone.upgrade.journal import Journal

PAGE = (
    "The database behind this service is being brought to a newer version. We will be back"
    " soon. Nothing you have saved is lost."
)
_STOP_SECONDS = 300.0
_START_SECONDS = 300.0
_HEALTHY_SECONDS = 180.0
_ASK_SECONDS = 8.0


def close(journal: Journal) -> Journal:
    """Show visitors the page, then stop everything of the apps; in the journal first."""
    pages = [
        app
        for app in config.declared()
        if not maintenance.is_on(app)
        and (paths.host("/etc/nginx/bedstone/sites") / f"{app}.conf").is_file()
    ]
    units = running_units(config.declared())
    journal = journal.saved(pages=tuple(pages), units=tuple(units))
    for app in pages:
        maintenance.turn_on(app, maintenance.page(PAGE))
    # Timers first, so that no job begins during the stop.
    manager = Systemd()
    timers = [unit for unit in units if unit.endswith(".timer")]
    manager.stop(timers, timeout=_STOP_SECONDS)
    manager.stop([unit for unit in units if unit not in timers], timeout=_STOP_SECONDS)
    return journal


def start(journal: Journal) -> None:
    """Start what was stopped.

    Raises:
        BedstoneError: a unit doesn't start.

    """
    if not journal.units:
        return
    try:
        Systemd().start(journal.units, timeout=_START_SECONDS)
    except CommandError as error:
        raise BedstoneError(
            "Not all of the apps' services started again.",
            hint="See `bedstone status` and `bedstone logs APP`.",
            details=error.details,
        ) from error


def open_again(journal: Journal) -> None:
    """Remove the maintenance page."""
    for app in journal.pages:
        maintenance.turn_off(app)


def running_units(apps: Iterable[str]) -> list[str]:
    """Return the units of apps that run: services, timers of jobs."""
    found: list[str] = []
    for app in apps:
        found += Systemd().running(names.app_units(app))
    return sorted(dict.fromkeys(found))


def healthy(apps: Sequence[str]) -> list[str]:
    """Return the apps with all services running and ready."""
    return [app for app in apps if not _problems(app)]


def require_health(apps: Sequence[str], *, seconds: float = _HEALTHY_SECONDS) -> None:
    """Wait until the services of apps are healthy.

    Raises:
        BedstoneError: one isn't after so many seconds.

    """
    deadline = time.monotonic() + seconds
    for app in apps:
        while problems := _problems(app):
            if time.monotonic() > deadline:
                raise BedstoneError(
                    f"{app} isn't healthy: {problems[0]}.",
                    details="\n".join(problems[1:]),
                    hint=f"See `bedstone logs {app}`.",
                )
            time.sleep(0.5)


def front_doors(apps: Sequence[str]) -> list[str]:
    """Return what is wrong when the apps are asked through nginx, as visitors do."""
    wrong = []
    for name in apps:
        app = current.load(name).app
        for service in app.http_services:
            if service.route is None or app.main_domain is None or maintenance.is_on(name):
                continue
            path = front_door_path(service)
            answer = http_check.front_door(app.main_domain, path, app.https_port)
            wrong += [] if is_right(service, path, answer) else [f"{name}: {answer.said}"]
    return wrong


def require_no_job(apps: Iterable[str]) -> None:
    """Refuse while a job runs, which would be torn away from its work.

    Raises:
        RefusedError: says which.

    """
    running = [
        unit for unit in running_units(apps) if "-job-" in unit and unit.endswith(".service")
    ]
    if running:
        raise RefusedError(
            f"Jobs of the apps run: {', '.join(running)}.",
            hint="Wait until they are through (`systemctl status UNIT`), or stop them.",
        )


def _problems(app: str) -> list[str]:
    try:
        found = current.load(app)
    except BedstoneError as error:
        return [error.message]
    tasks = health.tasks(found, Systemd(), health.ask, _ASK_SECONDS)
    return health.problems(health.as_json(found, parallel.run(tasks, _ASK_SECONDS)))
