"""Hooks report events, and no failure of a hook affects an operation."""

from __future__ import annotations

import base64
import http.server
import json
import os
import ssl
import stat
import threading
import time
from collections.abc import Callable
from email import message_from_string, policy
from pathlib import Path
from typing import Any

import pytest

from bedstone.notify import events, text
from bedstone.notify.events import Event
from tests.unit.fixtures.daily import Serve, Smtp, Web

Write = Callable[..., Path]
Handler = http.server.BaseHTTPRequestHandler
FAILED = Event(
    kind="failure",
    app="shop",
    title="The release of shop failed; the one of before serves on.",
    release="r2",
    previous="r1",
    failed_step="migrate",
    error="`manage migrate` failed: <exit code 1>.",
    hint="Look at the migration.",
    details="first\n\x1b[31mlast\x1b[0m line & more",
    seconds=12.3,
    restore_point="backup_20261120_020000",
)
ACCOUNT = {"server": "127.0.0.1", "security": "none", "sender": "bedstone@example.com"}


def answer(status: int, body: str = "", **headers: str) -> Callable[[Handler], None]:
    def respond(handler: Handler) -> None:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body.encode())

    return respond


def script(tmp_path: Path, body: str) -> list[str]:
    path = tmp_path / "hook"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(stat.S_IRWXU)
    return [str(path), "--flag"]


def ended(pid: int) -> bool:
    """Say whether a process is gone, or only waits to be reaped by its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> bool:
    limit = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        if time.monotonic() > limit:
            return False
        pause.wait(0.02)
    return True


# --- what is reported ----------------------------------------------------------------------------


def test_nothing_to_do_without_hooks(root: Path, hooks_file: Write) -> None:
    del root
    assert events.fire(FAILED) == ()
    hooks_file()
    assert events.fire(FAILED) == ()


def test_webhook_gets_text_for_people_and_fields_for_programs(
    hooks_file: Write, serve: Serve
) -> None:
    server = serve(answer(200, "ok"))
    hooks_file({"webhook": server.url})
    assert events.fire(FAILED) == ()
    [(path, headers, document)] = server.posted
    assert path == "/services/T000/secret-path"
    assert headers["Content-Type"] == "application/json"
    host = os.uname().nodename
    assert document["text"] == (
        "*The release of shop failed; the one of before serves on.*\n"
        f"Server: {host}\nApp: shop\nRelease: r1 → r2\nFailed step: migrate\n"
        "Error: `manage migrate` failed: &lt;exit code 1&gt;.\n"
        "What to do: Look at the migration.\nRestore point: backup_20261120_020000\n"
        "Took: 12 s\n```first\nlast line &amp; more```"
    )
    fields = ("event", "app", "server", "release", "previous", "failed_step", "seconds")
    assert [document[name] for name in fields] == [
        "failure", "shop", host, "r2", "r1", "migrate", 12.3,
    ]  # fmt: skip
    assert document["at"].endswith("+00:00")


@pytest.mark.parametrize(
    ("hook", "event", "told"),
    [
        ({}, FAILED, True),
        ({"events": ["release", "rollback"]}, FAILED, False),
        ({"apps": ["shop"]}, FAILED, True),
        ({"apps": ["wiki"]}, FAILED, False),
        ({"apps": ["wiki"]}, Event("failure", "The backup failed."), True),
        ({"events": ["release"], "apps": ["wiki"]}, Event("test", "A test."), True),
    ],
)
def test_hook_hears_of_what_it_wants(
    hooks_file: Write, serve: Serve, hook: dict[str, Any], event: Event, *, told: bool
) -> None:
    server = serve(answer(200))
    hooks_file({"webhook": server.url} | hook)
    assert events.fire(event) == ()
    assert bool(server.posted) is told


def test_secrets_of_the_app_are_not_told(declared: Path, hooks_file: Write, serve: Serve) -> None:
    del declared
    server = serve(answer(200))
    hooks_file({"webhook": server.url})
    events.fire(
        Event(
            "failure",
            "It failed.",
            app="shop",
            error="can't log in with p@ssword1 (p%40ssword1)",
            details="key very-secret-key, password2, mode live",
        )
    )
    said = json.dumps(server.posted[0][2])
    for secret in ("p@ssword1", "p%40ssword1", "very-secret-key", "password2"):
        assert secret not in said
    assert "key ***, ***, mode live" in said


@pytest.mark.parametrize("place", ["var/lib/bedstone/ledger.sqlite", "var/lib/bedstone"])
def test_damaged_ledger_silences_no_hook(
    root: Path, declared: Path, hooks_file: Write, serve: Serve, place: str
) -> None:
    del declared
    server = serve(answer(200))
    hooks_file({"webhook": server.url})
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    (root / place).write_text("no database" * 1000)
    assert events.fire(FAILED) == ()
    assert server.posted[0][2]["app"] == "shop"


def test_programs_get_the_end_of_a_log_only(hooks_file: Write, serve: Serve) -> None:
    server = serve(answer(200))
    hooks_file({"webhook": server.url})
    events.fire(Event("failure", "It failed.", details="x" * 100_000 + "\x1b[31mend\x1b[0m"))
    details = server.posted[0][2]["details"]
    assert len(details) == 10_000
    assert details.endswith("xend")


def test_long_logs_are_shortened_to_their_end() -> None:
    document = {"details": "\n".join([*map(str, range(100)), "x" * 5000])}
    lines = text.last_lines(document["details"]).splitlines()
    assert lines[0] == "86"
    assert len(lines[-1]) < 210


def test_log_cannot_break_out_of_its_block(hooks_file: Write, serve: Serve) -> None:
    server = serve(answer(200))
    hooks_file({"webhook": server.url})
    events.fire(Event("failure", "It failed\nSubject: x", details="``` <!channel> ```"))
    told = server.posted[0][2]["text"]
    assert told.startswith("*It failed Subject: x*\n")
    assert told.endswith("```''' &lt;!channel&gt; '''```")


def test_login_in_an_address_becomes_a_header(hooks_file: Write, serve: Serve) -> None:
    server = serve(answer(200))
    hooks_file({"webhook": server.url.replace("//", "//me:p%3Aass@")})
    assert events.fire(FAILED) == ()
    login = base64.b64encode(b"me:p:ass").decode()
    assert server.posted[0][1]["Authorization"] == f"Basic {login}"


# --- webhooks that go wrong -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (500, "Cannot POST /services/T000/secret-path", "answered 500."),
        (404, "no_service", "answered 404 (no_service)."),
        (302, "", "answered 302, a redirect: use the address it leads to."),
        (307, "", "answered 307, a redirect: use the address it leads to."),
    ],
)
def test_wrong_answer_is_a_warning_without_the_address(
    hooks_file: Write, serve: Serve, status: int, body: str, said: str
) -> None:
    elsewhere = serve(answer(200))
    server = serve(answer(status, body, Location=elsewhere.url))
    hooks_file({"webhook": server.url})
    assert events.fire(FAILED) == (f"webhook 127.0.0.1 {said}",)
    assert elsewhere.posted == []


def hang(handler: Handler) -> None:
    assert isinstance(handler.server, Web)
    handler.server.released.wait(60)


def drip(handler: Handler) -> None:
    """Send a header byte by byte: no socket's timeout ever ends that."""
    assert isinstance(handler.server, Web)
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not handler.server.released.wait(0.05):
        handler.wfile.write(b"x")


@pytest.mark.parametrize("misbehave", [hang, drip])
def test_slow_server_is_cut_off_while_others_are_served(
    hooks_file: Write, serve: Serve, misbehave: Callable[[Handler], None]
) -> None:
    slow, good = serve(misbehave), serve(answer(200))
    hooks_file({"webhook": slow.url, "timeout_seconds": 1}, {"webhook": good.url})
    [warning] = events.fire(FAILED)
    assert warning in {
        "webhook 127.0.0.1 took longer than 1 s and was ended.",
        "webhook 127.0.0.1 didn't answer in time.",
    }
    assert len(good.posted) == 1


def test_all_together_have_a_limit_below_their_own(hooks_file: Write, serve: Serve) -> None:
    slow = serve(hang)
    hooks_file(*[{"webhook": slow.url, "timeout_seconds": 300}] * 3)
    assert len(events.fire(FAILED, limit_seconds=2)) == 3


def test_endless_answer_is_not_read(hooks_file: Write, serve: Serve) -> None:
    def flood(handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        for _ in range(10_000):
            handler.wfile.write(b"x" * 65_536)

    hooks_file({"webhook": serve(flood).url})
    assert events.fire(FAILED) == ()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:1/secret-path", "webhook 127.0.0.1 can't be reached: "),
        ("ftp://example.com/secret-path", "webhook example.com has an address that is no http://"),
        ("file:///etc/passwd", "webhook (no host) has an address that is no http://"),
        ("http://[::1/secret-path", "webhook (no host) has an address that is no http://"),
        ("http://127.0.0.1:1/secret path", "webhook 127.0.0.1 gave no proper answer: InvalidURL"),
        ("http://bedstone.invalid/secret-path", "webhook bedstone.invalid can't be found: "),
    ],
)
def test_bad_address_is_a_warning(hooks_file: Write, url: str, said: str) -> None:
    hooks_file({"webhook": url})
    [warning] = events.fire(FAILED)
    assert warning.startswith(said)
    assert "secret" not in warning


@pytest.fixture
def https(serve: Serve, certificate: tuple[Path, ssl.SSLContext]) -> tuple[Web, Path]:
    """A server with TLS, and its certificate."""
    server = serve(answer(200))
    server.socket = certificate[1].wrap_socket(server.socket, server_side=True)
    return server, certificate[0]


def test_certificate_must_be_trusted_by_the_system(
    https: tuple[Web, Path], hooks_file: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, certificate = https
    url = server.url.replace("http://127.0.0.1", "https://localhost")
    hooks_file({"webhook": url})
    [warning] = events.fire(FAILED)
    assert warning.startswith(
        "webhook localhost has a certificate that this server doesn't trust: self"
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert events.fire(FAILED) == ()
    hooks_file({"webhook": url.replace("localhost", "127.0.0.1")})
    assert "doesn't trust: IP address mismatch" in events.fire(FAILED)[0]


# --- mail ---------------------------------------------------------------------------------------


def test_mail_is_sent_to_everybody(hooks_file: Write, smtp: Callable[..., Smtp]) -> None:
    server = smtp()
    hooks_file(
        {"mail": ["ops@example.com", "me@example.com"]}, mail=ACCOUNT | {"port": server.port}
    )
    assert events.fire(FAILED) == ()
    # Python 3.13 writes TO in small letters, 3.12 doesn't.
    assert [line.lower() for line in server.lines if line.startswith("rcpt")] == [
        "rcpt to:<ops@example.com>",
        "rcpt to:<me@example.com>",
    ]
    mail = message_from_string(server.mails[0], policy=policy.default)
    assert mail["Subject"] == (
        f"[{os.uname().nodename}] The release of shop failed; the one of before serves on."
    )
    assert mail["Auto-Submitted"] == "auto-generated"
    body = mail.get_content().replace("\r\n", "\n")
    assert "Release: r1 → r2\n" in body
    assert "Last lines:\n  first\n  last line & more" in body


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_mail_goes_by_tls_to_a_trusted_server_only(
    hooks_file: Write,
    smtp: Callable[..., Smtp],
    certificate: tuple[Path, ssl.SSLContext],
    monkeypatch: pytest.MonkeyPatch,
    security: str,
) -> None:
    path, context = certificate
    server = smtp(EHLO="250-mail\r\n250-STARTTLS\r\n250 AUTH PLAIN", AUTH="235 welcome")
    if security == "tls":
        server.socket = context.wrap_socket(server.socket, server_side=True)
    else:
        server.tls = context
    account = {"server": "localhost", "port": server.port, "security": security}
    login = {"user": "me", "password": "secret"}
    hooks_file({"mail": ["ops@example.com"]}, mail=ACCOUNT | account | login)
    [warning] = events.fire(FAILED)
    assert "has a certificate that this server doesn't trust" in warning
    assert not [line for line in server.lines if line.startswith("AUTH")], "no password before"
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    assert events.fire(FAILED) == ()
    assert len(server.mails) == 1
    token = base64.b64encode(b"\0me\0secret").decode()
    assert f"AUTH PLAIN {token}" in server.lines


@pytest.mark.parametrize(
    ("replies", "account", "said"),
    [
        ({"RCPT": "550 no such user"}, {}, "refused ops@example.com."),
        ({"MAIL": "451 secret"}, {}, "answered 451."),
        ({}, {"security": "starttls"}, "doesn't offer what `security` and `user` ask for."),
        (
            {"EHLO": "250-mail\r\n250 AUTH PLAIN", "AUTH": "535 AG1lAHNlY3JldA== is wrong"},
            {"user": "me", "password": "secret"},
            "refused the login (535).",
        ),
        ({}, {"security": "tls"}, "can't agree on TLS: "),
    ],
)
def test_mail_server_that_refuses_is_a_warning_without_the_password(
    hooks_file: Write,
    smtp: Callable[..., Smtp],
    replies: dict[str, str],
    account: dict[str, str],
    said: str,
) -> None:
    server = smtp(**replies)
    hooks_file({"mail": ["ops@example.com"]}, mail=ACCOUNT | {"port": server.port} | account)
    [warning] = events.fire(FAILED)
    assert warning.startswith(f"mail 127.0.0.1 {said}")
    assert "secret" not in warning


def test_mail_server_that_is_not_there_is_a_warning(hooks_file: Write) -> None:
    hooks_file({"mail": ["ops@example.com"]}, mail=ACCOUNT | {"port": 1})
    assert events.fire(FAILED)[0].startswith("mail 127.0.0.1 can't be reached: Connection refused")


# --- commands -----------------------------------------------------------------------------------


def test_command_reads_the_event(hooks_file: Write, tmp_path: Path) -> None:
    variables = "$BEDSTONE_EVENT $BEDSTONE_APP $BEDSTONE_RELEASE"
    body = f'cat > {tmp_path}/in; echo "$1 {variables}" > {tmp_path}/env'
    hooks_file({"command": script(tmp_path, body)})
    assert events.fire(FAILED) == ()
    document = json.loads((tmp_path / "in").read_text())
    assert document["failed_step"] == "migrate"
    assert "Release: r1 → r2" in document["text"]
    assert (tmp_path / "env").read_text() == "--flag failure shop r2\n"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("echo token=secret; exit 3", "failed with exit code 3."),
        ("kill -9 $$", "was ended by signal 9."),
        ("yes secret | head -c 20000000; exit 4", "failed with exit code 4."),
    ],
)
def test_command_that_fails_is_a_warning_without_its_output(
    hooks_file: Write, tmp_path: Path, body: str, said: str
) -> None:
    command = script(tmp_path, body)
    hooks_file({"command": command})
    assert events.fire(FAILED) == (f"command {command[0]} {said}",)


def test_command_that_is_not_there_is_a_warning(hooks_file: Write) -> None:
    hooks_file({"command": ["/no/such/hook"]})
    assert events.fire(FAILED) == (
        "command /no/such/hook can't be run: No such file or directory.",
    )


@pytest.mark.parametrize("goes_on", ["", "exit 0"])
def test_all_that_a_command_has_started_ends_with_it(
    hooks_file: Write, tmp_path: Path, goes_on: str
) -> None:
    # The child holds the output open, ignores what can be ignored, and prints for ever.
    body = f"""sh -c 'trap "" TERM HUP; echo $$ > {tmp_path}/pid; while :; do echo x; done' &
until test -s {tmp_path}/pid; do sleep 0.02; done; {goes_on}
wait"""
    # Long enough to have started all of it, however busy this machine is.
    hooks_file({"command": script(tmp_path, body), "timeout_seconds": 10 if goes_on else 4})
    warnings = events.fire(FAILED)
    assert len(warnings) == (0 if goes_on else 1)
    assert wait_for(lambda: ended(int((tmp_path / "pid").read_text())))


def test_command_that_reads_nothing_harms_nothing(hooks_file: Write) -> None:
    hooks_file({"command": ["/bin/true"]})
    assert events.fire(Event("failure", "It failed.", details="x" * 10_000_000)) == ()


# --- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        "{secret",
        '{"schema": 2, "hooks": []}',
        '{"schema": 1, "hooks": [{"events": ["secret"], "webhook": "http://x"}]}',
        '{"schema": 1, "hooks": [{"events": [], "webhook": "secret", "mail": ["x"]}]}',
        '{"schema": 1, "hooks": [{"events": [], "command": []}]}',
        '{"schema": 1, "hooks": [{"events": [], "mail": ["x"]}], "mail": null}',
        '{"schema": 1, "hooks": [], "mail": {"server": "x", "port": "secret"}}',
    ],
)
def test_wrong_file_is_one_warning_without_its_content(hooks_file: Write, content: str) -> None:
    hooks_file().write_text(content)
    [warning] = events.fire(FAILED)
    assert warning.startswith("The hooks weren't run: ")
    assert "secret" not in warning


def test_bug_in_a_hook_is_one_warning(hooks_file: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: Any) -> None:
        raise RuntimeError("http://secret")

    hooks_file()
    monkeypatch.setattr(events, "deliver", explode)
    assert events.fire(FAILED) == ("The hooks weren't run: RuntimeError.",)
