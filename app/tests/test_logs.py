"""Log lines that a machine can read, and their request ids."""

from __future__ import annotations

import json
import logging
import sys
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from config.logs import JsonLines, RequestIdFilter, request_id

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from django.test import Client


def line_of(record: logging.LogRecord) -> dict[str, Any]:
    RequestIdFilter().filter(record)
    text = JsonLines().format(record)
    assert "\n" not in text
    parsed: dict[str, Any] = json.loads(text)
    return parsed


def record(message: str, *arguments: object, **more: Any) -> logging.LogRecord:
    made = logging.getLogger("payments.test").makeRecord(
        *("payments.test", logging.WARNING, __file__, 42, message, arguments),
        exc_info=more.pop("exc_info", None),
        func="somewhere",
        extra=more,
    )
    assert isinstance(made, logging.LogRecord)
    return made


def test_a_line_has_the_agreed_fields_in_order() -> None:
    line = line_of(record("%s paid", "PR-00001"))
    assert [*line] == [
        *("timestamp", "level", "logger", "message"),
        *("module", "function", "line", "request_id"),
    ]
    age = datetime.now(UTC) - datetime.fromisoformat(line.pop("timestamp"))
    assert timedelta(0) <= age + timedelta(milliseconds=1) < timedelta(seconds=10)
    assert line | {"request_id": None} == {
        "level": "WARNING",
        "logger": "payments.test",
        "message": "PR-00001 paid",
        "module": "test_logs",
        "function": "somewhere",
        "line": 42,
        "request_id": None,
    }


def test_extra_fields_follow() -> None:
    assert line_of(record("paid", payment_request="PR-00001"))["payment_request"] == "PR-00001"


def test_an_exception_is_one_line_with_its_traceback() -> None:
    try:
        int("broken\nin two")
    except ValueError:
        line = line_of(record("failed", exc_info=sys.exc_info()))
    assert line["exception"].startswith("Traceback")
    assert "ValueError: invalid literal" in line["exception"]


def test_nobody_can_forge_a_line() -> None:
    assert line_of(record("user %s", 'x"}\n{"level": "INFO'))["message"].startswith('user x"}\n')


def test_the_request_id_is_on_the_line() -> None:
    def log() -> dict[str, Any]:
        request_id.set("0123456789abcdef")
        return line_of(record("hello"))

    assert copy_context().run(log)["request_id"] == "0123456789abcdef"


@pytest.mark.parametrize("given", ["0123456789abcdef", "a-b_c.d-1234"])
def test_a_proxys_request_id_is_taken_over(client: Client, given: str) -> None:
    answer = client.get("/health/live", headers={"x-request-id": given})
    assert answer.headers["X-Request-ID"] == given


@pytest.mark.parametrize("given", ["", "short", "x" * 65, "with spaces in it", 'quote"quote'])
def test_an_unsound_request_id_is_replaced(client: Client, given: str) -> None:
    made = client.get("/health/live", headers={"x-request-id": given}).headers["X-Request-ID"]
    assert made != given
    assert len(made) == 32


def test_a_missing_page_is_logged_with_its_request_id(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    client.post("/health/live", headers={"x-request-id": "0123456789abcdef"})
    (entry,) = [entry for entry in caplog.records if entry.name == "django.request"]
    assert request_id.get() == "0123456789abcdef"
    assert "Method Not Allowed" in entry.getMessage()


@pytest.mark.parametrize(("level", "shown"), [("INFO", True), ("WARNING", False)])
def test_log_level_decides_what_is_shown(
    run: Callable[..., subprocess.CompletedProcess[str]],
    environment: dict[str, str],
    level: str,
    shown: bool,  # noqa: FBT001
) -> None:
    code = "import logging; logging.getLogger('payments').info('a piece of news')"
    done = run("manage.py", "shell", "-c", code, env=environment | {"LOG_LEVEL": level})
    assert ("a piece of news" in done.stderr) is shown, done.stderr


def test_text_is_for_people(
    run: Callable[..., subprocess.CompletedProcess[str]], environment: dict[str, str]
) -> None:
    code = "import logging; logging.getLogger('payments').info('a piece of news')"
    done = run("manage.py", "shell", "-c", code, env=environment | {"LOG_FORMAT": "text"})
    assert "INFO     payments [None] a piece of news" in done.stderr
