"""Calling other programs."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from bedstone.core import process as module
from bedstone.core.errors import CommandError
from bedstone.core.process import run

PYTHON = sys.executable


def test_output_and_exit_code_are_kept() -> None:
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    done = run([PYTHON, "-c", code], check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")
    assert done.output == "out\nerr"


def test_failure_shows_the_last_lines() -> None:
    code = "import sys; [print(n) for n in range(100)]; sys.exit(1)"
    with pytest.raises(CommandError, match="exit code 1") as caught:
        run([PYTHON, "-c", code])
    assert caught.value.details.splitlines() == [str(n) for n in range(75, 100)]


def test_missing_program_is_told() -> None:
    with pytest.raises(CommandError, match="'no-such-program' isn't on this server"):
        run(["no-such-program"])


def test_input_goes_to_standard_input() -> None:
    assert run(["cat"], input_text="password").stdout == "password"


def test_program_that_reads_no_input_does_not_hang() -> None:
    assert run(["true"], input_text="x" * 10_000_000).returncode == 0


def test_without_input_there_is_none() -> None:
    assert run(["cat"], timeout=5).stdout == ""


def test_too_long_is_ended_with_its_children() -> None:
    began = time.monotonic()
    with pytest.raises(CommandError, match=r"longer than 0\.3 seconds") as caught:
        run(["sh", "-c", "echo begun; sleep 60 & wait"], timeout=0.3)
    assert caught.value.returncode is None
    assert caught.value.details == "begun"
    assert time.monotonic() - began < 8


def test_only_the_end_of_long_output_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_CHARACTERS", 100)
    done = run([PYTHON, "-c", "for n in range(10000): print(n)"])
    assert len(done.stdout) == 100
    assert done.stdout.endswith("9999\n")


def test_lines_come_as_they_are_printed() -> None:
    lines: list[str] = []
    run(["printf", "a\\nb"], on_line=lines.append)
    assert lines == ["a", "b"]


def test_environment_is_added_to_our_own() -> None:
    done = run(["sh", "-c", 'echo "$NEW $HOME"'], env={"NEW": "1"})
    assert done.stdout.startswith("1 /")


def test_output_can_go_to_a_file(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as handle:
        assert run(["echo", "x"], stdout=handle).stdout == ""
    assert (tmp_path / "out").read_text() == "x\n"
