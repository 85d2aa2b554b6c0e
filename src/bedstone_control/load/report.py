"""Judge a load test, and write its result as a table or as JSON."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bedstone_control.load.plan import Plan
    from bedstone_control.load.send import Sample

_HEADS = ("PATH", "REQUESTS", "FAILED", "RATE/s", "P50 ms", "P95 ms", "P99 ms", "MAX ms")
_ALL = "all"
_MOST_FAULTS = 10


@dataclass(frozen=True)
class Row:
    """The answers of a path; times are those of good answers, None without one."""

    path: str
    requests: int
    failed: int
    rate: float
    p50: float | None
    p95: float | None
    p99: float | None
    longest: float | None


@dataclass(frozen=True)
class Result:
    """The result of a load test.

    Attributes:
        plan: what was sent.
        rows: one for each path, and one for all of them when there are several.
        faults: what was wrong, and how often.
        exceeded: limits that are not kept, each as a sentence.

    """

    plan: Plan
    rows: tuple[Row, ...]
    faults: tuple[tuple[str, int], ...]
    exceeded: tuple[str, ...]


def percentile(times: Sequence[float], share: int) -> float | None:
    """Return the time that a share of them, in percent, doesn't exceed (nearest rank)."""
    if not times:
        return None
    return sorted(times)[math.ceil(len(times) * share / 100) - 1]


def result(
    plan: Plan,
    samples: Sequence[Sample],
    seconds: float,
    *,
    most_failed: int = 0,
    p95_ms: int | None = None,
    p99_ms: int | None = None,
) -> Result:
    """Judge what came of the requests.

    Args:
        plan: what was sent.
        samples: what came of each request.
        seconds: how long it took.
        most_failed: how many may fail.
        p95_ms: the most that 95 % of the good answers may take, of each path.
        p99_ms: the same of 99 %.

    """
    rows = [
        _row(path, [one for one in samples if one.path == path], seconds) for path in plan.paths
    ]
    total = _row(_ALL, samples, seconds)
    exceeded = []
    if total.failed > most_failed:
        exceeded.append(f"{total.failed} requests failed, at most {most_failed} may")
    for row in rows:
        for name, limit, found in (("p95", p95_ms, row.p95), ("p99", p99_ms, row.p99)):
            if limit is not None and (found is None or found > limit):
                said = "no good answer" if found is None else f"{found:.0f} ms"
                exceeded.append(f"{row.path}: {name} is {said}, at most {limit} ms")
    faults = Counter(f"{one.path}: {one.fault}" for one in samples if one.fault is not None)
    shown = (*rows, total) if len(rows) > 1 else tuple(rows)
    return Result(plan, shown, tuple(faults.most_common(_MOST_FAULTS)), tuple(exceeded))


def _row(path: str, samples: Sequence[Sample], seconds: float) -> Row:
    times = [one.milliseconds for one in samples if one.fault is None]
    return Row(
        path,
        len(samples),
        len(samples) - len(times),
        len(samples) / seconds if seconds else 0.0,
        *(percentile(times, share) for share in (50, 95, 99, 100)),
    )


def lines(found: Result) -> list[str]:
    """Return the lines of a table, what failed, and the verdict as the last."""
    cells = [_HEADS] + [
        (
            row.path,
            str(row.requests),
            str(row.failed),
            f"{row.rate:.1f}",
            *(
                "-" if each is None else f"{each:.0f}"
                for each in (row.p50, row.p95, row.p99, row.longest)
            ),
        )
        for row in found.rows
    ]
    widths = [max(len(line[i]) for line in cells) for i in range(len(_HEADS))]
    table = [
        "  ".join(
            [line[0].ljust(widths[0])]
            + [text.rjust(width) for text, width in zip(line[1:], widths[1:], strict=True)]
        )
        for line in cells
    ]
    faults = [f"{count} x {fault}" for fault, count in found.faults]
    verdict = [f"exceeded: {each}" for each in found.exceeded] or ["All limits are kept."]
    return [*table, *faults, *verdict]


def as_json(found: Result) -> str:
    """Return the result as JSON: `ok`, `rows`, `faults` and `exceeded`."""
    content = {
        "ok": not found.exceeded,
        "app": found.plan.app,
        "domain": found.plan.domain,
        "rows": [asdict(row) for row in found.rows],
        "faults": dict(found.faults),
        "exceeded": list(found.exceeded),
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
