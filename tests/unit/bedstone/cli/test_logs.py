"""What the program's log looks like for a person, and for the journal."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

import pytest

from bedstone.cli import logs
from bedstone.core import errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

logger = logging.getLogger("bedstone.a_test")


@contextmanager
def _stderr_of_journal(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TextIO]:
    """Make a file what standard error is and, for the program, the journal."""
    # In the test's own call: between its phases pytest sets standard error again.
    with path.open("w", encoding="utf-8") as stream, monkeypatch.context() as context:
        status = os.fstat(stream.fileno())
        context.setattr(sys, "stderr", stream)
        context.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        yield stream


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def _all_levels() -> None:
    logger.debug("detail")
    logger.info("progress of %s", "shop")
    logger.warning("no mark at %s", "here")
    logger.error("one failed")


def test_a_person_gets_the_text_alone(capsys: pytest.CaptureFixture[str]) -> None:
    _all_levels()
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == "progress of shop\nbedstone: no mark at here\nbedstone: one failed\n"


def test_the_journal_gets_the_priority_of_each_line(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _stderr_of_journal(journal, monkeypatch):
        _all_levels()
        logger.error("one failed\n  | why")
    assert journal.read_text().splitlines() == [
        "<6>progress of shop",
        "<4>bedstone: no mark at here",
        "<3>bedstone: one failed",
        "<3>bedstone: one failed",
        "<3>  | why",
    ]


def test_a_unit_whose_prefixes_are_text_gets_none(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs.configure(priorities=False)
    with _stderr_of_journal(journal, monkeypatch):
        logger.warning("no mark")
    assert journal.read_text() == "bedstone: no mark\n"


@pytest.mark.parametrize("stream", ["", "8:1", "nonsense"])
def test_another_stream_than_the_journal_gets_none(
    journal: Path, monkeypatch: pytest.MonkeyPatch, stream: str
) -> None:
    with _stderr_of_journal(journal, monkeypatch):
        monkeypatch.setenv("JOURNAL_STREAM", stream)
        logger.warning("no mark")
    assert journal.read_text() == "bedstone: no mark\n"


def test_secrets_and_control_characters_are_not_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errors, "_MASKS", [lambda text: text.replace("hunter2", "***")])
    logger.info("login %s\x1b[2J", "hunter2")
    logger.warning("login %s", "hunter2")
    assert capsys.readouterr().err == "login ***\\x1b[2J\nbedstone: login ***\n"


def test_a_second_call_adds_no_second_handler(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    logs.configure()
    logger.info("once")
    assert capsys.readouterr().err == "once\n"


def test_a_closed_stream_ends_nothing(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with _stderr_of_journal(journal, monkeypatch) as stream:
        stream.close()
        logger.error("to none")
    assert journal.read_text() == ""
