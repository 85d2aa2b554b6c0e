"""`bedstone metrics --live`: containers and queues, each part on its own."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bedstone.core.errors import BedstoneError
from bedstone.status import live
from bedstone.status.prometheus import render
from bedstone.system import cgroup
from bedstone.system import queues as queue_system

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
SLOTS = [("shop", "web", "blue"), ("shop", "web", "blue-2"), ("shop", "worker", "1")]


class Docker:
    """Docker whose answers a test decides."""

    def __init__(self) -> None:
        self.running = {"bedstone-shop-web-blue": 7, "bedstone-shop-worker-1": 8}
        self.killed: list[dict[str, str]] = []
        self.asked: list[tuple[float, float]] = []
        self.broken = False

    def pids(self, *_: str) -> dict[str, int]:
        if self.broken:
            raise BedstoneError("Docker doesn't answer.")
        return self.running

    def oom_kills(self, _label: str, since: float, until: float) -> list[dict[str, str]]:
        self.asked.append((since, until))
        found, self.killed = self.killed, []
        return found


class Systemd:
    """systemd with a unit that was restarted and one that is down."""

    def properties(self, units: list[str], *_: Any, **__: Any) -> dict[str, dict[str, str]]:
        shown = {unit: {"ActiveState": "active", "NRestarts": "0"} for unit in units}
        shown["bedstone-shop-web@blue-2.service"] = {"ActiveState": "failed", "NRestarts": "4"}
        return shown


@pytest.fixture
def docker() -> Docker:
    return Docker()


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BEDSTONE_ROOT", str(tmp_path))
    monkeypatch.setattr(live, "_slots", lambda: iter(SLOTS))
    usage = cgroup.Usage(70_000_000, 256_000_000, 2.5)
    monkeypatch.setattr(cgroup, "usage", lambda pid: usage if pid == 7 else None)
    (tmp_path / "var/lib/bedstone").mkdir(parents=True)
    return tmp_path


def settings(root: Path, **values: Any) -> None:
    path = root / "etc/bedstone/metrics/live.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"schema": 1, "containers": False, "queues": [], **values}))


def gathered(docker: Docker, now: datetime = NOW) -> tuple[list[str], list[str]]:
    collector = live.Collector(now, docker, Systemd())  # type: ignore[arg-type]
    text = render(collector.gather())
    return [line for line in text.splitlines() if not line.startswith("#")], collector.errors


def test_each_container_has_its_labels_and_values(docker: Docker) -> None:
    lines, errors = gathered(docker)
    web = '{app="shop",service="web",replica="1"}'
    assert f"bedstone_container_memory_bytes{web} 70000000" in lines
    assert f"bedstone_container_memory_limit_bytes{web} 256000000" in lines
    assert f"bedstone_container_cpu_seconds_total{web} 2.5" in lines
    assert f"bedstone_container_running{web} 1" in lines
    down = '{app="shop",service="web",replica="2"}'
    assert f"bedstone_container_running{down} 0" in lines
    assert f"bedstone_container_restarts_total{down} 4" in lines
    assert not [line for line in lines if down in line and "memory" in line]
    assert errors == []


def test_oom_kills_are_added_up_over_releases(docker: Docker) -> None:
    def killed(slot: str, service: str = "web") -> dict[str, str]:
        return {
            "bedstone.app": "shop",
            "bedstone.service": service,
            "bedstone.slot": slot,
            "name": "x",
        }

    gathered(docker)
    assert docker.asked == []
    docker.killed = [killed("blue"), killed("green"), killed("1", "worker"), killed("1", "gone")]
    gathered(docker, NOW + timedelta(minutes=1))
    docker.killed = [killed("blue"), {"name": "a check's container"}]
    lines, _ = gathered(docker, NOW + timedelta(minutes=2))
    name = "bedstone_container_oom_kills_total"
    assert [line for line in lines if line.startswith(name)] == [
        f'{name}{{app="shop",service="web",replica="1"}} 3',
        f'{name}{{app="shop",service="web",replica="2"}} 0',
        f'{name}{{app="shop",service="worker",replica="1"}} 1',
    ]
    first, second = docker.asked
    assert first[1] == second[0]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"until": "x", "oom_kills": {}}'])
def test_damaged_state_begins_again(docker: Docker, root: Path, text: str) -> None:
    (root / "var/lib/bedstone/live-metrics.json").write_text(text)
    _, errors = gathered(docker)
    assert errors == []


def test_part_that_fails_leaves_the_others(docker: Docker, root: Path) -> None:
    queue = {"app": "shop", "queue": "celery", "socket": "/run/r.sock", "user": "metrics"}
    settings(root, containers=True, queues=[queue | {"password_file": "/absent"}])
    docker.broken = True
    lines, errors = gathered(docker)
    assert 'bedstone_collector_success{collector="containers"} 0' in lines
    assert 'bedstone_collector_success{collector="oom_kills"} 1' in lines
    assert 'bedstone_collector_success{collector="queue celery of shop"} 0' in lines
    assert f"bedstone_live_metrics_timestamp_seconds {int(NOW.timestamp())}" in lines
    assert len(errors) == 2


def test_queues_of_both_kinds(docker: Docker, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "password").write_text("s3cret\n")
    queues = [
        {
            "app": "shop",
            "queue": "celery",
            "socket": "/run/r.sock",
            "user": "metrics",
            "password_file": "/password",
        },
        {"app": "shop", "queue": "mails", "vhost": "/shop", "port": 15692},
        {"app": "desk", "queue": "later", "vhost": "desk", "port": 15692},
    ]
    settings(root, queues=queues)
    seen = []

    def length(socket: str, user: str, password: str, queue: str) -> int:
        seen.append((Path(socket).name, user, password, queue))
        return 3

    monkeypatch.setattr(queue_system, "redis_length", length)
    monkeypatch.setattr(queue_system, "rabbitmq_lengths", lambda *_: {("/shop", "mails"): 5})
    lines, errors = gathered(docker)
    assert errors == []
    assert seen == [("r.sock", "metrics", "s3cret", "celery")]
    assert [line for line in lines if line.startswith("bedstone_queue_length")] == [
        'bedstone_queue_length{app="shop",queue="celery"} 3',
        'bedstone_queue_length{app="shop",queue="mails"} 5',
        # No worker has declared it yet.
        'bedstone_queue_length{app="desk",queue="later"} 0',
    ]
    assert not [line for line in lines if "container" in line]


@pytest.mark.parametrize("text", ["{", '{"schema": 2}'])
def test_damaged_settings_are_an_error(docker: Docker, root: Path, text: str) -> None:
    path = root / "etc/bedstone/metrics/live.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(BedstoneError, match=r"live\.json"):
        gathered(docker)
