"""Every query of the dashboard and of the page is understood by Prometheus, and answers on data."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.prometheus import program, run_tool
from tests.unit.fixtures.checkout import ROOT

FILES = ROOT / "roles" / "prometheus" / "files"
DASHBOARD = json.loads((FILES / "dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [
    (f"{panel['title']} {target['refId']}", target["expr"])
    for panel in PANELS
    for target in panel["targets"]
]
WEB = 'app="payments",service="web",instance="web1"'
BOX = f'{WEB},replica="1"'
DISK = 'instance="web1",mountpoint="/",fstype="ext4"'
STORE = 'app="payments",redis="store",instance="web1"'
# Each with its value at the start and its growth in a second.
SERIES: dict[str, tuple[float, float]] = {
    f'bedstone_http_requests_total{{{WEB},method="GET",code="200"}}': (0, 9),
    f'bedstone_http_requests_total{{{WEB},method="GET",code="502"}}': (0, 1),
    f'bedstone_http_request_duration_seconds_bucket{{{WEB},le="0.1"}}': (0, 5),
    f'bedstone_http_request_duration_seconds_bucket{{{WEB},le="0.5"}}': (0, 10),
    f'bedstone_http_request_duration_seconds_bucket{{{WEB},le="+Inf"}}': (0, 10),
    f"bedstone_http_response_bytes_total{{{WEB}}}": (0, 1000),
    f"bedstone_container_memory_bytes{{{BOX}}}": (100, 0),
    f"bedstone_container_memory_limit_bytes{{{BOX}}}": (400, 0),
    f"bedstone_container_cpu_seconds_total{{{BOX}}}": (0, 0.5),
    f"bedstone_container_restarts_total{{{BOX}}}": (0, 0),
    f"bedstone_container_oom_kills_total{{{BOX}}}": (0, 0),
    'pg_stat_database_numbackends{instance="web1",datname="a"}': (30, 0),
    'pg_settings_max_connections{instance="web1"}': (100, 0),
    'bedstone_postgresql_authentication_failures_total{instance="web1"}': (0, 0.1),
    f"redis_memory_used_bytes{{{STORE}}}": (50, 0),
    f"redis_memory_max_bytes{{{STORE}}}": (100, 0),
    'bedstone_queue_length{app="payments",queue="celery",instance="web1"}': (3, 0),
    'bedstone_database_size_bytes{database="payments",instance="web1"}': (1e6, 0),
    'bedstone_backup_last_success_timestamp_seconds'
    '{app="payments",kind="dump",destination="local",instance="web1"}': (1e9, 0),
    'node_cpu_seconds_total{cpu="0",mode="idle",instance="web1"}': (0, 0.75),
    'node_memory_MemAvailable_bytes{instance="web1"}': (25, 0),
    'node_memory_MemTotal_bytes{instance="web1"}': (100, 0),
    f"node_filesystem_avail_bytes{{{DISK}}}": (40, 0),
    f"node_filesystem_size_bytes{{{DISK}}}": (100, 0),
    'up{instance="web1",job="node"}': (1, 0),
    'ALERTS{alertname="QueueLong",alertstate="firing",app="payments",instance="web1"}': (1, 0),
}  # fmt: skip
EXPECTED = {
    "Requests per second A": 10,
    "Answers with 5xx A": 0.1,
    "Response time B": 0.46,
    "Memory of the limit A": 0.25,
    "CPU A": 0.5,
    "Servers: CPU A": 0.25,
    "PostgreSQL: connections of the limit A": 0.3,
    "Redis: memory of the limit A": 0.5,
    "Queues: tasks A": 3,
    "Disks: free A": 0.4,
}
STEP, SAMPLES = 15, 80


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """A Prometheus with data of twenty minutes: its address, and the time of the last sample."""
    place = tmp_path_factory.mktemp("prometheus")
    end = int(time.time()) // STEP * STEP
    text = "".join(
        f"# TYPE {name} unknown\n"
        + "".join(
            f"{series} {start + growth * STEP * number} {end + STEP * (number + 1 - SAMPLES)}\n"
            for series, (start, growth) in SERIES.items()
            if re.split(r"\{", series)[0] == name
            for number in range(SAMPLES)
        )
        for name in dict.fromkeys(series.partition("{")[0] for series in SERIES)
    )
    (place / "data.txt").write_text(f"{text}# EOF\n")
    made = run_tool(
        "promtool", "tsdb", "create-blocks-from", "openmetrics", f"{place}/data.txt", f"{place}/db"
    )
    assert made.returncode == 0, made.stdout + made.stderr
    (place / "prometheus.yml").write_text("global: {scrape_interval: 15s}\n")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    arguments = [
        str(program("prometheus")),
        f"--config.file={place}/prometheus.yml",
        f"--storage.tsdb.path={place}/db",
        f"--web.listen-address=127.0.0.1:{port}",
        f"--web.local-assets={place}",
    ]
    with (place / "log").open("w") as log:
        process = subprocess.Popen(arguments, stdout=log, stderr=log)
    try:
        _wait(f"http://127.0.0.1:{port}/-/ready", process, place / "log")
        yield f"http://127.0.0.1:{port}", end
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    limit = time.monotonic() + 60
    while time.monotonic() < limit and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(log.read_text())


def answer(server: tuple[str, int], expression: str) -> list[dict[str, Any]]:
    """Return what Prometheus answers at the time of the last sample."""
    url, end = server
    # As Grafana fills them in.
    for name, value in (("$__rate_interval", "1m"), ("$app", ".*"), ("$instance", ".*")):
        expression = expression.replace(name, value)
    given = urllib.parse.urlencode({"query": expression, "time": str(end)})
    with urllib.request.urlopen(f"{url}/api/v1/query?{given}", timeout=10) as response:
        found: list[dict[str, Any]] = json.load(response)["data"]["result"]
    return found


@pytest.mark.parametrize(("name", "expression"), QUERIES, ids=[name for name, _ in QUERIES])
def test_query_of_the_dashboard_answers(
    server: tuple[str, int], name: str, expression: str
) -> None:
    found = answer(server, expression)
    assert found
    assert [one for one in found if one["value"][1] == "NaN"] == []
    if name in EXPECTED:
        assert float(found[0]["value"][1]) == pytest.approx(EXPECTED[name], rel=0.01)


def test_expected_values_are_of_queries_that_exist() -> None:
    titles = [name for name, _ in QUERIES]
    assert sorted(set(EXPECTED) - set(titles)) == []


def test_names_in_legends_are_labels_of_the_answers(server: tuple[str, int]) -> None:
    for panel in PANELS:
        for target in panel["targets"]:
            names = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            for found in answer(server, target["expr"]):
                assert names <= set(found["metric"]), f"{panel['title']}: {names}"


def test_dashboard_is_what_grafana_imports() -> None:
    assert DASHBOARD["id"] is None
    assert {one["name"] for one in DASHBOARD["__inputs"]} == {"DS_PROMETHEUS"}
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(numbers) == len(set(numbers))
    assert {panel["datasource"]["uid"] for panel in PANELS} == {"${DS_PROMETHEUS}"}
    assert {one["name"] for one in DASHBOARD["templating"]["list"]} == {"app", "instance"}
