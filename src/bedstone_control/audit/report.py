"""Write the result of an audit as a table or as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_HEADS = ("", "HOST", "CHECK", "EXPECTED", "FOUND")


@dataclass(frozen=True)
class Row:
    """The result of one check."""

    host: str
    check: str
    expected: str
    found: str
    ok: bool


def table(rows: Sequence[Row]) -> list[str]:
    """Return the lines of a table, and a summary as its last."""
    cells = [("ok" if r.ok else "FAIL", r.host, r.check, r.expected, r.found) for r in rows]
    widths = [max(len(line[i]) for line in [_HEADS, *cells]) for i in range(len(_HEADS) - 1)]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(line, [*widths, 0], strict=True))
        for line in [_HEADS, *cells]
    ]
    return [*(line.rstrip() for line in lines), summary(rows)]


def summary(rows: Sequence[Row]) -> str:
    """Return how many checks failed, in a sentence."""
    failed = sum(not row.ok for row in rows)
    return (
        f"{failed} of {len(rows)} checks failed." if failed else f"All {len(rows)} checks passed."
    )


def as_json(rows: Sequence[Row]) -> str:
    """Return the checks as JSON: `ok`, and `checks` with the fields of each."""
    content = {"ok": all(row.ok for row in rows), "checks": [asdict(row) for row in rows]}
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
