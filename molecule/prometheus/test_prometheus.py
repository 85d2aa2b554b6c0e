"""Targets are asked over TLS, alerts reach the hooks with their command, bad rules do nothing."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import again
import pytest
from testinfra.host import Host

UNITS = ["bedstone-prometheus.service", "bedstone-alertmanager.service", "molecule-fakes.service"]
HERE = "/var/lib/molecule-fakes"
CONFIGURATION = "/etc/bedstone/prometheus/prometheus.yml"
LABELS = 'app="payments",service="web"'
WaitUntil = Callable[..., None]
Metrics = Callable[..., None]


def query(host: Host, expression: str) -> list[dict[str, Any]]:
    """Return what Prometheus answers."""
    url = f"http://127.0.0.1:9090/api/v1/query?query={quote(expression)}"
    answer = json.loads(host.check_output("curl -sS %s", url))
    assert answer["status"] == "success", answer
    found: list[dict[str, Any]] = answer["data"]["result"]
    return found


def firing(host: Host) -> set[str]:
    """Return the names of the alerts that fire."""
    return {found["metric"]["alertname"] for found in query(host, 'ALERTS{alertstate="firing"}')}


def messages(host: Host, way: str) -> list[dict[str, Any]]:
    """Return what was received, oldest first."""
    lines = host.run("cat %s/messages", HERE).stdout.splitlines()
    return [found for line in lines if (found := json.loads(line))["way"] == way]


def told(host: Host, word: str, *, path: str = "", way: str = "webhook") -> dict[str, Any] | None:
    """Return the first message with a word, of a receiver."""
    return next(
        (
            found
            for found in messages(host, way)
            if word in found["body"] and path in found.get("path", "")
        ),
        None,
    )


@pytest.fixture
def metrics(host: Host) -> Iterator[Metrics]:
    """A function that sets what an exporter gives out; None takes it away."""

    def give(name: str, text: str | None) -> None:
        path = f"{HERE}/{name}.metrics"
        if text is None:
            host.check_output("rm -f %s", path)
        else:
            host.check_output("printf '%%s\n' %s > %s.new && mv %s.new %s", text, path, path, path)

    yield give
    host.check_output("rm -f %s/*.metrics %s/messages", HERE, HERE)


def healthy(metrics: Metrics) -> None:
    """Let every exporter answer."""
    # Of a server with an old text file; so that MetricsStale is silent.
    now = f"bedstone_metrics_timestamp_seconds {time.time():.0f}"
    metrics("node", f"node_textfile_scrape_error 0\n{now}")
    metrics("nginx", f'bedstone_http_requests_total{{{LABELS},method="GET",code="200"}} 1')
    metrics("own", "orders_total 3")


def pid(host: Host, unit: str) -> str:
    return str(host.check_output("systemctl show -P MainPID %s", unit))


def test_watchdog_reaches_the_heartbeat_alone(host: Host, wait_until: WaitUntil) -> None:
    """The first test: the message of the start is there, later ones come each minute."""
    wait_until(
        lambda: told(host, "Watchdog", path="/heartbeat-0123456789"),
        seconds=90, what="the heartbeat is told",
    )  # fmt: skip
    assert told(host, "Watchdog", path="/all-") is None
    assert told(host, "Watchdog", way="mail") is None


def test_targets_are_asked_with_their_client_certificate_and_labels(
    host: Host, metrics: Metrics, wait_until: WaitUntil
) -> None:
    healthy(metrics)
    wait_until(lambda: len(query(host, "up == 1")) == 5, what="all five targets answer")
    (found,) = query(host, "bedstone_http_requests_total")
    assert found["metric"]["instance"] == "web1"
    assert found["metric"]["job"] == "nginx"
    assert query(host, 'orders_total{instance="db1",part="first"}')


def test_alert_reaches_slack_and_mail_with_its_command_and_its_end(
    host: Host, metrics: Metrics, wait_until: WaitUntil
) -> None:
    healthy(metrics)
    metrics("own", 'bedstone_backup_failed{app="payments",kind="dump",destination="off"} 1')
    wait_until(lambda: told(host, "BackupFailed", path="/all-"), what="Slack is told")
    body = json.loads((told(host, "BackupFailed", path="/all-") or {})["body"])["attachments"][0]
    assert body["title"] == "ALERT: BackupFailed of payments on db1"
    assert "the last dump of payments at off, failed" in body["text"]
    assert "`bedstone backups` says why" in body["text"]
    wait_until(lambda: told(host, "BackupFailed", path="/payments-"), what="the app's hook is told")
    wait_until(
        lambda: (
            {to for mail in messages(host, "mail") for to in mail["to"]}
            == {"ops@example.com", "duty@example.com"}
        ),
        what="both addresses get a mail",
    )
    mail = told(host, "BackupFailed", way="mail")
    assert mail is not None
    assert (mail["tls"], mail["login"]) == (True, "bedstone")
    assert "`bedstone backups` says why" in mail["body"].replace("=\r\n", "").replace("=\n", "")
    metrics("own", 'bedstone_backup_failed{app="payments",kind="dump",destination="off"} 0')
    wait_until(lambda: told(host, "resolved: BackupFailed", path="/all-"), what="its end is told")


def test_hook_of_an_app_hears_of_no_other_app_and_hooks_of_releases_of_nothing(
    host: Host, metrics: Metrics, wait_until: WaitUntil
) -> None:
    healthy(metrics)
    metrics("own", 'bedstone_backup_failed{app="desk",kind="dump",destination="off"} 1')
    wait_until(lambda: told(host, "of desk on db1", path="/all-"), what="the general hook is told")
    assert told(host, "of desk", path="/payments-") is None
    assert told(host, "of desk", way="mail") is None
    assert told(host, "", path="/releases") is None


def test_target_that_is_down_is_seen(host: Host, metrics: Metrics, wait_until: WaitUntil) -> None:
    """The rule waits for two minutes, which promtool's test has: here that it begins is enough."""
    healthy(metrics)
    metrics("own", None)
    wait_until(
        lambda: query(host, 'ALERTS{alertname="ServerDown",instance="db1"}'),
        what="the alert is pending",
    )
    assert not query(host, 'ALERTS{alertname="ServerDown",instance="web1"}')
    metrics("nginx", None)
    wait_until(
        lambda: query(host, 'ALERTS{alertname="ExporterDown",instance="web1",job="nginx"}'),
        what="an exporter of a server that answers is named",
    )


def test_other_certificate_is_not_accepted(
    host: Host, metrics: Metrics, wait_until: WaitUntil
) -> None:
    """The stand-in refuses it as a server's metrics do; the file is read at each connection."""
    healthy(metrics)
    tls = "/etc/bedstone/tls"
    host.check_output("cp -a %s/prometheus.crt %s/prometheus.key /root/", tls, tls)
    host.check_output("cp %s/fakes.crt %s/prometheus.crt && cat %s/fakes.key > %s/prometheus.key",
                      tls, tls, tls, tls)  # fmt: skip
    try:
        wait_until(lambda: query(host, 'up{job="node"} == 0'), what="it is refused")
    finally:
        host.check_output(
            "cp /root/prometheus.crt %s/prometheus.crt && cat /root/prometheus.key > "
            "%s/prometheus.key", tls, tls,
        )  # fmt: skip
    wait_until(lambda: query(host, 'up{job="node"} == 1'), what="the own one is accepted again")


def test_page_without_grafana_shows_the_apps(
    host: Host, metrics: Metrics, wait_until: WaitUntil
) -> None:
    healthy(metrics)
    box = f'{LABELS},replica="1"'
    metrics(
        "own",
        f"bedstone_container_memory_bytes{{{box}}} 104857600\n"
        f"bedstone_container_memory_limit_bytes{{{box}}} 209715200\n"
        f"bedstone_container_running{{{box}}} 1\n"
        'bedstone_queue_length{app="payments",queue="celery"} 3',
    )
    start = int(host.check_output("date +%s"))

    def page() -> str:
        """Let the counters go on, and return the page."""
        count = int(host.check_output("date +%s")) - start
        metrics(
            "nginx",
            f'bedstone_http_requests_total{{{LABELS},method="GET",code="200"}} {9 * count}\n'
            f'bedstone_http_requests_total{{{LABELS},method="GET",code="502"}} {count}\n'
            f'bedstone_http_request_duration_seconds_bucket{{{LABELS},le="0.1"}} {5 * count}\n'
            f'bedstone_http_request_duration_seconds_bucket{{{LABELS},le="0.5"}} {10 * count}\n'
            f'bedstone_http_request_duration_seconds_bucket{{{LABELS},le="+Inf"}} {10 * count}',
        )
        return str(host.check_output("curl -sS http://127.0.0.1:9090/consoles/apps.html"))

    # The 95th percentile between 100 and 500 ms.
    wait_until(lambda: "460ms" in page(), what="response times are shown")
    shown = page()
    share = re.search(r'<td class="n">[^<]+</td>\s*<td class="n">([\d.]+)%</td>', shown)
    assert share is not None
    assert float(share[1]) == pytest.approx(10, abs=5)
    for text in ("100MiB", '<td class="n">50%</td>', "queue celery", "3 tasks", "<td>web1</td>"):
        assert text in shown
    assert "error executing template" not in shown


def test_broken_rule_is_refused_before_anything_changes(
    host: Host, server_name: str, tmp_path: Path
) -> None:
    before = host.check_output("sha256sum /etc/bedstone/prometheus/prometheus.yml"
                               " /etc/bedstone/prometheus/rules/*")  # fmt: skip
    rules = tmp_path / "own.yml"
    rules.write_text("groups: [{name: own, rules: [{alert: Broken, expr: 'rate(orders_total'}]}]")
    said = again.refused(server_name, prometheus_rule_files=[str(rules)])
    assert "unclosed left parenthesis" in said
    after = host.check_output("sha256sum /etc/bedstone/prometheus/prometheus.yml"
                              " /etc/bedstone/prometheus/rules/*")  # fmt: skip
    assert after == before


def test_bad_arguments_are_refused(server_name: str) -> None:
    """One for the way it is told; the unit tests have the others."""
    said = again.refused(server_name, prometheus_thresholds={"error_percent": 0})
    assert "error_percent is 0: a whole number from 1 to 100. Example: 5." in said


def test_rules_of_the_operator_and_thresholds_are_loaded_without_a_restart(
    host: Host, declared: Callable[..., Any], metrics: Metrics, wait_until: WaitUntil,
    tmp_path: Path,
) -> None:  # fmt: skip
    healthy(metrics)
    before = [pid(host, unit) for unit in UNITS[:2]]
    rules = tmp_path / "own.yml"
    rules.write_text(
        "groups: [{name: own, rules: [{alert: ManyOrders, expr: orders_total > 2,"
        " annotations: {summary: many orders, command: nothing}}]}]"
    )
    declared(
        prometheus_rule_files=[str(rules)],
        prometheus_thresholds={"queue_length": 2},
        prometheus_without_rules=["HighLatency"],
    )
    metrics("own", 'orders_total 3\nbedstone_queue_length{app="payments",queue="celery"} 3')
    wait_until(lambda: "ManyOrders" in firing(host), what="the rule of the operator fires")
    wait_until(lambda: query(host, 'ALERTS{alertname="QueueLong"}'), what="the threshold counts")
    assert "HighLatency" not in host.check_output("curl -sS http://127.0.0.1:9090/api/v1/rules")
    assert [pid(host, unit) for unit in UNITS[:2]] == before


def test_secrets_are_for_alertmanager_alone_and_in_no_process_list(host: Host) -> None:
    place = "/etc/bedstone/alertmanager"
    for name in ("hook-1", "hook-2", "heartbeat", "mail-password"):
        file = host.file(f"{place}/secrets/{name}")
        assert (file.user, file.group, file.mode) == ("root", "bedstone-alertmanager", 0o640)
    assert not host.file(f"{place}/secrets/hook-3").exists
    shown = host.check_output("cat %s/alertmanager.yml; ps axww", place)
    assert "0123456789" not in shown
    assert "s3cret-of-the-mail" not in shown


def test_both_listen_on_localhost_alone_as_users_of_their_own(host: Host) -> None:
    listening = host.check_output("ss -Hltn")
    for port in (9090, 9093):
        assert f"127.0.0.1:{port}" in listening
        assert f"*:{port}" not in listening
    assert ":9094" not in listening
    users = host.check_output("ps -o user:32= -C prometheus,prometheus-alertmanager").split()
    assert sorted(set(users)) == ["bedstone-alertmanager", "bedstone-prometheus"]
    for unit in ("prometheus", "prometheus-alertmanager"):
        assert host.file(f"/etc/systemd/system/{unit}.service").linked_to == "/dev/null"


def test_collected_metrics_survive_a_crash(
    host: Host, metrics: Metrics, wait_until: WaitUntil
) -> None:
    healthy(metrics)
    wait_until(lambda: query(host, "orders_total"), what="there is something")
    host.check_output("systemctl kill -s KILL bedstone-prometheus bedstone-alertmanager")
    metrics("own", None)
    wait_until(
        lambda: host.run("curl -sf http://127.0.0.1:9090/-/ready").rc == 0, what="it is ready again"
    )
    assert query(host, "last_over_time(orders_total[10m])")
    wait_until(
        lambda: host.run("curl -sf http://127.0.0.1:9093/-/ready").rc == 0, what="so is the other"
    )


def test_absent_removes_it(host: Host, declared: Callable[..., Any]) -> None:
    declared(prometheus_state="absent")
    listening = host.check_output("ss -Hltn")
    assert ":9090" not in listening
    assert ":9093" not in listening
    assert not host.file(CONFIGURATION).exists
    assert not host.file("/etc/bedstone/alertmanager/secrets/mail-password").exists
    assert not host.file("/etc/systemd/system/bedstone-prometheus.service").exists
