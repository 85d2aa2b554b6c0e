"""Each alert rule fires on what it is for and is silent otherwise, by Prometheus' test runner."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from bedstone_control.roles import alert_rules
from tests.integration.prometheus import run_tool

HOUR = 3600
WEB = 'app="payments", service="web", instance="web1"'
BOX = f'{WEB}, replica="1"'
COPY = 'app="payments", kind="dump", destination="offsite", instance="web1"'
STORE = 'app="payments", redis="store", instance="web1", job="redis"'
DISK = 'instance="web1", mountpoint="/srv", fstype="ext4"'
RAM = 'instance="web1", mountpoint="/run", fstype="tmpfs"'
CERT = 'place="p", instance="web1"'
FAILS = 'alertmanager_notifications_failed_total{instance="web1", integration="slack"}'
NODE = 'instance="web1", job="node"'

# Of each rule: series under which it fires, and those under which it must not; a value a minute.
Series = dict[str, str]
CASES: dict[str, tuple[Series, Series]] = {
    "HighErrorRate": (
        {
            f'bedstone_http_requests_total{{{WEB}, code="200"}}': "0+90x120",
            f'bedstone_http_requests_total{{{WEB}, code="502"}}': "0+10x120",
        },
        {
            f'bedstone_http_requests_total{{{WEB}, code="200"}}': "0+90x120",
            f'bedstone_http_requests_total{{{WEB}, code="404"}}': "0+50x120",
            f'bedstone_http_requests_total{{{WEB}, code="502"}}': "0+4x120",
        },
    ),
    "HighLatency": (
        {
            f'bedstone_http_request_duration_seconds_bucket{{{WEB}, le="1"}}': "0+90x120",
            f'bedstone_http_request_duration_seconds_bucket{{{WEB}, le="5"}}': "0+100x120",
            f'bedstone_http_request_duration_seconds_bucket{{{WEB}, le="+Inf"}}': "0+100x120",
        },
        {
            f'bedstone_http_request_duration_seconds_bucket{{{WEB}, le="1"}}': "0+96x120",
            f'bedstone_http_request_duration_seconds_bucket{{{WEB}, le="5"}}': "0+100x120",
            f'bedstone_http_request_duration_seconds_bucket{{{WEB}, le="+Inf"}}': "0+100x120",
        },
    ),
    "ServerDown": (
        {f"up{{{NODE}}}": "0x120", 'up{instance="web1", job="nginx"}': "0x120",
         'up{instance="web1", job="prometheus"}': "1x120"},
        {f"up{{{NODE}}}": "0x120", 'up{instance="web1", job="nginx"}': "1x120"},
    ),
    "ExporterDown": (
        {f"up{{{NODE}}}": "1x120", 'up{instance="web1", job="nginx"}': "0x120"},
        {f"up{{{NODE}}}": "0x120", 'up{instance="web1", job="nginx"}': "0x120"},
    ),
    "DiskAlmostFull": (
        {f"node_filesystem_files_free{{{DISK}}}": "5x120",
         f"node_filesystem_files{{{DISK}}}": "100x120"},
        {f"node_filesystem_avail_bytes{{{DISK}}}": "11x120",
         f"node_filesystem_size_bytes{{{DISK}}}": "100x120",
         f"node_filesystem_avail_bytes{{{RAM}}}": "1x120",
         f"node_filesystem_size_bytes{{{RAM}}}": "100x120",
         # A file system without inodes.
         f"node_filesystem_files_free{{{DISK}}}": "0x120",
         f"node_filesystem_files{{{DISK}}}": "0x120"},
    ),
    "DiskFullSoon": (
        {f"node_filesystem_avail_bytes{{{DISK}}}": "28-0.05x120",
         f"node_filesystem_size_bytes{{{DISK}}}": "100x120"},
        {f"node_filesystem_avail_bytes{{{DISK}}}": "28-0.01x120",
         f"node_filesystem_size_bytes{{{DISK}}}": "100x120"},
    ),
    "MemoryAlmostFull": (
        {f"node_memory_MemAvailable_bytes{{{NODE}}}": "4x120",
         f"node_memory_MemTotal_bytes{{{NODE}}}": "100x120"},
        {f"node_memory_MemAvailable_bytes{{{NODE}}}": "6x120",
         f"node_memory_MemTotal_bytes{{{NODE}}}": "100x120"},
    ),
    "ContainerMemory": (
        {f"bedstone_container_memory_bytes{{{BOX}}}": "95x120",
         f"bedstone_container_memory_limit_bytes{{{BOX}}}": "100x120"},
        {f"bedstone_container_memory_bytes{{{BOX}}}": "95x120",
         f"bedstone_container_memory_limit_bytes{{{BOX}}}": "0x120"},
    ),
    "ContainerOutOfMemory": (
        {f"bedstone_container_oom_kills_total{{{BOX}}}": "0x110 1x10"},
        {f"bedstone_container_oom_kills_total{{{BOX}}}": "3x120"},
    ),
    "ContainerRestarts": (
        {f"bedstone_container_restarts_total{{{BOX}}}": "0x100 0+1x20"},
        {f"bedstone_container_restarts_total{{{BOX}}}": "0x100 2x20"},
    ),
    "ContainerDown": (
        {f"bedstone_container_running{{{BOX}}}": "0x120"},
        {f"bedstone_container_running{{{BOX}}}": "1x116 0x4"},
    ),
    "PostgresqlConnections": (
        {'pg_stat_database_numbackends{instance="web1", datname="a"}': "50x120",
         'pg_stat_database_numbackends{instance="web1", datname="b"}': "35x120",
         'pg_settings_max_connections{instance="web1"}': "100x120"},
        {'pg_stat_database_numbackends{instance="web1", datname="a"}': "79x120",
         'pg_settings_max_connections{instance="web1"}': "100x120"},
    ),
    "PostgresqlAuthenticationFailures": (
        {'bedstone_postgresql_authentication_failures_total{instance="web1"}': "0+5x120"},
        {'bedstone_postgresql_authentication_failures_total{instance="web1"}': "0+1x120"},
    ),
    "RedisMemory": (
        {f"redis_memory_used_bytes{{{STORE}}}": "95x120",
         f"redis_memory_max_bytes{{{STORE}}}": "100x120",
         f'redis_instance_info{{{STORE}, maxmemory_policy="noeviction"}}': "1x120"},
        # A cache is full as a rule.
        {f"redis_memory_used_bytes{{{STORE}}}": "95x120",
         f"redis_memory_max_bytes{{{STORE}}}": "100x120",
         f'redis_instance_info{{{STORE}, maxmemory_policy="allkeys-lru"}}': "1x120"},
    ),
    "QueueLong": (
        {'bedstone_queue_length{app="payments", queue="celery", instance="web1"}': "1001x120"},
        {'bedstone_queue_length{app="payments", queue="celery", instance="web1"}': "1000x120"},
    ),
    "BackupMissing": (
        {f"bedstone_backup_last_success_timestamp_seconds{{{COPY}}}": f"{-25 * HOUR}x120"},
        {f"bedstone_backup_last_success_timestamp_seconds{{{COPY}}}": f"{-23 * HOUR}x120"},
    ),
    "BackupFailed": (
        {f"bedstone_backup_failed{{{COPY}}}": "1x120",
         f"bedstone_backup_problem{{{COPY}}}": "0x120"},
        {f"bedstone_backup_failed{{{COPY}}}": "0x120",
         f"bedstone_backup_problem{{{COPY}}}": "0x120"},
    ),
    "BackupVerificationFailed": (
        {f"bedstone_backup_verification_failed{{{COPY}}}": "1x120"},
        {f"bedstone_backup_verification_failed{{{COPY}}}": "0x120"},
    ),
    "CertificateExpires": (
        {f"bedstone_certificate_not_before_timestamp_seconds{{{CERT}}}": "-7000x120",
         f"bedstone_certificate_not_after_timestamp_seconds{{{CERT}}}": "9000x120"},
        {f"bedstone_certificate_not_before_timestamp_seconds{{{CERT}}}": "-7000x120",
         f"bedstone_certificate_not_after_timestamp_seconds{{{CERT}}}": "19000x120"},
    ),
    "BedstoneAlarm": (
        {'bedstone_alarm{alarm="room/srv", severity="red", instance="web1"}': "1x120"},
        {'bedstone_alarm{alarm="room/srv", severity="warning", instance="web1"}': "1x120"},
    ),
    "MetricsStale": (
        {f"node_textfile_scrape_error{{{NODE}}}": "0x120"},
        {f"node_textfile_scrape_error{{{NODE}}}": "0x120",
         f"bedstone_metrics_timestamp_seconds{{{NODE}}}": "-1700x120"},
    ),
    "NotificationsFail": (
        {FAILS: "0x115 2x5"},
        {FAILS: "2x120"},
    ),
    "ConfigurationNotLoaded": (
        {'prometheus_config_last_reload_successful{instance="web1", job="prometheus"}': "0x120"},
        {'prometheus_config_last_reload_successful{instance="web1", job="prometheus"}': "1x120"},
    ),
}  # fmt: skip
FIRED, SILENT = 0, 1


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rules file, as it is on a server."""
    path = tmp_path_factory.mktemp("rules") / "bedstone.yml"
    path.write_text(yaml.safe_dump(alert_rules.rule_group({})))
    return path


def outcomes(rules: Path, kind: int) -> dict[str, str]:
    """Return what the test runner says of each rule that fires after two hours."""
    tests = [
        {
            "interval": "1m",
            "input_series": [
                {"series": text, "values": values} for text, values in case[kind].items()
            ],
            "alert_rule_test": [{"eval_time": "2h", "alertname": name, "exp_alerts": []}],
        }
        for name, case in (CASES | {alert_rules.WATCHDOG: ({}, {})}).items()
    ]
    document: dict[str, Any] = {
        "rule_files": [str(rules)],
        "evaluation_interval": "1m",
        "tests": tests,
    }
    file = rules.with_name(f"{kind}.test.yml")
    file.write_text(yaml.safe_dump(document))
    run = run_tool("promtool", "test", "rules", str(file))
    # Of each rule that fires: its name, and the alerts with all their texts.
    parts = re.split(r"alertname: (\w+), time: 2h", run.stdout + run.stderr)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.fixture(scope="module")
def fired(rules: Path) -> dict[str, str]:
    """What each rule says that fires as it should."""
    return outcomes(rules, FIRED)


@pytest.fixture(scope="module")
def loud(rules: Path) -> dict[str, str]:
    """What each rule says that should have been silent."""
    return outcomes(rules, SILENT)


def test_every_rule_but_the_watchdog_has_its_cases() -> None:
    names = [rule.name for rule in alert_rules.RULES]
    assert sorted(CASES) == sorted(set(names) - {alert_rules.WATCHDOG})


@pytest.mark.parametrize("name", CASES)
def test_rule_fires_with_texts_that_are_complete(fired: dict[str, str], name: str) -> None:
    assert name in fired, "it does not fire"
    got = fired[name].partition("got:")[2]
    assert "command=" in got
    assert "error expanding template" not in got
    # A label that the series lacks is an empty text.
    assert "no value" not in got
    assert not re.search(r" (?:of|on|at|by) ?[,\"]", got.partition("summary=")[2])


@pytest.mark.parametrize("name", CASES)
def test_rule_stays_silent(loud: dict[str, str], name: str) -> None:
    assert loud.get(name) is None


def test_watchdog_always_fires(loud: dict[str, str]) -> None:
    assert alert_rules.WATCHDOG in loud


def test_promtool_accepts_the_rules(rules: Path) -> None:
    run = run_tool("promtool", "check", "rules", str(rules))
    assert run.returncode == 0, run.stdout + run.stderr
