"""The journal reaches the collector: in order, after an outage, and no one else."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator

import again
import pytest
from testinfra.host import Host

UNITS = ["bedstone-logs.service", "collector@collector.service"]
COLLECTOR = "collector@collector.service"
RECEIVED = "/opt/collector/received"
REQUESTS = "/var/log/nginx/access.log"
WaitUntil = Callable[..., None]
# The first lines of a container come some time after its supervisor has recorded the run.
APP = """\
[Service]
SyslogIdentifier=payments-web
SyslogLevelPrefix=no
Environment=PYTHONPATH=/usr/local/bin/bedstone
ExecStartPre=/usr/bin/python3 -c "from bedstone.apps import runs; runs.record('20261130-1')"
ExecStartPre=/bin/sleep 5
ExecStart=/bin/cat /run/lines
"""
# The journal can attribute lines only while the process lives.
PASSES = """\
import socket, time
said = "MESSAGE=false\\nSYSLOG_IDENTIFIER=payments-web\\nUNIT=bedstone-payments-web@blue.service\\n"
said += "BEDSTONE_APP=payments\\nPRIORITY=3\\n"
journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
journal.sendto(said.encode(), "/run/systemd/journal/socket")
time.sleep(3)
"""
LINE = '{"level":"error",\t"message":"Grüße \\"a\\" ]\\\\ <0>","amount":1.50}'

pytestmark = pytest.mark.usefixtures("collector")


@pytest.fixture
def collector(host: Host) -> Iterator[None]:
    """The collector runs before and after each test, which begins with none received."""
    host.check_output(
        "systemctl start %s && touch %s && truncate -s 0 %s", COLLECTOR, *[RECEIVED] * 2
    )
    yield
    host.run("systemctl stop collector@other collector@impostor; systemctl start %s", COLLECTOR)


def received(host: Host) -> list[str]:
    """Return the messages that the collector got, in their order."""
    said = host.run("cat %s", RECEIVED).stdout
    return [json.loads(line) for line in said.splitlines()]


def write(host: Host, tag: str, first: int, last: int) -> None:
    """Write numbered lines into the journal."""
    host.check_output(f"for n in $(seq {first} {last}); do echo {tag}-$n; done | systemd-cat -t it")


def numbers(host: Host, tag: str) -> list[int]:
    """Return the numbers of the lines that arrived, in their order, each once."""
    found = [
        int(match[1]) for text in received(host) if (match := re.search(rf"{tag}-(\d+)$", text))
    ]
    return list(dict.fromkeys(found))


def arrive(host: Host, wait_until: WaitUntil, tag: str, last: int, *, seconds: float = 75) -> None:
    """Wait until all lines to the last one are there, in their order."""
    wait_until(lambda: numbers(host, tag)[-1:] == [last], seconds=seconds, what=f"{tag}-{last}")
    assert numbers(host, tag) == list(range(1, last + 1))


def prints(host: Host, slot: str, line: str) -> str:
    """Let an app print a line, and return its unit."""
    unit = f"bedstone-payments-web@{slot}.service"
    host.check_output("printf %%s %s > /run/systemd/system/bedstone-payments-web@.service", APP)
    host.check_output("printf '%%s\\n' %s > /run/lines && systemctl daemon-reload", line)
    host.check_output("systemctl start %s", unit)
    return unit


def alarms(host: Host) -> dict[str, str]:
    found = json.loads(host.run("bedstone alarms --json").stdout)
    assert "logs" not in found["unjudged"]
    return {alarm["name"]: alarm["severity"] for alarm in found["alarms"]}


def test_line_of_an_app_arrives_unchanged_and_with_its_fields(
    host: Host, wait_until: WaitUntil
) -> None:
    unit = prints(host, "blue", LINE)
    wait_until(lambda: [text for text in received(host) if LINE in text], what="the line arrives")
    (text,) = {text for text in received(host) if LINE in text}
    head, _, message = text.partition("] ")
    assert message == LINE
    header, _, data = head.partition(" [")
    # Priority: facility daemon (3), severity informational (6).
    assert re.fullmatch(
        r"<30>1 \d{4}-\d\d-\d\dT[\d:.]+\+00:00 molecule-logs-trixie payments-web \d+ -", header
    )
    assert data == (
        f'bedstone@32473 unit="{unit}" app="payments" service="web" release="20261130-1"'
    )


def test_no_program_passes_for_an_app(host: Host, wait_until: WaitUntil) -> None:
    """Of what a line says of itself nothing becomes a field."""
    host.check_output("printf %%s %s > /run/passes.py", PASSES)
    host.check_output("systemd-run -q --wait --unit %s python3 /run/passes.py", "it\\x2dis.service")
    wait_until(lambda: [text for text in received(host) if text.endswith("] false")])
    (text,) = {text for text in received(host) if text.endswith("] false")}
    assert text.startswith("<11>1 ")
    # A backslash is doubled, as RFC 5424 has it.
    assert '[bedstone@32473 unit="it\\\\x2dis.service"] false' in text


def test_outage_delays_lines_and_loses_none(host: Host, wait_until: WaitUntil) -> None:
    """Also when the sender is killed, restarted, and the journal begins another file."""
    write(host, "outage", 1, 3)
    arrive(host, wait_until, "outage", 3)
    host.check_output("systemctl stop %s", COLLECTOR)
    write(host, "outage", 4, 200)
    host.check_output("systemctl kill -s KILL bedstone-logs.service")
    write(host, "outage", 201, 220)
    host.check_output("journalctl --rotate -q && systemctl restart bedstone-logs.service")
    write(host, "outage", 221, 240)
    host.check_output("systemctl start %s", COLLECTOR)
    arrive(host, wait_until, "outage", 240)


def test_reboot_of_the_server_during_an_outage(
    host: Host, server_name: str, wait_until: WaitUntil
) -> None:
    write(host, "reboot", 1, 1)
    arrive(host, wait_until, "reboot", 1)
    host.check_output("systemctl stop %s", COLLECTOR)
    write(host, "reboot", 2, 50)
    host.check_output("journalctl --sync")
    subprocess.run([sys.executable, "-m", "testbed", "restart", server_name], check=True)
    wait_until(lambda: host.run("systemctl is-active bedstone-logs.service").rc == 0)
    host.run("grep -q collector /etc/hosts || echo 127.0.0.1 collector.example.com >> /etc/hosts")
    write(host, "reboot", 51, 60)
    host.check_output("systemctl start %s", COLLECTOR)
    arrive(host, wait_until, "reboot", 60)


@pytest.mark.parametrize(
    ("shown", "reason"),
    [("other", "peer name not authorized"), ("impostor", "certificate verify failed")],
)
def test_another_certificate_gets_nothing(
    host: Host, wait_until: WaitUntil, shown: str, reason: str
) -> None:
    """One of the same authority with another name, and the right name by another authority."""
    host.check_output("systemctl stop %s && systemctl start collector@%s", COLLECTOR, shown)
    since = host.check_output("date +%s")
    before = len(received(host))
    write(host, shown, 1, 3)
    said = "journalctl -u bedstone-logs.service -o cat --since @%s"
    wait_until(lambda: reason in host.run(said, since).stdout, what=reason)
    assert len(received(host)) == before
    host.check_output("systemctl stop collector@%s && systemctl start %s", shown, COLLECTOR)
    arrive(host, wait_until, shown, 3)


def test_requests_arrive_across_an_outage_and_a_rotation(host: Host, wait_until: WaitUntil) -> None:
    request = '{"time":"t","path":"/a\\"]","status":200,"n":"request-%d"}'
    host.check_output("systemctl stop %s", COLLECTOR)
    for numbered, command in ((1, "true"), (2, f"mv {REQUESTS} {REQUESTS}.1"), (3, "true")):
        host.check_output("printf '%%s\\n' %s >> %s", request % numbered, REQUESTS)
        host.check_output(f"chown www-data:adm {REQUESTS}; chmod 0640 {REQUESTS}; {command}")
    host.check_output("systemctl start %s", COLLECTOR)

    def arrived() -> list[str]:
        found = [text for text in received(host) if "request-" in text]
        return list(dict.fromkeys(found))

    wait_until(lambda: len(arrived()) == 3, seconds=75, what="three requests")
    for number, text in enumerate(arrived(), start=1):
        assert text.startswith("<190>1 ")
        assert text.endswith(f'[bedstone@32473 unit="nginx.service"] {request % number}')


def test_full_journal_drops_the_oldest_lines_and_an_alarm_tells(
    host: Host, wait_until: WaitUntil
) -> None:
    write(host, "full", 1, 1)
    arrive(host, wait_until, "full", 1)
    assert not {name for name in alarms(host) if name.startswith("logs/")}
    host.check_output("systemctl stop %s", COLLECTOR)
    write(host, "full", 2, 10)
    host.check_output("journalctl --sync && journalctl --rotate -q && sleep 1.1")
    write(host, "full", 11, 20)
    host.check_output("journalctl --vacuum-files=1 -q")
    assert alarms(host)["logs/lost"] == "red"
    later = (
        "from datetime import UTC, datetime, timedelta; from bedstone.watch import logs;"
        "now = datetime.now(UTC) + timedelta(minutes={});"
        "print([alarm.severity for alarm in logs.judge(logs.gather(), now)])"
    )
    python = "PYTHONPATH=/usr/local/bin/bedstone python3 -c '%s'"
    assert host.check_output(python % later.format(11)) == "['warning', 'red']"
    host.check_output("systemctl start %s", COLLECTOR)
    wait_until(lambda: numbers(host, "full")[-1:] == [20], seconds=75, what="the rest arrives")
    assert numbers(host, "full")[1:] == list(range(11, 21))
    assert not {name for name in alarms(host) if name.startswith("logs/")}


def test_it_listens_nowhere_and_keeps_no_second_copy(host: Host) -> None:
    pid = host.check_output("systemctl show -P MainPID bedstone-logs.service")
    assert f"pid={pid}," not in host.check_output("ss -Hlntuxp")
    assert host.check_output("systemctl show -P User bedstone-logs.service") == "bedstone-logs"
    assert not host.file("/var/log/syslog").exists
    assert host.file("/etc/systemd/system/rsyslog.service").linked_to == "/dev/null"
    assert host.run("pgrep -c rsyslogd").stdout.strip() == "1"
    score = host.check_output(
        "systemd-analyze security --no-pager bedstone-logs.service | tail -n 1"
    )
    assert float(score.split(":")[1].split()[0]) < 2
    key = host.file("/etc/bedstone/logs/client.key")
    assert (key.user, key.group, key.mode) == ("root", "bedstone-logs", 0o640)


def test_bad_arguments_are_refused(server_name: str) -> None:
    plain = {"host": "logs.example.com", "tls": False}
    assert "would travel in plain text" in again.refused(server_name, logs_to=plain)


# The last two change the role's arguments, and leave them so.


def test_lines_of_the_apps_alone(host: Host, server_name: str, wait_until: WaitUntil) -> None:
    again.applied(server_name, logs_journal="apps")
    write(host, "others", 1, 1)
    prints(host, "green", "of-an-app")
    wait_until(lambda: [text for text in received(host) if text.endswith("] of-an-app")])
    assert numbers(host, "others") == []


def test_absent_removes_it(host: Host, server_name: str) -> None:
    again.applied(server_name, logs_state="absent")
    assert host.run("pgrep rsyslogd").rc != 0
    assert not host.file("/etc/systemd/system/bedstone-logs.service").exists
    assert not host.file("/etc/bedstone/logs/client.key").exists
    assert not host.file("/etc/bedstone/logs/rsyslog.conf").exists
