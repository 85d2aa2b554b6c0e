"""Report all problems with settings or servers at once."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import ValidationError

_WIDTH = 88


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        message: what is wrong, as a sentence.
        where: the setting, file or host, as an operator knows it.
        file: the file to edit, with the line when known.
        example: a right value, as it would stand in that file.

    """

    message: str
    where: str
    file: str
    example: str

    def __str__(self) -> str:
        """Return the problem as a paragraph."""
        text = textwrap.fill(
            f"{self.where}: {self.message}",
            _WIDTH,
            subsequent_indent="   ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        example = textwrap.indent(self.example.strip(), " " * 7)
        return f"{text}\n   file: {self.file}\n   example:\n{example}"


def report(problems: Sequence[Problem], subject: str) -> str:
    """Return all problems as one text.

    Args:
        problems: at least one.
        subject: what was checked, such as "the settings".

    """
    count = "One problem" if len(problems) == 1 else f"{len(problems)} problems"
    body = "\n\n".join(f"{number}. {problem}" for number, problem in enumerate(problems, start=1))
    return (
        f"{count} with {subject}. Nothing on the servers has been changed.\n\n{body}\n\n"
        "Every setting is described in docs/settings.md."
    )


def schema_report(error: ValidationError) -> str:
    """Return pydantic's errors as short lines, for places where the full report is not at hand."""
    lines = [
        f"bedstone_{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
        for item in error.errors(include_url=False, include_input=False)
    ]
    return "The settings are wrong (role preflight says more):\n" + "\n".join(lines)
