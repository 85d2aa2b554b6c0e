"""Colour the output if it is a terminal."""

from __future__ import annotations

import os
import sys

_CODES = {"red": "31", "green": "32", "yellow": "33", "faint": "2"}


class Paint:
    """Colours text at a terminal, unless NO_COLOR is set (https://no-color.org)."""

    def __init__(self, *, on: bool | None = None) -> None:
        """Decide by standard output, unless ``on`` is given."""
        self.on = (
            sys.stdout.isatty()
            and not os.environ.get("NO_COLOR")
            and os.environ.get("TERM") != "dumb"
            if on is None
            else on
        )

    def __call__(self, colour: str, text: str) -> str:
        """Return the text in a colour (red, green, yellow, faint, plain)."""
        if not self.on or not text or colour == "plain":
            return text
        return f"\x1b[{_CODES[colour]}m{text}\x1b[0m"
