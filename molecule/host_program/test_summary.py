"""Role host_program: the summary of the last day, by mail at its hour."""

from __future__ import annotations

import email
import email.policy
import json
from collections.abc import Callable, Iterator

import pytest
from testinfra.host import Host

UNITS = ["bedstone-summary.service"]
HOOKS = "/etc/bedstone/hooks.json"
MAIL = "/run/molecule-mail"
# A mail server that takes one mail.
SINK = """
import socket
listening = socket.create_server(("127.0.0.1", 2525))
open("/run/molecule-mail.ready", "w").close()
stream = listening.accept()[0].makefile("rwb", buffering=0)
stream.write(b"220 sink\\r\\n")
mail, data = open("/run/molecule-mail", "wb", buffering=0), False
while line := stream.readline():
    if data and line == b".\\r\\n":
        data = False
        mail.close()
        stream.write(b"250 taken\\r\\n")
    elif data:
        mail.write(line)
    else:
        data = line.upper().startswith(b"DATA")
        answer = {b"DATA": b"354 go on", b"QUIT": b"221 bye"}.get(line.strip().upper(), b"250 sink")
        stream.write(answer + b"\\r\\n")
"""
HOOK = {
    "schema": 1,
    "hooks": [
        {"events": ["summary"], "mail": ["ops@example.com"]},
        {"events": ["failure"], "command": ["/usr/bin/tee", "/run/molecule-told.json"]},
    ],
    "mail": {
        "server": "127.0.0.1",
        "port": 2525,
        "security": "none",
        "sender": "bedstone@example.com",
    },
}


@pytest.fixture
def sink(host: Host, wait_until: Callable[..., None]) -> Iterator[None]:
    """The hooks send mail to a server that is here."""
    host.check_output("cp -a %s %s.away && rm -f %s*", HOOKS, HOOKS, MAIL)
    host.check_output("printf %%s %s > %s", json.dumps(HOOK), HOOKS)
    host.check_output("systemd-run -q --unit molecule-sink python3 -c %s", SINK)
    wait_until(lambda: host.file(f"{MAIL}.ready").exists, what="the mail server listens")
    yield
    host.run("systemctl stop molecule-sink; systemctl reset-failed molecule-sink")
    host.check_output("mv %s.away %s", HOOKS, HOOKS)


def test_timer_fires_at_the_hour(host: Host) -> None:
    assert host.service("bedstone-summary.timer").is_enabled
    shown = host.check_output("systemctl show -P TimersCalendar bedstone-summary.timer")
    assert "OnCalendar=*-*-* 07:00:00" in shown


@pytest.mark.usefixtures("sink")
def test_mail_of_the_day_arrives(host: Host) -> None:
    host.run("rm -f /run/molecule-told.json")
    host.check_output("systemctl start bedstone-summary.service")
    mail = email.message_from_string(host.file(MAIL).content_string, policy=email.policy.default)
    assert mail["To"] == "ops@example.com"
    name = host.check_output("hostname")
    assert str(mail["Subject"]).startswith(f"[{name}] Daily summary: ")
    body = mail.get_body()
    assert body is not None
    text = body.get_content().replace("\r\n", "\n")
    assert "UTC, the last 24 hours" in text
    assert "\nServer\n- /: " in text
    assert " free (" in text
    assert not host.file("/run/molecule-told.json").exists


def test_by_hand_it_is_printed(host: Host) -> None:
    printed = host.check_output("bedstone summary")
    assert printed.startswith("Daily summary: ")
    assert "\nServer\n" in printed
