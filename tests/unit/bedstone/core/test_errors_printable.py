"""What an app printed never acts on the terminal of the person who reads it."""

from __future__ import annotations

import pytest

from bedstone.core.errors import BedstoneError, printable
from bedstone.core.process import run
from bedstone.system.systemd import Systemd

EVIL = "\x1b]0;title\x07\x1b[2Jgone\x9b1m \u202etxt\x7f"
SHOWN = "\\x1b]0;title\\x07\\x1b[2Jgone\\x9b1m \\u202etxt\\x7f"


def test_control_characters_are_written_out() -> None:
    assert printable(EVIL) == SHOWN
    assert printable("tab\tline\r\nÄ, 漢字 and 🚀\n") == "tab\tline\nÄ, 漢字 and 🚀\n"


def test_errors_hold_none() -> None:
    error = BedstoneError(f"message {EVIL}", hint=f"hint {EVIL}", details=f"{EVIL}\nnext")
    assert error.text().count(SHOWN) == 3
    assert "\x1b" not in f"{error}{error.text()}"


def test_lines_of_a_running_command_hold_none() -> None:
    lines: list[str] = []
    run(["printf", EVIL.encode("unicode_escape").decode()], on_line=lines.append)
    run(["printf", "%s", EVIL], on_line=lines.append)
    assert all("\x1b" not in line for line in lines)
    assert lines[-1] == SHOWN


def test_lines_of_the_journal_hold_none(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path_factory.mktemp("programs")
    (programs / "journalctl").write_text(f"#!/bin/sh\nprintf '%s\\n' '{EVIL}'\n", encoding="utf-8")
    (programs / "journalctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    assert Systemd().journal(["x.service"]) == f"{SHOWN}\n"
