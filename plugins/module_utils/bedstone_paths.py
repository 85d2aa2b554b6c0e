"""Absolute paths and the patterns that choose them."""

from __future__ import annotations

import functools
import re


def matches(path: str, pattern: str) -> bool:
    """Return whether an absolute path fits a pattern.

    In a pattern `*` and `?` stay within one directory, `**` crosses directories, `[abc]` is one
    of some characters; `/etc/x/**` fits all that lies below /etc/x, at any depth.
    """
    return _compiled(pattern).fullmatch(path) is not None


def matches_any(path: str, patterns: list[str]) -> bool:
    """Return whether an absolute path fits at least one of the patterns."""
    return any(matches(path, pattern) for pattern in patterns)


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    tokens = re.compile(r"\*\*/|\*\*|\*|\?|\[!?[^\]]+\]|.", re.DOTALL)
    parts = []
    for piece in tokens.findall(pattern):
        if piece == "**/":
            parts.append("(?:.*/)?")
        elif piece == "**":
            parts.append(".*")
        elif piece == "*":
            parts.append("[^/]*")
        elif piece == "?":
            parts.append("[^/]")
        elif len(piece) > 1:
            parts.append("[^" + piece[2:] if piece.startswith("[!") else piece)
        else:
            parts.append(re.escape(piece))
    return re.compile("".join(parts), re.DOTALL)
