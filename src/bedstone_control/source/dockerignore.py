"""Match the patterns of a .dockerignore as Docker does.

Follows https://docs.docker.com/build/concepts/context/#dockerignore-files: one pattern a line,
matched from the root, `**` for any number of directories, `!` for exceptions, the last matching
line wins, and a pattern that matches a directory matches what is in it.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath


class DockerIgnore:
    """The patterns of a .dockerignore."""

    def __init__(self, text: str = "") -> None:
        """Read the patterns.

        Args:
            text: the content of the file.

        """
        self._rules: list[tuple[bool, re.Pattern[str]]] = []
        for raw in text.removeprefix("\ufeff").splitlines():
            if raw.startswith("#"):
                continue
            line = raw.strip()
            negated = line.startswith("!")
            pattern = line[1:].strip() if negated else line
            if not pattern:
                continue
            pattern = str(PurePosixPath("/") / pattern.lstrip("/")).lstrip("/")
            if pattern:
                self._rules.append((negated, re.compile(_expression(pattern))))

    def ignores(self, path: str) -> bool:
        """Return whether a file is left out.

        Args:
            path: its path from the root, with slashes.

        """
        candidates = [path, *(str(parent) for parent in PurePosixPath(path).parents)][:-1]
        ignored = False
        for negated, expression in self._rules:
            if ignored == negated and any(expression.fullmatch(item) for item in candidates):
                ignored = not negated
        return ignored


def _expression(pattern: str) -> str:
    """Translate a pattern to a regular expression."""
    result = ""
    position = 0
    while position < len(pattern):
        rest = pattern[position:]
        if rest.startswith("**/"):
            result += "(?:.*/)?"
            position += 3
        elif rest.startswith("**"):
            result += ".*"
            position += 2
        elif rest[0] == "*":
            result += "[^/]*"
            position += 1
        elif rest[0] == "?":
            result += "[^/]"
            position += 1
        elif rest[0] == "[" and (group := re.match(r"\[[^\]/]+\]", rest)):
            result += group[0].replace("[!", "[^")
            position += len(group[0])
        elif rest[0] == "\\" and len(rest) > 1:
            result += re.escape(rest[1])
            position += 2
        else:
            result += re.escape(rest[0])
            position += 1
    return result
