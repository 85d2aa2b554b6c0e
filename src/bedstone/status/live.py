"""Measure what changes from minute to minute: the apps' containers and the length of queues.

Unlike :mod:`bedstone.status.metrics` this asks Docker, systemd, Redis and RabbitMQ, each with a
limit. A part that fails doesn't affect the others and is reported by
``bedstone_collector_success``.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from bedstone.apps import config, current
from bedstone.core import files, names, paths
from bedstone.core.errors import BedstoneError, ConfigError
from bedstone.ledger import database, releases
from bedstone.status.metrics import COLLECTOR_HELP
from bedstone.status.prometheus import Family
from bedstone.system import cgroup, queues
from bedstone.system.container import LABEL_APP, LABEL_SERVICE, LABEL_SLOT
from bedstone.system.docker import Docker
from bedstone.system.systemd import Systemd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

SCHEMA = 1
_SETTINGS = "/etc/bedstone/metrics/live.json"
# What dockerd said before, since it forgets: OOM kills of each service, and up to when.
_STATE = "/var/lib/bedstone/live-metrics.json"
_SECONDS = 10.0


class Collector:
    """Gathers all families; each part fills its own."""

    def __init__(
        self,
        now: datetime | None = None,
        docker: Docker | None = None,
        systemd: Systemd | None = None,
    ) -> None:
        self.now = now or datetime.now(UTC)
        self.errors: list[str] = []
        self._docker, self._systemd = docker or Docker(), systemd or Systemd()
        self._families: dict[str, Family] = {}

    def gather(self) -> list[Family]:
        """Return every metric, of what the settings ask for.

        Raises:
            ConfigError: the settings are damaged.

        """
        settings = _settings()
        parts: dict[str, Callable[[], None]] = {}
        if settings.get("containers", False):
            parts |= {"containers": self._containers, "oom_kills": self._oom_kills}
        for number, queue in enumerate(settings.get("queues", ())):
            label = f"queue {queue['queue']} of {queue['app']}"
            if "socket" in queue:
                parts[label] = partial(self._redis, queue)
            elif not any("vhost" in each for each in settings["queues"][:number]):
                parts["queues of RabbitMQ"] = partial(self._rabbitmq, settings["queues"])
        for name, part in parts.items():
            good = self._attempt(name, part)
            self._add("bedstone_collector_success", COLLECTOR_HELP, good, collector=name)
        self._add(
            "bedstone_live_metrics_timestamp_seconds",
            "When containers and queues were measured.",
            self.now.timestamp(),
        )
        return list(self._families.values())

    def _attempt(self, name: str, part: Callable[[], None]) -> bool:
        try:
            part()
        except (BedstoneError, sqlite3.Error, OSError, ValueError, KeyError) as error:
            self.errors.append(f"{name}: {error}")
            return False
        return True

    def _add(self, name: str, text: str, value: float | None, **labels: str | None) -> None:
        self._families.setdefault(name, Family(name, text)).add(value, **labels)

    # --- containers --------------------------------------------------------------------

    def _containers(self) -> None:
        """Report what runs of each app's serving release, and what it uses."""
        slots = list(_slots())
        if not slots:
            return
        units = {slot: names.slot_unit(slot[0], f"{slot[1]}@{slot[2]}") for slot in slots}
        shown = self._systemd.properties(
            list(units.values()), ("ActiveState", "NRestarts"), timeout=_SECONDS
        )
        for slot, unit in units.items():
            state = shown.get(unit, {})
            labels = _labels(*slot)
            self._add(
                "bedstone_container_running",
                "Whether a container of the serving release runs and is healthy.",
                state.get("ActiveState") == "active",
                **labels,
            )
            self._add(
                "bedstone_container_restarts_total",
                "How often systemd started it again, since a release or an operator did.",
                int(state.get("NRestarts") or 0),
                **labels,
            )
        pids = self._docker.pids(LABEL_APP)
        for slot in slots:
            pid = pids.get(names.slot_container(*slot))
            found = cgroup.usage(pid) if pid else None
            if found is not None:
                self._usage(found, _labels(*slot))

    def _usage(self, found: cgroup.Usage, labels: Mapping[str, str]) -> None:
        self._add(
            "bedstone_container_memory_bytes",
            "Memory in use, without the file cache that the kernel would give up first.",
            found.memory_bytes,
            **labels,
        )
        self._add(
            "bedstone_container_memory_limit_bytes",
            "The limit of its memory; missing: none.",
            found.limit_bytes,
            **labels,
        )
        self._add(
            "bedstone_container_cpu_seconds_total",
            "CPU time since the container's start.",
            found.cpu_seconds,
            **labels,
        )

    def _oom_kills(self) -> None:
        """Report how often the kernel killed a process for its container's limit of memory."""
        path = paths.host(_STATE)
        until = self.now.timestamp()
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
            since, counts = float(state["until"]), Counter(state["oom_kills"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            since, counts = until, Counter()
        if since < until:
            for found in self._docker.oom_kills(LABEL_APP, since, until):
                if LABEL_SLOT in found:
                    counts[f"{found[LABEL_APP]} {found[LABEL_SERVICE]} {found[LABEL_SLOT]}"] += 1
        kept = {"until": until, "oom_kills": dict(counts)}
        files.write(path, json.dumps(kept, indent=1, sort_keys=True) + "\n", mode=0o600)
        sums: Counter[tuple[str, str, str]] = Counter(dict.fromkeys(map(_key, _slots()), 0))
        known = set(sums)
        for name, count in counts.items():
            app, service, slot = name.split(" ")
            # One that is declared no more is reported no more.
            if (key := _key((app, service, slot))) in known:
                sums[key] += count
        for (app, service, replica), count in sorted(sums.items()):
            self._add(
                "bedstone_container_oom_kills_total",
                "How often the kernel killed a process of it for the limit of its memory.",
                count,
                app=app,
                service=service,
                replica=replica,
            )

    # --- queues ------------------------------------------------------------------------

    def _redis(self, queue: Mapping[str, Any]) -> None:
        password = paths.host(queue["password_file"]).read_text(encoding="utf-8").strip()
        socket = str(paths.host(queue["socket"]))
        self._queue(queue, queues.redis_length(socket, queue["user"], password, queue["queue"]))

    def _rabbitmq(self, wanted: list[Mapping[str, Any]]) -> None:
        mine = [queue for queue in wanted if "vhost" in queue]
        lengths = queues.rabbitmq_lengths(mine[0]["port"], [queue["vhost"] for queue in mine])
        for queue in mine:
            # One that no worker has declared yet is not there.
            self._queue(queue, lengths.get((queue["vhost"], queue["queue"]), 0))

    def _queue(self, queue: Mapping[str, Any], length: int) -> None:
        self._add(
            "bedstone_queue_length",
            "How many messages wait in a queue.",
            length,
            app=queue["app"],
            queue=queue["queue"],
        )


def _settings() -> dict[str, Any]:
    path = paths.host(_SETTINGS)
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {"containers": True}
    except ValueError as error:
        raise ConfigError(f"{path} isn't JSON: {error}.") from error
    if found.get("schema") != SCHEMA:
        raise ConfigError(f"{path} was written by another version of bedstone.")
    return found


def _slots() -> Iterator[tuple[str, str, str]]:
    """Yield app, service and slot of all that should run of the serving releases."""
    with database.opened() as connection:
        serving = [app for app in config.declared() if releases.serving(connection, app)]
    for app in serving:
        for key in current.load(app).slot_keys():
            service, _, slot = key.partition("@")
            yield app, service, slot


def _key(slot: tuple[str, str, str]) -> tuple[str, str, str]:
    """Return what doesn't change with a release: the replica in place of the slot."""
    return slot[0], slot[1], names.replica(slot[2])


def _labels(app: str, service: str, slot: str) -> dict[str, str]:
    return {"app": app, "service": service, "replica": names.replica(slot)}
