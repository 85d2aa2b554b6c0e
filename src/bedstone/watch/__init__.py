"""Check each hour for conditions that need an operator: one table of checks.

A check gathers facts and judges them. A program or file that it needs may fail, hang or be missing:
then the check has no result, which is a separate alarm, and the others are judged all the same.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from bedstone.core import files, parallel, paths
from bedstone.core.errors import BedstoneError
from bedstone.notify.alarms import Alarm
from bedstone.watch import (
    acme,
    certificates,
    disks,
    egress,
    firewall,
    images,
    immutable,
    liveness,
    logs,
    machine,
    packages,
    pool,
    replication,
    units,
    uploads,
)

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

SCOPE = "server"
SECONDS = 60.0
# A look each hour, and one that was missed.
STALE_SECONDS = 3 * 3600
_SCHEMA = 1


@dataclass(frozen=True)
class Check:
    """One line of the table.

    Attributes:
        name: begins the names of its alarms.
        title: what it judges, for "couldn't be judged".
        gather: returns facts; None when another check says why there are none.
        judge: yields what is wrong with them, a pure function of facts and time.

    """

    name: str
    title: str
    gather: Callable[[], Any]
    judge: Callable[[Any, datetime], Iterable[Alarm]]


@dataclass(frozen=True)
class Look:
    """The results of one run of the checks.

    Attributes:
        at: when.
        alarms: what is wrong, the worst first.
        unjudged: names of the checks that found nothing out.
        facts: what was gathered, by check.

    """

    at: datetime
    alarms: list[Alarm]
    unjudged: list[str]
    facts: Mapping[str, Any] = field(default_factory=dict)


def checks(samples: Sequence[units.Sample] = ()) -> list[Check]:
    """Return all checks; ``samples`` is what earlier looks have counted."""
    return [
        Check("units", "services", lambda: units.gather(samples), units.judge),
        Check("liveness", "services that don't answer", liveness.gather, liveness.judge),
        Check("disks", "room on the disks", disks.usage, machine.judge_disks),
        Check("certificates", "certificates", certificates.gather, certificates.judge),
        Check("acme", "certificates by ACME", acme.gather, acme.judge),
        Check("firewall", "the firewall", firewall.gather, firewall.judge),
        Check("egress", "where apps connect to", egress.gather, egress.judge),
        Check("immutable", "immutable destinations", immutable.gather, immutable.judge),
        Check("pool", "the pools of connections", pool.gather, pool.judge),
        Check("uploads", "backups of uploads", uploads.gather, uploads.judge),
        Check("replication", "copies of the databases", replication.gather, replication.judge),
        Check("logs", "logs on their way", logs.gather, logs.judge),
        Check("clock", "the clock", machine.gather_clock, machine.judge_clock),
        Check("dpkg", "installed packages", packages.gather_dpkg, packages.judge_dpkg),
        Check("upgrades", "daily upgrades", packages.gather_upgrades, packages.judge_upgrades),
        Check("reboot", "reboots", machine.gather_reboot, machine.judge_reboot),
        Check("libraries", "replaced files", packages.gather_libraries, packages.judge_libraries),
        Check("images", "the age of images", images.gather, images.judge),
        Check("former", "data put aside", machine.gather_former, machine.judge_former),
        Check("growth", "ledger and journal", machine.gather_growth, machine.judge_growth),
    ]


def run_checks(table: Sequence[Check] | None = None, *, seconds: float = SECONDS) -> Look:
    """Run all checks at the same time.

    Args:
        table: the checks; all by default, which count restarts since the last hourly looks.
        seconds: what hasn't answered by then couldn't be judged.

    """
    if table is None:
        table = checks(units.samples_of((last() or {}).get("samples", ())))
    now = datetime.now(UTC)
    tasks: dict[Hashable, Callable[[], Any]] = {check.name: _attempt(check, now) for check in table}
    found = parallel.run(tasks, seconds)
    alarms: list[Alarm] = []
    unjudged, facts = [], {}
    for check in table:
        result = found.get(check.name) or _Result(error=f"no answer in {seconds:g} seconds")
        facts[check.name] = result.facts
        alarms += result.alarms
        if result.error is not None:
            alarms.append(
                Alarm(
                    f"{check.name}/unjudged",
                    "warning",
                    f"{check.title} couldn't be judged: {result.error}",
                    "`bedstone alarms` tries again",
                )
            )
        if result.error is not None or result.facts is None:
            unjudged.append(check.name)
    alarms.sort(key=lambda alarm: alarm.severity != "red")
    return Look(now, alarms, unjudged, facts)


@dataclass(frozen=True)
class _Result:
    facts: Any = None
    alarms: list[Alarm] = field(default_factory=list)
    error: str | None = None


def _attempt(check: Check, now: datetime) -> Callable[[], _Result]:
    def attempt() -> _Result:
        try:
            facts = check.gather()
            return _Result(facts, [] if facts is None else list(check.judge(facts, now)))
        except BedstoneError as error:
            return _Result(error=error.message)
        except Exception as error:  # noqa: BLE001 - one check must not end the others
            return _Result(error=f"{type(error).__name__}: {error}")

    return attempt


# --- The last hourly look ------------------------------------------------------------------------


def save(found: Look) -> None:
    """Save the results of the hourly check, for the metrics and for the next check."""
    before = units.samples_of((last() or {}).get("samples", ()))
    counted = found.facts.get("units")
    if isinstance(counted, units.Units):
        before = units.kept(before, counted.sample(found.at))
    document = {
        "schema": _SCHEMA,
        "at": found.at.isoformat(),
        "alarms": [alarm.as_json() for alarm in found.alarms],
        "unjudged": found.unjudged,
        "certificates": [entry.as_json() for entry in found.facts.get("certificates") or ()],
        "samples": [sample.as_json() for sample in before],
    }
    # Alarms are sent on a full disk, too.
    with suppress(OSError):
        paths.ensure_private(_path().parent)
        files.write(_path(), json.dumps(document), mode=0o600)


def last() -> dict[str, Any] | None:
    """Return what :func:`save` has kept, or None when there is nothing that can be read."""
    try:
        document = json.loads(_path().read_text(encoding="utf-8"))
        datetime.fromisoformat(document["at"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return dict(document) if document.get("schema") == _SCHEMA else None


def stale(now: datetime | None = None) -> list[Alarm]:
    """Return an alarm when the hourly look has not been made for hours, else nothing.

    A server that was started a short time ago, and one without the timer, have none to miss.
    """
    if not paths.host("/etc/systemd/system/bedstone-alarms.timer").exists():
        return []
    now = now or datetime.now(UTC)
    found = last()
    since = datetime.fromisoformat(found["at"]) if found else None
    installed = paths.host("/etc/systemd/system/bedstone-alarms.timer").stat().st_mtime
    old = now.timestamp() - max(since.timestamp() if since else 0.0, installed)
    if min(old, _up_seconds()) < STALE_SECONDS:
        return []
    return [
        Alarm(
            "watch/stale",
            "red",
            "the hourly look for alarms wasn't made for hours: no alarm is sent",
            "`systemctl status bedstone-alarms.timer bedstone-alarms.service`",
        )
    ]


def _up_seconds() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _path() -> Any:
    return paths.state() / "alarms" / "last.json"
