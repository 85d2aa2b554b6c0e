"""Read PostgreSQL's SQL as tokens, so that no quote or comment is taken for a statement."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

Kind = Literal["word", "name", "string", "number", "symbol"]

_SPACE = re.compile(r"\s+")
_LINE_COMMENT = re.compile(r"--[^\n]*")
_BLOCK = re.compile(r"/\*|\*/")
_DOLLAR = re.compile(r"\$(?:[^\W\d]\w*)?\$")
# An escape string has backslash escapes, a plain one doesn't.
_ESCAPE_STRING = re.compile(r"[eE]'(?:[^'\\]|\\.|'')*(?:'|$)", re.DOTALL)
_STRING = re.compile(r"(?:[uU]&|[bBxXnN])?'(?:[^']|'')*(?:'|$)", re.DOTALL)
_NAME = re.compile(r'(?:[uU]&)?"((?:[^"]|"")*)(?:"|$)', re.DOTALL)
_WORD = re.compile(r"[^\W\d][\w$]*")
_NUMBER = re.compile(r"\d[\w.]*")
_SYMBOL = re.compile(r"::|:=|[<>!=]=|<>|.", re.DOTALL)


@dataclass(frozen=True)
class Token:
    """One token.

    Attributes:
        kind: ``word`` is a keyword or an unquoted name, ``name`` a quoted one.
        value: of a word in small letters, as PostgreSQL takes it; of a quoted name without
            the quotes; of anything else as it stands.
        start: where it begins in the text.
        end: where it ends.

    """

    kind: Kind
    value: str
    start: int
    end: int


@dataclass(frozen=True)
class Statement:
    """One statement: its tokens, and the text of it without what is around."""

    tokens: tuple[Token, ...]
    text: str


def statements(text: str) -> tuple[Statement, ...]:
    """Return the statements of a text, without comments and empty ones."""
    found = []
    current: list[Token] = []
    depth = 0
    for token in tokens(text):
        if token.value == ";" and token.kind == "symbol" and not depth and not _in_body(current):
            if current:
                found.append(_statement(text, current))
            current = []
            continue
        if token.kind == "symbol":
            depth = max(0, depth + {"(": 1, ")": -1}.get(token.value, 0))
        current.append(token)
    if current:
        found.append(_statement(text, current))
    return tuple(found)


def tokens(text: str) -> Iterator[Token]:
    """Yield a text's tokens; comments and space are none. Unended quotes go to the end."""
    position = 0
    while position < len(text):
        skipped = _SPACE.match(text, position) or _LINE_COMMENT.match(text, position)
        if skipped:
            position = skipped.end()
        elif text.startswith("/*", position):
            position = _after_comment(text, position)
        else:
            token = _token(text, position)
            yield token
            position = token.end


def _token(text: str, position: int) -> Token:
    dollar = _DOLLAR.match(text, position)
    if dollar:
        closing = text.find(dollar.group(), dollar.end())
        end = len(text) if closing < 0 else closing + len(dollar.group())
        return Token("string", text[position:end], position, end)
    for pattern in (_ESCAPE_STRING, _STRING):
        found = pattern.match(text, position)
        if found:
            return Token("string", found.group(), position, found.end())
    name = _NAME.match(text, position)
    if name:
        return Token("name", name.group(1).replace('""', '"'), position, name.end())
    word = _WORD.match(text, position)
    if word:
        return Token("word", word.group().lower(), position, word.end())
    number = _NUMBER.match(text, position)
    if number:
        return Token("number", number.group(), position, number.end())
    symbol = _SYMBOL.match(text, position)
    end = symbol.end() if symbol else position + 1
    return Token("symbol", text[position:end], position, end)


def _after_comment(text: str, position: int) -> int:
    # PostgreSQL's comments nest.
    depth = 0
    for mark in _BLOCK.finditer(text, position):
        depth += 1 if mark.group() == "/*" else -1
        if depth == 0:
            return mark.end()
    return len(text)


def _in_body(current: Sequence[Token]) -> bool:
    """Return whether this is within a function's body of `BEGIN ATOMIC ... END`."""
    if len(current) < 2 or current[0].value != "create":  # noqa: PLR2004 - CREATE and what
        return False
    depth = 0
    words = [token.value for token in current if token.kind == "word"]
    for before, word in pairwise(words):
        if (before, word) == ("begin", "atomic") or (depth and word == "case"):
            depth += 1
        elif depth and word == "end":
            depth -= 1
    return depth > 0


def _statement(text: str, current: Sequence[Token]) -> Statement:
    return Statement(tuple(current), text[current[0].start : current[-1].end])


class Reader:
    """Walks along a statement's tokens."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = tokens
        self._position = 0

    @property
    def at_end(self) -> bool:
        """Return whether nothing is left."""
        return self._position >= len(self._tokens)

    def peek(self, ahead: int = 0) -> Token | None:
        """Return a token without taking it."""
        position = self._position + ahead
        return self._tokens[position] if position < len(self._tokens) else None

    def sees(self, *words: str) -> bool:
        """Return whether these words or symbols come next."""
        following = self._tokens[self._position : self._position + len(words)]
        return len(following) == len(words) and all(
            token.kind in {"word", "symbol"} and token.value == word
            for token, word in zip(following, words, strict=True)
        )

    def take(self, *words: str) -> bool:
        """Take these words if they come next; return whether they did."""
        if self.sees(*words):
            self._position += len(words)
            return True
        return False

    def skip(self) -> Token | None:
        """Take the next token, whatever it is."""
        token = self.peek()
        self._position += 1
        return token

    def name(self) -> str | None:
        """Take one name, quoted or not; None when there is none."""
        token = self.peek()
        if token is None or token.kind not in {"word", "name"}:
            return None
        self._position += 1
        return token.value

    def path(self) -> tuple[str, ...]:
        """Take a name that may have schemas in front, as its parts."""
        parts = []
        first = self.name()
        if first is None:
            return ()
        parts.append(first)
        while self.sees("."):
            self._position += 1
            part = self.name()
            if part is None:
                break
            parts.append(part)
        return tuple(parts)

    def group(self) -> tuple[Token, ...]:
        """Take what stands in parentheses, if they come next, without them."""
        if not self.take("("):
            return ()
        start = self._position
        depth = 1
        while depth and not self.at_end:
            token = self.skip()
            if token is not None and token.kind == "symbol":
                depth += {"(": 1, ")": -1}.get(token.value, 0)
        return tuple(self._tokens[start : self._position - (depth == 0)])

    def parts(self) -> list[tuple[Token, ...]]:
        """Take all that is left, split at the commas outside of parentheses."""
        found: list[list[Token]] = [[]]
        depth = 0
        while not self.at_end:
            token = self.skip()
            if token is None:
                break
            if token.kind == "symbol":
                depth += {"(": 1, ")": -1, "[": 1, "]": -1}.get(token.value, 0)
                if token.value == "," and depth == 0:
                    found.append([])
                    continue
            found[-1].append(token)
        return [tuple(part) for part in found if part]
