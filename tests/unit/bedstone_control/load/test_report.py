"""The numbers of a load test, and its verdict."""

from __future__ import annotations

import json

import pytest

from bedstone_control.load import report
from bedstone_control.load.plan import Plan
from bedstone_control.load.send import Sample

PLAN = Plan("shop", "shop.example.com", ("192.0.2.1",), 443, ("/a", "/b"), 10, 10)
GOOD = [Sample("/a", float(number)) for number in range(1, 101)]


@pytest.mark.parametrize(
    ("times", "share", "found"),
    [([], 95, None), ([7.0], 50, 7.0), ([7.0], 99, 7.0), ([3.0, 1.0, 2.0], 50, 2.0)]
    + [([float(n) for n in range(1, 101)], share, float(share)) for share in (50, 95, 99, 100)],
)
def test_percentile_is_of_the_nearest_rank(
    times: list[float], share: int, found: float | None
) -> None:
    assert report.percentile(times, share) == found


def test_each_path_has_a_row_and_all_of_them_together() -> None:
    found = report.result(PLAN, [*GOOD, Sample("/b", 5.0, "status 503")], 10.0, most_failed=1)
    assert [(row.path, row.requests, row.failed) for row in found.rows] == [
        ("/a", 100, 0),
        ("/b", 1, 1),
        ("all", 101, 1),
    ]
    assert (found.rows[0].p50, found.rows[0].p95, found.rows[0].longest) == (50, 95, 100)
    assert found.rows[1].p50 is None
    said = report.lines(found)
    assert said[0] == "PATH  REQUESTS  FAILED  RATE/s  P50 ms  P95 ms  P99 ms  MAX ms"
    assert said[1].split() == ["/a", "100", "0", "10.0", "50", "95", "99", "100"]
    assert said[2].split() == ["/b", "1", "1", "0.1", "-", "-", "-", "-"]
    assert said[-2:] == ["1 x /b: status 503", "All limits are kept."]


def test_limits_that_are_not_kept_are_named() -> None:
    samples = [*GOOD, Sample("/b", 5.0, "status 503")]
    found = report.result(PLAN, samples, 10.0, p95_ms=95, p99_ms=98)
    assert found.exceeded == (
        "1 requests failed, at most 0 may",
        "/a: p99 is 99 ms, at most 98 ms",
        "/b: p95 is no good answer, at most 95 ms",
        "/b: p99 is no good answer, at most 98 ms",
    )
    content = json.loads(report.as_json(found))
    assert content["ok"] is False
    assert content["faults"] == {"/b: status 503": 1}
    assert content["rows"][0]["p99"] == 99
