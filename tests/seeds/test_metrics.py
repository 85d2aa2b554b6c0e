"""The metrics of the seed systems are those of what really happened on their servers."""

from __future__ import annotations

import re

import pytest

from tests.seeds.conftest import System, waited_for

of_kore = pytest.mark.parametrize("system", ["kore"], indirect=True)
of_piggy_bank = pytest.mark.parametrize("system", ["piggy-bank-and-coffee"], indirect=True)

PORTS = {"node": 9100, "nginx": 3903, "postgresql": 9187}
SAMPLE = re.compile(r"([a-zA-Z_:][\w:]*(?:\{.*\})?) (\S+)")
WORKERS = {
    "kore": "bedstone-kore-celery-worker@{1..5} bedstone-kore-celery-beat@1",
    "octoco": "bedstone-octoco-worker@{1..2} bedstone-octoco-beat@1",
}


def parsed(text: str) -> dict[str, float]:
    """Return the samples of an exporter."""
    found = (SAMPLE.fullmatch(line) for line in text.splitlines())
    return {match[1]: float(match[2]) for match in found if match}


def exported(system: System, name: str) -> dict[str, float]:
    """Return what an exporter says on the server itself."""
    return parsed(system.on_server(f"curl -sf http://127.0.0.1:{PORTS[name]}/metrics"))


def live(system: System) -> dict[str, float]:
    """Measure now, as the timer does each minute, and return what Prometheus would get."""
    system.on_server("systemctl start bedstone-live-metrics.service")
    return exported(system, "node")


@of_kore
def test_queue_of_rabbitmq_has_the_tasks_that_wait(system: System) -> None:
    name = 'bedstone_queue_length{app="kore",queue="celery"}'
    send = "from config.celery import app; [app.send_task('core.tasks.add', [[1]]) for _ in 'abc']"
    system.on_server(f"bash -c 'systemctl stop {WORKERS['kore']}'")
    try:
        ready = "rabbitmqctl -q list_queues -p /kore name messages_ready | grep ^celery[[:space:]]"
        before = int(system.on_server(ready).split()[1])
        container = "docker ps --format '{{.Names}}' | grep -m1 kore-django"
        system.on_server(f'docker exec "$({container})" python -c "{send}"')
        # RabbitMQ counts every five seconds.
        waited_for("three more wait", lambda: live(system)[name] == before + 3)
        running = 'bedstone_container_running{app="kore",service="celery-worker",replica="5"}'
        assert live(system)[running] == 0
    finally:
        system.on_server(f"bash -c 'systemctl start {WORKERS['kore']}'")
    waited_for("none waits", lambda: live(system)[name] == 0)
    assert live(system)[running] == 1


@of_piggy_bank
def test_queue_of_redis_has_the_tasks_that_wait(system: System) -> None:
    name = 'bedstone_queue_length{app="octoco",queue="celery"}'
    system.on_server(f"bash -c 'systemctl stop {WORKERS['octoco']}'")
    try:
        before = live(system)[name]
        system.ask("/api/v1/deposits/", "batch=measured", "count=20")
        assert live(system)[name] == before + 20
    finally:
        system.on_server(f"bash -c 'systemctl start {WORKERS['octoco']}'")
    waited_for("none waits", lambda: live(system)[name] == 0)


@of_piggy_bank
def test_memory_is_what_docker_says(system: System) -> None:
    found = live(system)
    labels = '{app="octoco",service="worker",replica="1"}'
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
    ports = [9443, *PORTS.values(), 9121]
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
    assert [line for line in answers if line[2] == "0"] == []
