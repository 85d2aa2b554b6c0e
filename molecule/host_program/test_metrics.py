"""Role host_program: Prometheus' node exporter reads the program's metrics."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from testinfra.host import Host
from units import settle

UNITS = ["bedstone-metrics.service", "prometheus-node-exporter.service"]
DIRECTORY = "/var/lib/prometheus/node-exporter"
FILE = f"{DIRECTORY}/bedstone.prom"
DESTINATION = 'off"site\\'
SETTINGS = {
    "/etc/bedstone/backup.json": {
        "schema": 1,
        "directory": "/var/backups/bedstone",
        "keep_days": 30,
        "keep_at_least": 3,
        "reserve_mb": 0,
        "jobs": 1,
        "socket": "/run/postgresql",
        "port": 5432,
        "databases": [{"app": "payments", "name": "payments", "owner": "payments_owner"}],
        "media": [],
    },
    "/etc/bedstone/destinations.json": {
        "schema": 1,
        "point_in_time": None,
        "destinations": [
            {"name": "local", "type": "local", "restic": "/var/backups/bedstone/.restic"},
            {
                "name": DESTINATION,
                "type": "sftp",
                "host": "h",
                "port": 22,
                "user": "u",
                "path": "/p",
            },
        ],
    },
}
# What the program would have seen and done on a server with an app and a destination.
SEEN = """
import sys
from datetime import UTC, datetime
from bedstone.ledger import observations, verifications
now, name = datetime.now(UTC), sys.argv[1]
observations.record(name, "payments", "dump", newest="b", newest_at=now, size=1, problem="damaged")
entry = ("payments", "dump", "b", name, "succeeded", now.isoformat(), now.isoformat(), 1.5)
verifications.record(verifications.Verification(*entry))
"""


@pytest.fixture
def offsite(host: Host) -> Iterator[None]:
    """An app and a destination, as the role backup would declare them."""
    for path, settings in SETTINGS.items():
        host.check_output("printf %%s %s > %s", json.dumps(settings), path)
    host.check_output("PYTHONPATH=/usr/local/bin/bedstone python3 -c %s %s", SEEN, DESTINATION)
    yield
    for path in SETTINGS:
        host.check_output("rm %s", path)


def test_timer_runs_each_hour(host: Host) -> None:
    assert host.service("bedstone-metrics.timer").is_enabled
    listed = host.check_output("systemctl list-timers --no-legend bedstone-metrics.timer")
    assert "bedstone-metrics.service" in listed


@pytest.mark.usefixtures("offsite")
def test_node_exporter_serves_what_the_unit_writes(
    host: Host, wait_until: Callable[..., None]
) -> None:
    host.check_output("systemctl start bedstone-metrics.service")
    file = host.file(FILE)
    assert (file.user, file.mode) == ("root", 0o644)
    ask = "curl -s http://127.0.0.1:9100/metrics"
    wait_until(lambda: "bedstone_build_info" in host.run(ask).stdout, what="it is served")
    served = host.check_output(ask)
    # The exporter sorts and escapes again what it has understood.
    labels = 'app="payments",destination="off\\"site\\\\",kind="dump"'
    assert f"bedstone_backup_problem{{{labels}}} 1" in served
    assert f"bedstone_backup_verified_timestamp_seconds{{{labels}}}" in served
    assert "node_textfile_scrape_error 0" in served


@pytest.mark.usefixtures("offsite")
def test_prometheus_own_linter_has_nothing_to_say(host: Host) -> None:
    run = host.run("bedstone metrics | promtool check metrics")
    assert (run.rc, run.stdout + run.stderr) == (0, "")


def test_end_of_a_backup_is_told_at_once_however_it_ends(
    host: Host, wait_until: Callable[..., None]
) -> None:
    unit = "/run/systemd/system/bedstone-backup.service"
    settle(host)
    for end in ("true", "false"):
        host.check_output("rm -f %s", FILE)
        text = f"[Service]\nType=oneshot\nExecStart=/bin/{end}\n"
        host.check_output("printf %%s %s > %s && systemctl daemon-reload", text, unit)
        assert (host.run("systemctl start bedstone-backup.service").rc == 0) == (end == "true")
        wait_until(lambda: host.file(FILE).exists, what=f"metrics after {end}")
        # Requested again while it is running, it would not run again.
        settle(host)
    host.check_output("rm %s && systemctl daemon-reload && systemctl reset-failed", unit)


def test_server_without_an_exporter_has_no_failed_unit(host: Host) -> None:
    settle(host)
    host.check_output("mv %s %s.away", DIRECTORY, DIRECTORY)
    try:
        host.check_output("systemctl start bedstone-metrics.service")
        shown = host.check_output("systemctl show -P ConditionResult bedstone-metrics.service")
        assert shown == "no"
        assert host.run("systemctl is-failed bedstone-metrics.service").rc != 0
    finally:
        host.check_output("mv %s.away %s", DIRECTORY, DIRECTORY)
