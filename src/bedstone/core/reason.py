"""Find the lines of an output that give the cause of a failure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_LINES = 4
_CHARACTERS = 300
_KEPT_OF_BLOCK = 12
_TELLING = re.compile(
    r"error|exception|fatal|denied|refused|no such|not found|invalid|unknown|can.?not|can't|failed",
    re.IGNORECASE,
)
_TRACEBACK = "Traceback (most recent call last)"
# BuildKit's step and seconds stand before each line of a build.
_STEP = re.compile(r"^(?:#\d+ )?(?:\d+\.\d+ )?")
# An indentation, with the frame of an exception group (PEP 654).
_INDENT = re.compile(r"\s*(?:[|+]\s*)?")
# pip prints a build's own output between these two, its own words before and after.
_BLOCK_BEGIN = re.compile(r"\[\d+ lines of output\]")
_BLOCK_END = "[end of output]"
_ELSEWHERE = re.compile(
    r"see (the )?(above|output|log|traceback|error)|(output|logs?|errors?|details?|messages?) above"
    r"|subprocess-exited-with-error",
    re.IGNORECASE,
)


def telling(output: str) -> list[str]:
    """Return the lines of an output that matter: from the first that speaks of an error on."""
    lines = _lines(output)
    lines = [_plain(line) for line in block] if (block := _block(lines)) else lines
    if (ends := _after_traceback(lines)) is not None:
        return ends[:_LINES] or lines[-_LINES:]
    for number, line in enumerate(lines):
        if _TELLING.search(line) and not _ELSEWHERE.search(line):
            return lines[number : number + _LINES]
    return lines[-_LINES:]


def exception(output: str) -> str | None:
    """Return what the last Python traceback of an output ends with, None without one.

    It goes into a message, which is one line: a longer one is cut.
    """
    ends = _after_traceback(_lines(output))
    return _INDENT.sub("", _STEP.sub("", ends[0]), count=1)[:_CHARACTERS] if ends else None


def tail(text: str, most: int) -> str:
    """Return the last lines of a text that aren't empty.

    When they only point to lines before them ("See above for output"), some of those come first,
    and when the end of a Python traceback isn't among them, its last line does.
    """
    lines = _lines(text)
    kept = lines[-most:]
    earlier: list[str] = []
    if any(_ELSEWHERE.search(line) for line in kept):
        block = _block(lines)
        if block and not set(block) <= set(kept):
            earlier = block[-_KEPT_OF_BLOCK:]
        elif not block:
            earlier = lines[-most - _KEPT_OF_BLOCK : -most]
    ends = _after_traceback(lines)
    if not earlier and ends and ends[0] not in kept:
        earlier = ends[:1]
    return "\n".join([*earlier, *(["…"] if earlier else []), *kept])


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def _plain(line: str) -> str:
    return _STEP.sub("", line).removeprefix("      ")


def _block(lines: Sequence[str]) -> list[str]:
    """Return the last output of a build that pip has put between its own words."""
    ends = [number for number, line in enumerate(lines) if line.endswith(_BLOCK_END)]
    for end in reversed(ends):
        begins = [number for number in range(end) if _BLOCK_BEGIN.search(lines[number])]
        if begins and begins[-1] + 1 < end:
            return list(lines[begins[-1] + 1 : end])
    return []


def _after_traceback(lines: Sequence[str]) -> list[str] | None:
    """Return the lines from a traceback's end on, None when there is no traceback.

    The exception is the first line that isn't indented more than the traceback's own first line.
    """
    begin = max((n for n, line in enumerate(lines) if _TRACEBACK in line), default=None)
    if begin is None:
        return None
    depth = _depth(lines[begin])
    ends = [line for line in lines[begin + 1 :] if _depth(line) <= depth]
    return ends or []


def _depth(line: str) -> int:
    """Return by how much a line is indented, whatever stands before it."""
    found = _INDENT.match(_STEP.sub("", line))
    return found.end() if found else 0
