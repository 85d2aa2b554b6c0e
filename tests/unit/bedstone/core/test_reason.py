"""The lines of an output that say why."""

from __future__ import annotations

import pytest

from bedstone.core import reason

PIP = """\
Collecting psycopg2==2.9.6
  error: subprocess-exited-with-error
  \u00d7 Getting requirements to build wheel did not run successfully.
  │ exit code: 1
  ╰─> [4 lines of output]
      running egg_info
      writing src/psycopg2.egg-info/PKG-INFO
      Error: pg_config executable not found.
      Please add the directory containing pg_config to the $PATH
      [end of output]
  note: This error originates from a subprocess, and is likely not a problem with pip.
error: subprocess-exited-with-error
\u00d7 Getting requirements to build wheel did not run successfully.
│ exit code: 1
╰─> See above for output.
note: This error originates from a subprocess, and is likely not a problem with pip.
"""
GROUP = """\
  + Exception Group Traceback (most recent call last):
  |   File "main.py", line 3, in <module>
  | ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)
  +-+---------------- 1 ----------------
    | Traceback (most recent call last):
    |   File "main.py", line 9, in job
    | shop.errors.OutOfStock: 3 left
    +------------------------------------
"""
CHAINED = """\
Traceback (most recent call last):
  File "a.py", line 1, in <module>
KeyError: 'DEBUG'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "a.py", line 3, in <module>
    raise Wrong
          ^^^^^
shop.settings.Wrong
[2026-11-29 12:00:00 +0000] [1] [INFO] Shutting down: Master
"""


def build(text: str) -> str:
    """Return an output as BuildKit shows it, with what it says after it."""
    steps = "\n".join(f"#9 {n / 2 + 9:.3f} {line}" for n, line in enumerate(text.splitlines()))
    rest = "\n".join(f"#10 line {number}" for number in range(12))
    return f"{steps}\n{rest}\nERROR: failed to solve: exit code: 1\n"


@pytest.mark.parametrize(
    ("details", "lines"),
    [
        ("", []),
        ("one\ntwo\nthree\nfour\nfive", ["two", "three", "four", "five"]),
        ("starting\n  FATAL: no\nthen\n", ["  FATAL: no", "then"]),
        (
            "Error log\nTraceback (most recent call last):\n  boom()\nValueError: reason\n",
            ["ValueError: reason"],
        ),
        (
            "Traceback (most recent call last):\n  File x",
            ["Traceback (most recent call last):", "  File x"],
        ),
    ],
)
def test_lines_that_matter_are_found(details: str, lines: list[str]) -> None:
    assert reason.telling(details) == lines


@pytest.mark.parametrize("text", [PIP, build(PIP)])
def test_reason_comes_with_what_points_to_it(text: str) -> None:
    assert reason.telling(text)[0] == "Error: pg_config executable not found."
    shown = reason.tail(text, 15)
    assert "pg_config executable not found" in shown
    assert "See above for output" in shown
    assert reason.telling(shown)[0].endswith("Error: pg_config executable not found.")


def test_any_last_line_that_points_elsewhere_comes_with_earlier_ones() -> None:
    text = "\n".join(["the disk is full", *["x"] * 5, "make: failed, see the log above"])
    assert "the disk is full" in reason.tail(text, 3)
    assert "the disk is full" not in reason.tail(text.replace("see the log above", ""), 3)


@pytest.mark.parametrize(
    ("text", "last"),
    [
        (CHAINED, "shop.settings.Wrong"),
        (GROUP, "shop.errors.OutOfStock: 3 left"),
        (build(CHAINED), "shop.settings.Wrong"),
        ("all is well", None),
        ("Traceback (most recent call last):\n  File x", None),
        (f"Traceback (most recent call last):\n  x\nE: {'a' * 400}", f"E: {'a' * 297}"),
    ],
)
def test_traceback_is_told_by_its_last_line(text: str, last: str | None) -> None:
    assert reason.exception(text) == last


def test_traceback_far_above_is_still_told_by_its_last_line() -> None:
    text = f"Traceback (most recent call last):\n  x\nOops: 5\n{'bye' * 3}" + "\nend" * 30
    assert reason.tail(text, 25).startswith("Oops: 5\n…\nend")
