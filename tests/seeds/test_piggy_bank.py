"""The piggy bank as its document has it, next to another team's app on the same server."""

from __future__ import annotations

import json
import secrets
import shlex
from collections.abc import Callable
from typing import Any

import pytest

from tests.seeds.conftest import System, waited_for
from tests.seeds.receiver import items

pytestmark = pytest.mark.parametrize("system", ["piggy-bank-and-coffee"], indirect=True)

BROKER = "redis-octoco-store.service"
WORKERS = "bedstone-octoco-worker@1.service bedstone-octoco-worker@2.service"
NAME, ADDRESS, TOKEN = "Ada-Lovelace", "ada@people.example", "Bearer-of-Ada-5f2c"
CLIENT = "203.0.113.77"


def deposits(system: System, batch: str) -> dict[str, Any]:
    """Return what was written of a batch of deposits."""
    return system.ask(f"/api/v1/deposits/?batch={batch}")


def test_two_workers_share_the_tasks(system: System) -> None:
    batch = secrets.token_hex(4)
    system.ask("/api/v1/deposits/", f"batch={batch}", "count=120")
    waited_for("all are written", lambda: deposits(system, batch)["numbers"] == 120)
    told = deposits(system, batch)
    assert told["rows"] == 120
    assert len(told["containers"]) == 2


def test_schedule_in_the_database_fires_exactly_once(system: System) -> None:
    once, often = secrets.token_hex(4), secrets.token_hex(4)

    def told(name: str) -> dict[str, Any]:
        return system.ask(f"/api/v1/schedules/?name={name}")

    system.ask("/api/v1/schedules/", f"name={once}", "seconds=1", "once=yes")
    system.ask("/api/v1/schedules/", f"name={often}", "seconds=1")
    # The second shows that beat went on and that the first could have fired again.
    waited_for("the other one fired often", lambda: told(often)["firings"] >= 5)
    assert told(once) == {"firings": 1, "enabled": False}


def test_dead_workers_make_it_unready_and_no_task_is_lost(system: System) -> None:
    batch = secrets.token_hex(4)
    system.on_server(f"systemctl stop {WORKERS}")
    try:
        waited_for("it is unready", lambda: system.answer("/health")[0] == 503)
        told = json.loads(system.answer("/health")[1])
        checks = {name: told[name] for name in ("status", "database", "redis", "celery")}
        assert checks == {
            "status": "unhealthy",
            "database": True,
            "redis": True,
            "celery": False,
        }
        status = json.loads(system.on_server("bedstone status --json || true"))
        (app,) = [each for each in status["apps"] if each["app"] == "octoco"]
        unwell = {each["service"].partition("@")[0] for each in app["services"] if not each["ok"]}
        assert unwell == {"web", "worker"}
        assert not status["ok"]
        other = [each for each in status["apps"] if each["app"] != "octoco"]
        assert [each["ok"] for each in other] == [True]
        # The API takes orders on; the broker keeps them over its own restart.
        system.ask("/api/v1/deposits/", f"batch={batch}", "count=20")
        system.on_server(f"systemctl restart {BROKER}")
        assert deposits(system, batch)["rows"] == 0
    finally:
        system.on_server(f"systemctl start {WORKERS}")
    waited_for("all are written", lambda: deposits(system, batch)["numbers"] == 20)
    assert deposits(system, batch)["rows"] == 20
    waited_for("it is ready", lambda: '"celery":true' in system.answer("/health")[1])


def test_every_request_has_a_line_with_nginxs_id(system: System) -> None:
    path = f"/api/v1/{secrets.token_hex(8)}/"
    status, _ = system.answer(path, headers=["X-Request-ID: of-the-client"])
    assert status == 404
    web = "journalctl --no-pager -o cat -u 'bedstone-octoco-web@*'"
    found = f"{web} | grep -F {path} | grep -F request_id"
    waited_for("its line", lambda: bool(system.on_server(f"{found} || true").strip()))
    line = json.loads(system.on_server(found).strip())
    (edge,) = [json.loads(text) for text in in_nginxs_log(system, path)]
    assert (line["event"], line["level"], line["logger"]) == ("request", "INFO", "octoco.requests")
    assert (line["method"], line["path"], line["status"]) == ("GET", path, 404)
    assert line["duration_ms"] >= 0
    assert line["request_id"] == edge["request_id"] != "of-the-client"


def in_nginxs_log(system: System, text: str) -> list[str]:
    """Return the lines of nginx's log with a text, once they are written."""
    command = f"grep -hF {text} /var/log/nginx/access.log || true"
    waited_for("nginx's line", lambda: bool(system.on_server(command).strip()))
    return system.on_server(command).splitlines()


def test_slack_is_told_of_the_release(system: System) -> None:
    told = [json.loads(body) for path, body in system.receiver.received if path == "/slack"]
    assert [each for each in told if "octoco" in json.dumps(each)], told


# --- Sentry ---


def described(system: System, sent: bytes) -> set[str]:
    """Return what describes a person, or is a secret, in what was sent."""
    wanted = {
        "name": NAME,
        "address": ADDRESS,
        "encoded address": ADDRESS.replace("@", "%40"),
        "authorization": TOKEN,
        "cookie": "sessionid",
        "client": CLIENT,
        **{f"secret {place}": text for place, text in leaves(system.secrets)},
    }
    return {what for what, text in wanted.items() if text.encode() in sent}


def leaves(held: dict[str, Any], place: str = "") -> list[tuple[str, str]]:
    """Return the secrets of a vault, each with its place."""
    found = []
    for name, value in held.items():
        if isinstance(value, dict) and name != "made":  # the days on which they were made
            found += leaves(value, f"{place}{name}.")
        elif isinstance(value, str) and name != "certificate":
            # Of a key in several lines one of them: JSON writes line breaks otherwise.
            found.append((f"{place}{name}", max(value.split(), key=len)))
    return found


def of_kind(kind: str) -> Callable[[bytes], bool]:
    """Return whether an envelope has an item of a type."""
    return lambda envelope: kind in {name for name, _ in items(envelope)}


def with_text(text: str) -> Callable[[bytes], bool]:
    """Return whether an envelope holds a text."""
    return lambda envelope: text.encode() in envelope


def fail_once(system: System, *environment: str) -> list[bytes]:
    """Let a request fail in a container of its own, and return the envelopes it sent."""
    before = len(system.receiver.received)
    command = ["env", "SENTRY_TRACES_SAMPLE_RATE=1.0", *environment, "python", "manage.py"]
    command += ["fail_once", "--name", NAME, "--address", ADDRESS]
    command += ["--authorization", TOKEN, "--client", CLIENT]
    said = system.on_server(f"bedstone run octoco -- {shlex.join(command)}")
    assert "500 Internal Server Error" in said
    # Traces are sent in an envelope of their own.
    for kind in ("event", "transaction"):
        system.receiver.wait_for(of_kind(kind), kind, after=before)
    return system.receiver.envelopes(before)


def test_sentry_gets_the_error_and_nothing_of_the_person(system: System) -> None:
    before = len(system.receiver.received)
    login = system.ask("/api/v1/session/", f"name={NAME}", f"address={ADDRESS}")
    assert login == {"name": NAME}
    status, _ = system.answer(
        "/api/v1/failures/", f"address={ADDRESS}", headers=[f"Authorization: {TOKEN}"]
    )
    assert status == 500
    system.ask("/api/v1/failures/", f"address={ADDRESS}", "where=worker")
    for place in ("in a request", "in a worker"):
        told = with_text(f"no deposit of [address] {place}")
        sent = system.receiver.wait_for(told, place, after=before)
        (event,) = [content for kind, content in items(sent) if kind == "event"]
        (error,) = event["exception"]["values"]
        assert error["type"] == "RuntimeError"
        assert error["stacktrace"]["frames"][-1]["function"] in {"failures", "fail"}
        assert event["environment"] == "production"
    all_of_it = b"\n".join(system.receiver.envelopes())
    assert described(system, all_of_it) == set()
    assert system.server.address.encode() not in all_of_it


def test_traces_hold_nothing_of_the_person(system: System) -> None:
    assert described(system, b"\n".join(fail_once(system))) == set()


def test_the_search_finds_a_person_where_the_app_sends_one(system: System) -> None:
    sent = b"\n".join(fail_once(system, "SENTRY_SEND_DEFAULT_PII=True"))
    found = described(system, sent)
    assert {"name", "address", "authorization", "client"} <= found, found
