"""Check systemd's units: those that should run and don't, that failed, or that crash repeatedly."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

from bedstone.apps import config
from bedstone.core import age, lock, names, paths
from bedstone.notify import unit_failures
from bedstone.notify.alarms import Alarm
from bedstone.postgres.debian_cluster import AUTOMATIC, all_clusters
from bedstone.system.systemd import LIMIT_PROPERTIES, START_LIMIT, Systemd, is_at_limit
from bedstone.upgrade import journal

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

_SECONDS = 15.0
_PROPERTIES = (
    *LIMIT_PROPERTIES,
    "LoadState",
    "SubState",
    "ExecMainStatus",
    "UnitFileState",
    "OnFailure",
    "Job",
    "ActiveEnterTimestampMonotonic",
    "FragmentPath",
)
# A playbook that lays out a unit starts it within this time.
_LAID_OUT = timedelta(minutes=5)
# Names and patterns of what Bedstone's servers are made of; each is judged where it is enabled.
_NEEDED = (
    "nginx.service",
    "docker.service",
    "redis-*.service",
    "rabbitmq-server.service",
    "bedstone-pool.service",
    "bedstone-exporter-*.service",
    "bedstone-metrics-proxy.service",
)
# A service that restarted twice in an hour is no problem yet.
MOST_RESTARTS = 3
# A loop is over when it was silent for so long.
_SPAN = timedelta(hours=2)
_MOST_SAMPLES = 4
_SPACING = timedelta(minutes=30)
# Failed by their nature in a container, which has neither modules nor devices.
_MACHINE = ("systemd-", "kmod", "modprobe@")


@dataclass(frozen=True)
class Sample:
    """The restarts of each service by systemd, counted at a moment."""

    at: datetime
    restarts: Mapping[str, int]

    def as_json(self) -> dict[str, Any]:
        """Return it as it is kept from one look to the next."""
        return {"at": self.at.isoformat(), "restarts": dict(self.restarts)}


@dataclass(frozen=True)
class Units:
    """The loaded services.

    Attributes:
        shown: systemd's properties of each.
        needed: those that have to run.
        samples: what earlier looks have seen.
        fresh: those of the needed whose file is new, and which have never run.
        container: whether this server is a container.
        apps: the declared apps with the names of their services.

    """

    shown: Mapping[str, Mapping[str, str]]
    needed: Sequence[str] = ()
    samples: Sequence[Sample] = field(default_factory=tuple)
    fresh: Collection[str] = ()
    container: bool = False
    apps: Mapping[str, Collection[str]] = field(default_factory=dict)

    def sample(self, now: datetime) -> Sample:
        """Return what the next looks compare with."""
        counts = {unit: _restarts(state) for unit, state in self.shown.items()}
        return Sample(now, {unit: count for unit, count in counts.items() if count})


def gather(samples: Sequence[Sample], systemd: Systemd | None = None) -> Units:
    """Ask systemd for all services that it has loaded."""
    systemd = systemd or Systemd()
    clusters = []
    # An upgrade stops them on purpose.
    if lock.owner(journal.LOCK) is None:
        clusters = [each.unit for each in all_clusters() if each.starts() == AUTOMATIC]
    shown = systemd.properties(["*.service", *_NEEDED, *clusters], _PROPERTIES, timeout=_SECONDS)
    needed = [unit for unit in shown if any(fnmatch(unit, pattern) for pattern in _NEEDED)]
    needed += clusters
    fresh = [unit for unit in needed if unit in shown and _is_fresh(shown[unit])]
    return Units(shown, needed, samples, fresh, in_container(), config.declared_parts())


def _is_fresh(state: Mapping[str, str]) -> bool:
    if state.get("ActiveEnterTimestampMonotonic") != "0" or not state.get("FragmentPath"):
        return False
    try:
        laid_out = paths.host(state["FragmentPath"]).stat().st_mtime
    except OSError:
        return False
    return 0 <= time.time() - laid_out < _LAID_OUT.total_seconds()


def judge(found: Units, now: datetime) -> Iterator[Alarm]:
    """Yield what is wrong with services."""
    for unit, state in sorted(found.shown.items()):
        active = state.get("ActiveState", "")
        down = active not in {"active", "activating", "reloading", "refreshing", "deactivating"}
        if alarm := _given_up(unit, state, found) or _looping(unit, state, found, now):
            yield alarm
        elif unit in found.needed:
            # A job is on its way where it is being restarted.
            coming = state.get("Job", "") not in {"", "0"} or unit in found.fresh
            if down and not coming and _is_meant_to_run(unit, state):
                yield Alarm(
                    f"units/{unit}",
                    "red",
                    f"{_called(unit)} doesn't run ({active or 'unknown'})",
                    f"`journalctl -u {unit} -n 50` says why, `systemctl start {unit}` starts it",
                )
        elif active == "failed" and not _is_told_otherwise(unit, state, found):
            why = unit_failures.why(state.get("Result", ""), state.get("ExecMainStatus", ""))
            yield Alarm(
                f"units/{unit}",
                "warning",
                f"{unit} has failed: {why}",
                f"`journalctl -u {unit} -n 50` says why, `systemctl restart {unit}` tries again",
            )


def _given_up(unit: str, state: Mapping[str, str], found: Units) -> Alarm | None:
    """Return the alarm for a unit that systemd doesn't start again, though the hooks were told."""
    if not is_at_limit(state) or (found.container and unit.startswith(_MACHINE)):
        return None
    app = names.app_of_slot_unit(unit, found.apps)
    again = (
        f"`bedstone restart {app}` starts it again, `bedstone rollback {app}` brings the release"
        " before"
        if app
        else f"`systemctl reset-failed {unit} && systemctl start {unit}` tries again"
    )
    return Alarm(
        f"units/{unit}",
        "red",
        f"{unit} stays stopped: {unit_failures.why(START_LIMIT, '')}",
        f"`journalctl -u {unit} -n 50` says why, {again}",
        app,
    )


def _looping(unit: str, state: Mapping[str, str], found: Units, now: datetime) -> Alarm | None:
    count = _restarts(state)
    recent = [sample for sample in found.samples if timedelta(0) <= now - sample.at <= _SPAN]
    base = min(recent, key=lambda sample: sample.at, default=None)
    # systemd begins to count again when a unit is started by hand.
    before = min(base.restarts.get(unit, 0), count) if base else count
    grown = count - before
    waits = state.get("SubState") == "auto-restart"
    if grown < MOST_RESTARTS and not (waits and count >= MOST_RESTARTS):
        return None
    often = f"{count} times"
    if grown >= MOST_RESTARTS and base:
        often = f"{grown} times in {age.humanize((now - base.at).total_seconds())}"
    app = names.app_of_slot_unit(unit, found.apps)
    back = f", `bedstone rollback {app}` brings the release before" if app else ""
    return Alarm(
        f"units/{unit}",
        "red",
        f"{unit} crashes again and again: systemd has restarted it {often}",
        f"`journalctl -u {unit} -n 50` says why{back}",
        app,
    )


def _is_meant_to_run(unit: str, state: Mapping[str, str]) -> bool:
    # A cluster's unit is enabled by Debian's generator, which leaves no such state.
    return state.get("LoadState") == "loaded" and (
        unit.startswith("postgresql@") or state.get("UnitFileState", "").startswith("enabled")
    )


def _is_told_otherwise(unit: str, state: Mapping[str, str], found: Units) -> bool:
    # The failure was reported to the hooks already; updates are judged by another check.
    told = "bedstone-failed@" in state.get("OnFailure", "") or unit.startswith("apt-daily")
    return told or (found.container and unit.startswith(_MACHINE))


def _called(unit: str) -> str:
    if unit.startswith("postgresql@"):
        return f"PostgreSQL ({unit})"
    return unit


def _restarts(state: Mapping[str, str]) -> int:
    text = state.get("NRestarts", "")
    return int(text) if text.isdigit() else 0


def kept(samples: Sequence[Sample], new: Sample) -> list[Sample]:
    """Return the samples that the next looks need."""
    recent = [sample for sample in samples if timedelta(0) <= new.at - sample.at <= _SPAN]
    if recent and new.at - recent[-1].at < _SPACING:
        # A look between the hourly ones must not push out what restarts are counted from.
        return recent
    return [*recent, new][-_MOST_SAMPLES:]


def samples_of(data: Any) -> list[Sample]:
    """Read what :meth:`Sample.as_json` has written; nothing when it is damaged."""
    try:
        return [
            Sample(
                datetime.fromisoformat(entry["at"]).astimezone(UTC),
                {str(unit): int(count) for unit, count in entry["restarts"].items()},
            )
            for entry in data
        ]
    except (KeyError, TypeError, ValueError, AttributeError):
        return []


def in_container() -> bool:
    """Return whether this server is a container: then its kernel and clock are the machine's."""
    return paths.host("/run/systemd/container").exists()
