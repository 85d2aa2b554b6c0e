"""Metrics are exact, come to Prometheus alone, and take no more than they need."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable
from typing import Any

import again
import pytest
from testinfra.host import Host
from web_client import Client, exchange

UNITS = [
    "bedstone-exporter-mtail.service",
    "bedstone-exporter-node.service",
    "bedstone-exporter-postgresql.service",
    "bedstone-exporter-redis.service",
    "bedstone-live-metrics.service",
    "bedstone-metrics-proxy.service",
    "nginx.service",
]
RUNNING = [unit for unit in UNITS if "live" not in unit]
NAME = "shop.example.com"
Ask = Callable[..., dict[str, float]]
WaitUntil = Callable[..., None]
REQUESTS = "bedstone_http_requests_total"
TARGET = "&target=redis://127.0.0.1:16401"


def requests(found: dict[str, float]) -> Counter[tuple[str, str, str]]:
    """Return the number of requests by service, method and code."""
    counted: Counter[tuple[str, str, str]] = Counter()
    for name, value in found.items():
        if name.startswith(REQUESTS):
            labels = dict(part.split("=") for part in name[len(REQUESTS) + 1 : -1].split(","))
            assert set(labels) == {"app", "service", "method", "code"}, name
            service, method, code = (
                labels[key].strip('"') for key in ("service", "method", "code")
            )
            counted[service, method, code] += int(value)
    return counted


def grown(ask: Ask, before: Counter[tuple[str, str, str]]) -> dict[tuple[str, str, str], int]:
    return dict(requests(ask("nginx")) - before)


def test_requests_are_counted_exactly(client: Client, ask: Ask, wait_until: WaitUntil) -> None:
    before = requests(ask("nginx"))
    for _ in range(7):
        client.get("/", name=NAME)
    for _ in range(3):
        client.get("/?status=500", name=NAME)
    client.get("/?status=404", name=NAME)
    with client.tls(NAME) as connection:
        head = f"POST / HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: 2\r\nConnection: close"
        exchange(connection, f"{head}\r\n\r\nab".encode())
    wanted = {
        ("web", "GET", "200"): 7,
        ("web", "GET", "500"): 3,
        ("web", "GET", "404"): 1,
        ("web", "POST", "200"): 1,
    }
    wait_until(lambda: grown(ask, before) == wanted, seconds=10, what=f"{wanted} is counted")


def test_duration_and_size_are_measured(client: Client, ask: Ask, wait_until: WaitUntil) -> None:
    def bucket(limit: str) -> float:
        name = "bedstone_http_request_duration_seconds_bucket"
        return ask("nginx").get(f'{name}{{app="shop",service="web",le="{limit}"}}', 0)

    def size() -> float:
        return ask("nginx").get('bedstone_http_response_bytes_total{app="shop",service="web"}', 0)

    # mtail reads a line a moment after the answer: without this, another request's is counted.
    earlier = bucket("+Inf")
    client.get("/", name=NAME)
    wait_until(lambda: bucket("+Inf") == earlier + 1, what="a duration is there")
    before, bytes_before = (bucket("0.25"), bucket("1"), bucket("+Inf")), size()
    client.get("/?seconds=0.4&filler=5000", name=NAME)
    after = (before[0], before[1] + 1, before[2] + 1)
    wait_until(lambda: (bucket("0.25"), bucket("1"), bucket("+Inf")) == after, seconds=10)
    assert 5000 <= size() - bytes_before < 6000


HOSTILE = [
    b'GET /"app":"evil","service":"evil" HTTP/1.1\r\nHost: shop.example.com',
    b"GET /%0a%7B%22time%22%3A%22x%22 HTTP/1.1\r\nHost: shop.example.com",
    b'GET / HTTP/1.1\r\nHost: shop.example.com\r\nUser-Agent: a"\\\n{"time":"x"',
    b"GET /" + b"x" * 8192 + b" HTTP/1.1\r\nHost: shop.example.com",
    b"GET /\xff\xfe\x00 HTTP/1.1\r\nHost: shop.example.com",
    b"BREW / HTTP/1.1\r\nHost: shop.example.com",
    b"FROB" + b"NICATE" * 8 + b" / HTTP/1.1\r\nHost: shop.example.com",
    b'G"ET / HTTP/1.1\r\nHost: shop.example.com',
    b'GET / HTTP/1.1\r\nHost: "evil\\',
    b"GET / HTTP/1.1\r\nHost: shop.example.com\r\nX: " + b"y" * 40_000,
]


def test_hostile_requests_are_counted_once_and_make_no_labels(
    client: Client, host: Host, ask: Ask, wait_until: WaitUntil
) -> None:
    before = requests(ask("nginx"))
    lines = int(host.check_output("wc -l < /var/log/nginx/access.log"))
    for text in HOSTILE:
        with client.tls(NAME) as connection:
            connection.sendall(text + b"\r\nConnection: close\r\n\r\n")
            while connection.recv(65536):
                pass

    def logged() -> int:
        return int(host.check_output("wc -l < /var/log/nginx/access.log")) - lines

    wait_until(lambda: logged() == len(HOSTILE), seconds=10, what="each is logged")
    wait_until(
        lambda: sum(grown(ask, before).values()) == len(HOSTILE),
        seconds=10,
        what="each is counted once",
    )
    found = ask("nginx")
    assert "evil" not in str(found)
    known = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"}
    assert {method for _, method, _ in requests(found)} <= known
    assert {service for service, _, _ in requests(found)} <= {"web", "nginx"}


def test_rotation_under_load_loses_no_request(host: Host, ask: Ask, wait_until: WaitUntil) -> None:
    before = requests(ask("nginx"))
    # Keep-alive, so that a worker that has reopened its log goes on with the same connection.
    host.check_output(
        "systemd-run --quiet --unit load curl -sk --resolve shop.example.com:443:127.0.0.1"
        " --rate 50/s -o /dev/null %s",
        "https://shop.example.com/?[1-150]",
    )
    for _ in range(2):
        host.check_output("logrotate --force /etc/logrotate.d/nginx")
    wait_until(lambda: not host.service("load").is_running, seconds=120, what="the load ends")
    wait_until(
        lambda: grown(ask, before) == {("web", "GET", "200"): 150},
        seconds=20,
        what="all 150 are counted",
    )
    assert host.check_output("ls /var/log/nginx/access.log.1")


def test_mtail_counts_on_after_its_restart(
    client: Client, host: Host, ask: Ask, wait_until: WaitUntil
) -> None:
    host.check_output("systemctl kill --signal=SIGKILL bedstone-exporter-mtail.service")
    wait_until(lambda: host.run("curl -sf http://127.0.0.1:3903/metrics").rc == 0)
    client.get("/", name=NAME)
    wait_until(lambda: requests(ask("nginx")) == {("web", "GET", "200"): 1}, seconds=10)


def curl(host: Host, address: str, certificate: str) -> Any:
    directory = "/etc/bedstone/tls"
    given = f"--cert {directory}/{certificate}.crt --key {directory}/{certificate}.key"
    return host.run(
        f"curl -sS --cacert {directory}/ca.crt {given if certificate else ''}"
        f" 'https://{address}:9443/proxy?module=node'"
    )


@pytest.mark.parametrize("certificate", ["", "other", "server", "shop"])
def test_only_prometheus_certificate_gets_in(host: Host, address: str, certificate: str) -> None:
    assert "node_time_seconds" in curl(host, address, "monitoring").stdout
    refused = curl(host, address, certificate)
    assert refused.rc != 0
    assert "node_" not in refused.stdout


def test_plain_http_gets_nothing(host: Host, address: str) -> None:
    assert "node_" not in host.run(f"curl -s http://{address}:9443/proxy?module=node").stdout


def test_nothing_but_the_one_port_is_reached_from_outside(peer: Host, address: str) -> None:
    for port in (9100, 9187, 9121, 3903, 9999, 15692):
        assert peer.run(f"curl -s -m 3 http://{address}:{port}/metrics").rc == 7, port
    assert peer.run(f"curl -sk -m 3 https://{address}:9443/").rc not in {7, 28}


def test_exporters_run_without_rights(host: Host) -> None:
    for unit in RUNNING[:-1]:
        assert host.service(unit).is_running, unit
        assert host.service(unit).is_enabled, unit
        pid = host.check_output(f"systemctl show --value -p MainPID {unit}")
        status = host.check_output(f"cat /proc/{pid}/status")
        assert "CapEff:\t0000000000000000" in status, unit
        assert "NoNewPrivs:\t1" in status, unit
        assert "\nUid:\t0\t" not in status, unit
    for unit in ("prometheus-node-exporter", "mtail", "prometheus-redis-exporter"):
        assert host.run(f"systemctl is-enabled {unit}").stdout.strip() == "masked"


def test_no_secret_is_in_a_command_line_or_the_journal(host: Host) -> None:
    password = "metrics-of-the-scenario"
    assert password not in host.check_output("cat /proc/*/cmdline | tr '\\0' ' '")
    assert host.run(f"journalctl --no-pager | grep -v sudo | grep -c {password}").stdout == "0\n"
    for path, mode in (("redis.json", 0o640), ("redis.password", 0o600)):
        assert host.file(f"/etc/bedstone/metrics/{path}").mode == mode


def test_connections_of_postgresql(host: Host, ask: Ask, wait_until: WaitUntil) -> None:
    found = ask("postgresql")
    assert found['pg_settings_max_connections{server="/run/postgresql:5432"}'] == 77
    assert found["pg_up"] == 1
    connections = 'pg_stat_database_numbackends{datid="%s",datname="shop"}'
    identity = host.check_output(
        "runuser -u postgres -- psql -XAtc %s", "SELECT oid FROM pg_database WHERE datname='shop'"
    )
    host.check_output(
        "systemd-run --quiet --unit held runuser -u postgres -- psql -d shop -c %s",
        "SELECT pg_sleep(300)",
    )
    try:
        wanted = found[connections % identity] + 1
        wait_until(lambda: ask("postgresql")[connections % identity] == wanted, what="one more")
    finally:
        host.check_output("systemctl stop held.service")


def test_role_in_postgresql_reads_no_table(host: Host) -> None:
    def as_prometheus(statement: str) -> Any:
        return host.run(
            "runuser -u prometheus -- psql -X -h /run/postgresql -U bedstone_metrics postgres"
            f" -Atc {shlex.quote(statement)}"
        )

    assert as_prometheus("SELECT pg_has_role('pg_monitor', 'member')").stdout.strip() == "t"
    assert "permission denied" in as_prometheus("SELECT * FROM pg_authid").stderr
    assert "permission denied" in as_prometheus("CREATE DATABASE mine").stderr


def test_refused_logins_are_counted(host: Host, ask: Ask, wait_until: WaitUntil) -> None:
    name = "bedstone_postgresql_authentication_failures_total"
    before = ask("nginx")[name]
    url = "postgresql://shop_app_00000001:{}@127.0.0.1/shop?sslmode=require"
    for _ in range(3):
        assert host.run(f"psql -X '{url.format('wrong-password')}' -c 'SELECT 1'").rc == 2
    good = url.format("first-of-shop-0123456789")
    statement = "SELECT 'FATAL:  password authentication failed for user'::int"
    assert host.run(f"psql -X '{good}' -c {shlex.quote(statement)}").rc == 1
    wait_until(lambda: ask("nginx")[name] == before + 3, seconds=10, what="three are counted")
    host.check_output("sleep 1")
    assert ask("nginx")[name] == before + 3


def as_app(host: Host, *command: str) -> str:
    return host.check_output(
        "REDISCLI_AUTH=store-of-shop-0123456789 valkey-cli -p 16401 --user app "
        + shlex.join(command)
    )


def live(host: Host, ask: Ask) -> dict[str, float]:
    host.check_output("systemctl start bedstone-live-metrics.service")
    return ask("node")


def test_queue_of_three_tasks_is_three_long(host: Host, ask: Ask) -> None:
    as_app(host, "DEL", "celery", "slow:1")
    as_app(host, "LPUSH", "celery", "a", "b", "c")
    found = live(host, ask)
    assert found['bedstone_queue_length{app="shop",queue="celery"}'] == 3
    assert found['bedstone_queue_length{app="shop",queue="slow:1"}'] == 0
    as_app(host, "SET", "slow:1", "no list")
    found = live(host, ask)
    assert 'bedstone_queue_length{app="shop",queue="slow:1"}' not in found
    assert found['bedstone_collector_success{collector="queue slow:1 of shop"}'] == 0
    assert found['bedstone_queue_length{app="shop",queue="celery"}'] == 3
    assert host.file("/var/lib/prometheus/node-exporter/bedstone-live.prom").mode == 0o644
    as_app(host, "DEL", "celery", "slow:1")


def test_timer_measures_each_minute(host: Host) -> None:
    assert host.service("bedstone-live-metrics.timer").is_enabled
    shown = host.check_output("systemctl show -p TimersCalendar bedstone-live-metrics.timer")
    assert "*-*-* *:*:00" in shown


def test_memory_of_redis(host: Host, ask: Ask) -> None:
    found = ask("redis", TARGET)
    assert found["redis_up"] == 1
    assert found["redis_memory_max_bytes"] == 16 * 1024**2
    said = host.check_output(
        "REDISCLI_AUTH=store-of-shop-0123456789 valkey-cli -p 16401 --user app INFO memory"
    )
    used = int(next(line for line in said.split() if line.startswith("used_memory:"))[12:])
    assert found["redis_memory_used_bytes"] == pytest.approx(used, rel=0.3)


@pytest.mark.parametrize(
    "command",
    ["GET celery", "LRANGE celery 0 -1", "KEYS *", "CONFIG GET *", "LLEN other", "DEL celery"],
)
def test_user_of_metrics_reads_no_value(host: Host, command: str) -> None:
    said = host.run(
        "REDISCLI_AUTH=metrics-of-the-scenario-0123456789 valkey-cli -p 16401 --user metrics "
        + shlex.join(command.split())
    )
    assert "NOPERM" in said.stdout + said.stderr


def test_file_of_the_host_program_is_served(host: Host, ask: Ask) -> None:
    host.check_output("systemctl start bedstone-metrics.service")
    found = ask("node")
    assert found["node_textfile_scrape_error"] == 0
    assert any(name.startswith("bedstone_build_info") for name in found)
    assert any(name.startswith("node_filesystem_avail_bytes") for name in found)
    for collector in ("cpu", "filesystem", "loadavg", "meminfo", "netdev", "textfile", "timex"):
        assert found[f'node_scrape_collector_success{{collector="{collector}"}}'] == 1, collector


def test_linter_of_prometheus_has_nothing_to_say(host: Host) -> None:
    host.check_output("systemctl start bedstone-live-metrics.service")
    text = host.check_output("cat /var/lib/prometheus/node-exporter/bedstone-live.prom")
    # promtool would refuse: no family twice, no counter without _total.
    types = [line.split()[2:] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len({name for name, _ in types}) == len(types)
    assert all((kind == "counter") == name.endswith("_total") for name, kind in types)


def test_removal_and_return(
    host: Host, server_name: str, address: str, wait_until: WaitUntil
) -> None:
    again.applied(server_name, metrics_state="absent")
    for unit in RUNNING[:-1]:
        assert not host.service(unit).is_running, unit
        assert not host.file(f"/etc/systemd/system/{unit}").exists
    assert not host.file("/etc/bedstone/metrics/redis.json").exists
    listening = host.check_output("ss -Hltn")
    assert not [port for port in ("9443", "9100", "3903") if f":{port} " in listening]
    again.applied(server_name)
    wait_until(lambda: "node_time_seconds" in curl(host, address, "monitoring").stdout)


def test_wrong_arguments_change_nothing(server_name: str, host: Host) -> None:
    before = host.check_output("sha256sum /etc/bedstone/metrics/* 2>/dev/null; true")
    queue = [{"app": "shop", "queue": "a b", "redis": "shop-store"}]
    assert "letters, digits and the characters" in again.refused(server_name, metrics_queues=queue)
    assert "too short" in again.refused(server_name, metrics_redis_password="short")
    assert host.check_output("sha256sum /etc/bedstone/metrics/* 2>/dev/null; true") == before
