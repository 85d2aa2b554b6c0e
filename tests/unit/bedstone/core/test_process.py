"""Calling other programs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from bedstone.core import process as module
from bedstone.core.errors import CommandError
from bedstone.core.process import Completed, TooLongError, run, watched

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


def test_raw_lines_of_standard_output_are_not_kept() -> None:
    lines: list[str] = []
    done = run(["sh", "-c", "printf 'a\\033\nb\n'; echo err >&2"], on_stdout=lines.append)
    assert (lines, done.stdout, done.stderr) == (["a\033\n", "b\n"], "", "err\n")


def test_a_character_of_several_bytes_stays_whole_in_a_long_line() -> None:
    code = "print('x' + 'é' * 2_000_000)"
    done = run([PYTHON, "-X", "utf8", "-c", code], kept_characters=3_000_000)
    assert done.stdout == "x" + "é" * 2_000_000 + "\n"


def test_an_allowed_exit_code_is_no_failure() -> None:
    assert run(["sh", "-c", "exit 3"], allowed=(0, 3)).returncode == 3
    with pytest.raises(CommandError, match="exit code 4"):
        run(["sh", "-c", "exit 4"], allowed=(0, 3))


def test_a_program_that_prints_the_same_makes_no_progress() -> None:
    code = "import time\nwhile True: print('same', flush=True); time.sleep(0.01)"
    with pytest.raises(TooLongError, match=r"made no progress for 0\.5 seconds"):
        run([PYTHON, "-c", code], still_seconds=0.5)


def test_a_program_that_makes_progress_goes_on() -> None:
    code = "import time\nfor i in range(15): print(i, flush=True); time.sleep(0.1)"
    assert run([PYTHON, "-c", code], still_seconds=1).returncode == 0


def test_progress_is_the_part_of_a_line_that_counts() -> None:
    code = "import time\nfor i in range(200): print(i, flush=True); time.sleep(0.05)"
    with pytest.raises(TooLongError, match="no progress"):
        run([PYTHON, "-c", code], still_seconds=0.5, progress=lambda _: "same")


def watching(argv: Sequence[str], watch: Callable[[], None]) -> Completed:
    return run(argv, timeout=None, watch=watch)


def watched_runner(argv: Sequence[str], watch: Callable[[], None]) -> Completed:
    return watched(watch)(argv, timeout=0.01)


@pytest.mark.parametrize("start", [watching, watched_runner])
def test_the_exception_of_a_watch_ends_the_program_and_its_children(
    tmp_path: Path, start: Callable[[Sequence[str], Callable[[], None]], Completed]
) -> None:
    pid = tmp_path / "pid"

    def watch() -> None:
        if pid.exists() and pid.read_text():
            raise CommandError("stop", returncode=None, output="")

    script = f"sh -c 'trap \"\" TERM; echo $$ >{pid}; sleep 60; sleep 60' & wait"
    with pytest.raises(CommandError, match="stop"):
        start(["sh", "-c", script], watch)
    # A signal has been sent when `kill` returns; the process ends when it is next scheduled.
    limit = time.monotonic() + 30
    while alive(int(pid.read_text())):
        assert time.monotonic() < limit
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Return whether a process runs; one that its new parent hasn't reaped doesn't."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
