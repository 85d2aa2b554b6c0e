"""The metrics of the seed systems are those of what really happened on their servers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import pytest

from tests.seeds.conftest import System, waited_for

of_kore = pytest.mark.parametrize("system", ["kore"], indirect=True)
of_piggy_bank = pytest.mark.parametrize("system", ["piggy-bank-and-coffee"], indirect=True)

PORTS = {"node": 9100, "nginx": 3903, "postgresql": 9187}
SAMPLE = re.compile(r"([a-zA-Z_:][\w:]*(?:\{.*\})?) (\S+)")


def parsed(text: str) -> dict[str, float]:
    """Return the samples of an exporter."""
    found = (SAMPLE.fullmatch(line) for line in text.splitlines())
    return {match[1]: float(match[2]) for match in found if match}


def fetched(system: System, url: str) -> str:
    """Return what answers on the server itself, which has no curl."""
    script = (
        "import sys,urllib.request as r;print(r.urlopen(sys.argv[1],timeout=30).read().decode())"
    )
    return system.on_server(f"python3 -c '{script}' '{url}'")


def exported(system: System, name: str) -> dict[str, float]:
    """Return what an exporter says."""
    return parsed(fetched(system, f"http://127.0.0.1:{PORTS[name]}/metrics"))


def live(system: System) -> dict[str, float]:
    """Measure now, as the timer does each minute, and return what Prometheus would get."""
    system.on_server("systemctl start bedstone-live-metrics.service")
    return exported(system, "node")


@contextmanager
def stopped(system: System, *services: str) -> Iterator[None]:
    """Stop the instances of services that run, for a block."""
    patterns = " ".join(f"'bedstone-{service}@*'" for service in services)
    listed = "systemctl list-units --type=service --state=active --plain --no-legend"
    units = [line.split()[0] for line in system.on_server(f"{listed} {patterns}").splitlines()]
    assert len(units) >= len(services)
    system.on_server(f"systemctl stop {' '.join(units)}")
    try:
        yield
    finally:
        system.on_server(f"systemctl start {' '.join(units)}")


@of_kore
def test_queue_of_rabbitmq_has_the_tasks_that_wait(system: System) -> None:
    name = 'bedstone_queue_length{app="kore",queue="celery"}'
    send = "from config.celery import app; [app.send_task('core.tasks.add', [[1]]) for _ in 'abc']"
    running = 'bedstone_container_running{app="kore",replica="1",service="celery-worker"}'
    with stopped(system, "kore-celery-worker", "kore-celery-beat"):
        ready = "rabbitmqctl -q list_queues -p /kore name messages_ready | grep ^celery[[:space:]]"
        before = int(system.on_server(ready).split()[1])
        container = "docker ps --format '{{.Names}}' | grep -m1 kore-django"
        system.on_server(f'docker exec "$({container})" python -c "{send}"')
        # RabbitMQ counts every five seconds.
        waited_for("three more wait", lambda: live(system)[name] == before + 3)
        assert live(system)[running] == 0
    waited_for("none waits", lambda: live(system)[name] == 0)
    assert live(system)[running] == 1


def queried(system: System, expression: str) -> list[dict[str, str]]:
    """Return the labels of what Prometheus has for an expression."""
    url = f"http://127.0.0.1:9090/api/v1/query?query={quote(expression)}"
    answer = json.loads(fetched(system, url))
    return [found["metric"] for found in answer["data"]["result"]]


@of_kore
def test_prometheus_collects_what_every_exporter_gives_out(system: System) -> None:
    names = {"alertmanager", "prometheus", "nginx", "node", "postgresql", "rabbitmq", "redis"}

    def values(label: str, expression: str) -> set[str]:
        return {labels[label] for labels in queried(system, expression)}

    waited_for("every target answers", lambda: values("job", "up == 1") == names)
    assert queried(system, "up == 0") == []
    waited_for("of both Redis", lambda: values("redis", "redis_up == 1") == {"cache", "store"})
    django = 'bedstone_container_running{app="kore",service="django"} == 1'
    waited_for("it has what is measured each minute", lambda: bool(queried(system, django)))
    alerts = queried(system, 'ALERTS{alertstate="firing",severity="critical"}')
    assert alerts == []


@of_piggy_bank
def test_queue_of_redis_has_the_tasks_that_wait(system: System) -> None:
    name = 'bedstone_queue_length{app="octoco",queue="celery"}'
    with stopped(system, "octoco-worker", "octoco-beat"):
        before = live(system)[name]
        system.ask("/api/v1/deposits/", "batch=measured", "count=20")
        assert live(system)[name] == before + 20
    waited_for("none waits", lambda: live(system)[name] == 0)


@of_piggy_bank
def test_memory_is_what_docker_says(system: System) -> None:
    found = live(system)
    labels = '{app="octoco",replica="1",service="worker"}'
    show = "docker stats --no-stream --format '{{.MemUsage}}' bedstone-octoco-worker-1"
    used = system.on_server(show).split("/")[0].strip()
    number, unit = re.fullmatch(r"([\d.]+)([MG])iB", used).groups()  # type: ignore[union-attr]
    size = float(number) * {"M": 1024**2, "G": 1024**3}[unit]
    assert found[f"bedstone_container_memory_bytes{labels}"] == pytest.approx(size, rel=0.15)
    assert found[f"bedstone_container_cpu_seconds_total{labels}"] > 0.1
    assert found[f"bedstone_container_oom_kills_total{labels}"] == 0
    assert found['bedstone_collector_success{collector="containers"}'] == 1


@of_piggy_bank
def test_requests_are_counted_by_service(system: System) -> None:
    def count(code: int) -> float:
        labels = f'{{app="octoco",code="{code}",method="GET",service="web"}}'
        return exported(system, "nginx").get(f"bedstone_http_requests_total{labels}", 0)

    before = count(404)
    for _ in range(5):
        assert system.answer("/api/v1/nowhere-to-measure/")[0] == 404
    waited_for("five are counted", lambda: count(404) == before + 5, seconds=20)


@of_piggy_bank
def test_connections_are_counted(system: System) -> None:
    found = exported(system, "postgresql")
    names = [name for name in found if name.startswith("pg_stat_database_numbackends")]
    assert sum(found[name] for name in names if 'datname="octoco"' in name) >= 1
    assert found['pg_settings_max_connections{server="/run/postgresql:5432"}'] >= 20


@of_piggy_bank
def test_app_reaches_no_exporter(system: System) -> None:
    # Of those on the server, PostgreSQL's is the app's: it shows that the others could answer.
    postgresql = "5432"
    ports = [9443, *PORTS.values(), 9121, postgresql]
    script = (
        "import socket,sys\n"
        "for h in sys.argv[1].split():\n"
        " for p in sys.argv[2].split():\n"
        "  s=socket.socket();s.settimeout(1)\n"
        "  print(h,p,s.connect_ex((h,int(p))))\n"
    )
    addresses = system.on_server("hostname -I").split()
    text = system.on_server(
        f"docker exec -i bedstone-octoco-worker-1 python -c '{script}'"
        f" '{' '.join(addresses)}' '{' '.join(map(str, ports))}'"
    )
    answers = [line.split() for line in text.splitlines()]
    assert len(answers) == len(addresses) * len(ports)
    assert {port for _, port, code in answers if code == "0"} == {postgresql}
