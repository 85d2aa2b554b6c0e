"""Parse the columns of a view's definition."""

from __future__ import annotations

from bedstone.migrations.sql import Reader, Token


def selected(reader: Reader) -> set[str] | None:
    """Return the names of a view's columns, or None when `*` or a WITH leaves them open.

    Args:
        reader: stands after the view's name in `CREATE VIEW name [(columns)] AS query`.

    """
    listed = reader.group()
    if listed:
        return {token.value for token in listed if token.kind in {"word", "name"}}
    if reader.take("with"):
        reader.group()
    reader.take("as")
    if not reader.take("select"):
        return None
    if reader.take("distinct") and reader.take("on"):
        reader.group()
    found = set()
    for item in _items(reader):
        last = item[-1]
        if last.value == "*":
            return None
        if last.kind in {"word", "name"}:
            found.add(last.value)
        elif len(item) > 1 and item[0].kind == "word" and item[1].value == "(":
            # A function's result is named like the function.
            found.add(item[0].value)
    return found


def _items(reader: Reader) -> list[tuple[Token, ...]]:
    """Take what stands between SELECT and FROM, split at the commas outside of parentheses."""
    found: list[Token] = []
    depth = 0
    while not reader.at_end and (depth or not reader.sees("from")):
        token = reader.skip()
        if token is None:
            break
        if token.kind == "symbol":
            depth += {"(": 1, ")": -1, "[": 1, "]": -1}.get(token.value, 0)
        found.append(token)
    return Reader(found).parts()
