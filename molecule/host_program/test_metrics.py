"""Role host_program: Prometheus' node exporter reads the program's metrics."""

from __future__ import annotations

from collections.abc import Callable

from testinfra.host import Host

UNITS = ["bedstone-metrics.service", "prometheus-node-exporter.service"]
DIRECTORY = "/var/lib/prometheus/node-exporter"
FILE = f"{DIRECTORY}/bedstone.prom"
# What a server with apps and destinations would have in its ledger.
SEEN = """
from datetime import UTC, datetime
from bedstone import arrivals, verify_history
now = datetime.now(UTC)
name = 'off"site\\\\'
arrivals.record(name, "", "wal", newest="1", newest_at=now, size=1, problem="a gap")
entry = ("payments", "dump", "b", name, "succeeded", now.isoformat(), now.isoformat(), 1.5)
verify_history.record(verify_history.Verification(*entry))
"""


def test_timer_runs_each_hour(host: Host) -> None:
    assert host.service("bedstone-metrics.timer").is_enabled
    listed = host.check_output("systemctl list-timers --no-legend bedstone-metrics.timer")
    assert "bedstone-metrics.service" in listed


def test_node_exporter_serves_what_the_unit_writes(
    host: Host, wait_until: Callable[..., None]
) -> None:
    host.check_output("PYTHONPATH=/usr/local/bin/bedstone python3 -c %s", SEEN)
    host.check_output("systemctl start bedstone-metrics.service")
    file = host.file(FILE)
    assert (file.user, file.mode) == ("root", 0o644)
    ask = "curl -s http://127.0.0.1:9100/metrics"
    wait_until(lambda: "bedstone_build_info" in host.check_output(ask), what="it is served")
    served = host.check_output(ask)
    # What the exporter has understood, it sorts and escapes anew.
    assert 'bedstone_backup_problem{app="",destination="off\\"site\\\\",kind="wal"} 1' in served
    assert "node_textfile_scrape_error 0" in served


def test_prometheus_own_linter_has_nothing_to_say(host: Host) -> None:
    run = host.run("bedstone metrics | promtool check metrics")
    assert (run.rc, run.stdout + run.stderr) == (0, "")


def test_end_of_a_backup_is_told_at_once_however_it_ends(
    host: Host, wait_until: Callable[..., None]
) -> None:
    unit = "/run/systemd/system/bedstone-backup.service"
    for end in ("true", "false"):
        host.check_output("rm -f %s", FILE)
        text = f"[Service]\nType=oneshot\nExecStart=/bin/{end}\n"
        host.check_output("printf %%s %s > %s && systemctl daemon-reload", text, unit)
        assert (host.run("systemctl start bedstone-backup.service").rc == 0) == (end == "true")
        wait_until(lambda: host.file(FILE).exists, what=f"metrics after {end}")
    host.check_output("rm %s && systemctl daemon-reload && systemctl reset-failed", unit)


def test_server_without_an_exporter_has_no_failed_unit(host: Host) -> None:
    host.check_output("mv %s %s.away", DIRECTORY, DIRECTORY)
    try:
        host.check_output("systemctl start bedstone-metrics.service")
        shown = host.check_output("systemctl show -P ConditionResult bedstone-metrics.service")
        assert shown == "no"
        assert host.run("systemctl is-failed bedstone-metrics.service").rc != 0
    finally:
        host.check_output("mv %s.away %s", DIRECTORY, DIRECTORY)
