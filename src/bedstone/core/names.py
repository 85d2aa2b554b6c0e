"""Names of units, containers, images and networks: built and parsed here alone.

Apps, services and jobs are named alike (``fields.NAME``), dashes included.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

HTTP_SLOTS = ("blue", "green")

# Of the whole server, not of one app.
BACKUP_UNIT = "bedstone-backup.service"
COPY_UNIT = "bedstone-copy.service"
UPLOADS_UNIT = "bedstone-uploads.service"
FULL_BACKUP_UNIT = "bedstone-wal-full.service"
INCREMENTAL_BACKUP_UNIT = "bedstone-wal-incremental.service"
UPGRADE_UNIT = "bedstone-upgrade.service"
# Logs in from a standby, with a certificate and no password.
REPLICATION_ROLE = "bedstone_replication"
BUILD_SLICE = "bedstone-build.slice"

_PREFIX = "bedstone-"
_OPERATION = "bedstone-operation@"
_FIRST_BACKUP = "bedstone-first-backup-"
_BRIDGE_CHARACTERS = 12


class Unit(NamedTuple):
    """A parsed name of a unit.

    Attributes:
        kind: "operation", "first backup", "job" or "service".
        app: the app that it belongs to.
        name: of the job, or ``SERVICE@SLOT``; the app's for the other kinds.

    """

    kind: str
    app: str
    name: str


def slot_unit(app: str, key: str) -> str:
    """Return the unit of ``SERVICE@SLOT``."""
    return f"{_PREFIX}{app}-{key}.service"


def slot_unit_template(app: str, service: str) -> str:
    """Return the template unit of a service: its instances are the slots."""
    return f"{_PREFIX}{app}-{service}@.service"


def slot_units(app: str, service: str) -> str:
    """Return the pattern that matches the units of a service's slots."""
    return f"{_PREFIX}{app}-{service}@*"


def app_units(app: str) -> str:
    """Return the pattern that matches the units of an app's services and jobs."""
    return f"{_PREFIX}{app}-*"


def job_unit(app: str, job: str) -> str:
    """Return the service that runs a job."""
    return f"{_PREFIX}{job_name(app, job)}.service"


def job_timer(app: str, job: str) -> str:
    """Return the timer that starts a job."""
    return f"{_PREFIX}{job_name(app, job)}.timer"


def job_name(app: str, job: str) -> str:
    """Return the part of a job's names after ``bedstone-``."""
    return f"{app}-job-{job}"


def operation_unit(app: str) -> str:
    """Return the service that runs an app's releases, rollbacks and restarts."""
    return f"{_OPERATION}{app}.service"


def first_backup_unit(app: str) -> str:
    """Return the transient service of the backup that follows an app's first release."""
    return f"{_FIRST_BACKUP}{app}.service"


def failure_unit(unit: str) -> str:
    """Return the service that reports the failure of a unit."""
    return f"bedstone-failed@{unit}.service"


def verify_timer(origin: str | None) -> str:
    """Return the timer of verification: of another server's backups, or this one's."""
    return f"bedstone-verify@{origin}.timer" if origin else "bedstone-verify.timer"


def parse_unit(unit: str, apps: Mapping[str, Collection[str]]) -> Unit | None:
    """Return what a unit of an app is, or None: it belongs to no app.

    Names hold dashes: `bedstone-a-b-web@1` is `b-web` of `a`, or `web` of `a-b`. The app that has
    such a service or job is it; where none is known to, the app with the longest name.

    Args:
        unit: with its suffix.
        apps: all apps that are known, with the names of their services and jobs.

    """
    plain = unit.removesuffix(".service")
    for kind, prefix in (("operation", _OPERATION), ("first backup", _FIRST_BACKUP)):
        if plain.startswith(prefix):
            app = plain.removeprefix(prefix)
            return Unit(kind, app, app)
    rest = plain.removeprefix(_PREFIX)
    if rest == plain:
        return None
    fitting = [
        _part(app, rest.removeprefix(f"{app}-"))
        for app in sorted(apps, key=len, reverse=True)
        if rest.startswith(f"{app}-")
    ]
    has_it = [part for part in fitting if part.name.partition("@")[0] in apps[part.app]]
    return next(iter((*has_it, *fitting)), None)


def _part(app: str, rest: str) -> Unit:
    # A service may be called job-something; only services have slots.
    if rest.startswith("job-") and "@" not in rest:
        return Unit("job", app, rest.removeprefix("job-"))
    return Unit("service", app, rest)


def app_of_slot_unit(unit: str, apps: Mapping[str, Collection[str]]) -> str | None:
    """Return the app whose slot a unit runs, or None: it is another unit.

    Args:
        unit: with its suffix.
        apps: as :func:`parse_unit` takes them.

    """
    found = parse_unit(unit, apps)
    return found.app if found and found.kind == "service" and "@" in found.name else None


def http_slot(serving: str, replica: int) -> str:
    """Return the slot of a replica on one side: `blue`, `blue-2`, `blue-3`..."""
    return serving if replica == 1 else f"{serving}-{replica}"


def replica(slot: str) -> str:
    """Return the number of a slot's replica: of `blue-2` and of `2` it is `2`, of `blue` `1`."""
    number = slot.rpartition("-")[2]
    return number if number.isdecimal() else "1"


def slot_container(app: str, service: str, slot: str) -> str:
    """Return the name of a slot's container."""
    return f"{_PREFIX}{app}-{service}-{slot}"


def command_container(app: str, kind: str) -> str:
    """Return the name of the container of a one-off command: ``check``, ``run-1a2b``."""
    return f"{_PREFIX}{app}-{kind}"


def network(app: str) -> str:
    """Return the name of an app's Docker network."""
    return f"{_PREFIX}{app}"


def bridge(app: str) -> str:
    """Return the interface of an app's network, which the firewall's rules for the app name.

    The kernel takes 15 characters. Docker's own names are ``br-`` and twelve hexadecimal digits.
    """
    if len(app) <= _BRIDGE_CHARACTERS and not set(app) <= set("0123456789abcdef"):
        return f"br-{app}"
    digest = hashlib.sha256(app.encode()).hexdigest()
    return f"br-{app[:5]}-{digest[: _BRIDGE_CHARACTERS - 6]}"


def image_repository(app: str) -> str:
    """Return the repository of an app's images, in Docker on its server."""
    return f"bedstone/{app}"


def image(app: str, release: str, service: str = "") -> str:
    """Return the name of a release's image: the app's, or that of a service with its own."""
    return f"{image_repository(app)}:{release}{f'.{service}' if service else ''}"


def is_image_of(tag: str, releases: Collection[str]) -> bool:
    """Return whether a tag of an app's images belongs to one of its releases."""
    # No service has a dot in its name.
    return tag in releases or tag.rpartition(".")[0] in releases
