"""Two releases and a rollback, with requests of every kind, tasks and ticks on their way.

Visitors don't notice: no request fails, no acknowledged row and no task is lost, none runs twice,
and beat is never there twice.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from ledger_app import Ledger, Load
from testinfra.host import Host

UNITS = [
    "bedstone-ledger-*",
    "bedstone-operation@ledger",
    "nginx.service",
    "redis-ledger-store.service",
]
TASKS = 60
# Each with requests on their way but the second, whose tasks and ticks are looked at alone.
KINDS = ("release", "release", "rollback")
LOADED = (0, 2)


@dataclass(frozen=True)
class Change:
    """What was seen right after a change."""

    before: str
    version: str
    outcome: dict[str, Any]
    answer: dict[str, Any]
    api: dict[str, Any]
    workers: dict[str, str]
    load: Load | None


@dataclass(frozen=True)
class Story:
    """The state before, for comparison; and the changes."""

    ledger: Ledger
    since: str
    first_task: int
    last_tick: int
    changes: list[Change]


@pytest.fixture(scope="module")
def story(host: Host, wait_until: Callable[..., None]) -> Story:
    """All changes: each test checks one component's view of them."""
    ledger = Ledger(host, wait_until)
    versions = [ledger.plain()]
    story = Story(
        ledger,
        since=ledger.host.check_output("date +%s"),
        first_task=1 + int(ledger.sql("SELECT coalesce(max(number), 0) FROM entries_execution")),
        last_tick=int(ledger.sql("SELECT coalesce(max(id), 0) FROM entries_tick")),
        changes=[],
    )
    for number, kind in enumerate(KINDS):
        # Tasks are waiting and running when the workers are stopped.
        queue(ledger, story.first_task + number * TASKS)
        busy(ledger, story.first_task)
        before = versions[-1]
        versions.append(ledger.source() if kind == "release" else versions[-2])
        with ledger.load(seconds=10) if number in LOADED else nullcontext() as load:
            outcome = ledger.release() if kind == "release" else ledger.bedstone("rollback ledger")
            ledger.wait_until(lambda: ledger.answer()["version"] == versions[-1])
            seen = ledger.answer(), ledger.get("/api/"), ledger.workers()
        story.changes.append(Change(before, versions[-1], outcome, *seen, load))
        more_ticks(ledger, 3)
    return story


def queue(ledger: Ledger, first: int) -> None:
    ledger.host.check_output(
        "bedstone run ledger -- python manage.py queue_tasks %s %s", str(first), str(TASKS)
    )


def busy(ledger: Ledger, first: int) -> None:
    """Wait until tasks run and others wait."""
    running = (
        f"SELECT count(*) FROM entries_execution WHERE number >= {first} AND finished_at IS NULL"
    )
    ledger.wait_until(lambda: int(ledger.sql(running)) >= 2, what="tasks run")
    waiting = ledger.host.check_output(
        "REDISCLI_AUTH=$(cat /etc/bedstone/redis/admin.password) valkey-cli --user bedstone"
        " -s /run/redis-ledger-store/redis.sock llen celery"
    )
    assert int(waiting) > 0, "and others wait"


def more_ticks(ledger: Ledger, number: int) -> None:
    """Wait until the present beat has sent some."""
    beat = ledger.host.check_output(
        "docker inspect -f '{{.Config.Hostname}}' bedstone-ledger-beat-1"
    )
    sent = f"SELECT count(*) FROM entries_tick WHERE origin = '{beat}'"
    ledger.wait_until(lambda: int(ledger.sql(sent)) >= number, seconds=60, what="beat sends ticks")


# --- requests --------------------------------------------------------------------------------


@pytest.mark.parametrize("number", LOADED, ids=("release", "rollback"))
def test_no_request_fails_and_no_row_is_lost(story: Story, number: int) -> None:
    change = story.changes[number]
    assert change.load is not None
    story.ledger.check_nothing_lost(change.load)
    assert change.load.versions == {change.before, change.version}
    assert (len(change.load.containers()), len(change.load.containers("api"))) == (2, 4)
    assert late_answers(change.load.answers, change.version) == []


@pytest.mark.parametrize("number", range(len(KINDS)), ids=("first", "second", "rollback"))
def test_services_and_workers_switch_together(story: Story, number: int) -> None:
    change = story.changes[number]
    assert change.answer["version"] == change.api["version"] == change.version
    assert set(change.workers.values()) == {change.outcome["release"]}
    assert len(change.workers) == 3


def late_answers(answers: list[dict[str, object]], version: str) -> list[dict[str, object]]:
    """Return answers of an older release to requests that began after one a newer one ended."""
    ended = [answer["ended"] for answer in answers if answer["version"] == version]
    # nginx hands over in steps: the first answers of the new release may come while an old
    # worker takes its last connections, on a busy machine. The old containers, which answer
    # slow requests on, are still there long after.
    since = sorted(ended)[len(ended) // 3]  # type: ignore[type-var]
    return [
        answer
        for answer in answers
        if answer["version"] not in {version, None} and answer["began"] > since  # type: ignore[operator]
    ]


# --- workers ---------------------------------------------------------------------------------


def test_each_task_runs_exactly_once(story: Story) -> None:
    ledger, first, queued = story.ledger, story.first_task, TASKS * len(KINDS)
    done = (
        "SELECT count(*) FROM entries_execution"
        f" WHERE number >= {first} AND finished_at IS NOT NULL"
    )
    ledger.wait_until(
        lambda: int(ledger.sql(done)) >= queued, seconds=120, what="all tasks are done"
    )
    rows = [
        int(number)
        for number in ledger.sql(
            f"SELECT number FROM entries_execution WHERE number >= {first} ORDER BY number"
        ).split()
    ]
    assert rows == list(range(first, first + queued)), "lost, or twice"
    containers = f"SELECT count(DISTINCT container) FROM entries_execution WHERE number >= {first}"
    assert int(ledger.sql(containers)) > 2, "more than one release's workers had a part in it"


def test_worker_ends_warm(story: Story) -> None:
    for slot in ("1", "2"):
        said = story.ledger.host.check_output(
            "journalctl --no-pager -o cat -u bedstone-ledger-worker@%s --since @%s",
            slot,
            story.since,
        )
        assert said.count("ledger worker ended warm") == len(KINDS)
        assert "SIGKILL" not in said


def test_beat_is_never_there_twice(story: Story) -> None:
    ticks = [
        (float(sent), origin)
        for sent, _, origin in (
            line.partition("|")
            for line in story.ledger.sql(
                f"SELECT sent_at, origin FROM entries_tick WHERE id > {story.last_tick}"
                " ORDER BY sent_at"
            ).splitlines()
        )
    ]
    origins = [origin for _, origin in ticks]
    changes = [pair for pair in pairwise(origins) if pair[0] != pair[1]]
    assert len(changes) == len(set(origins)) - 1 == len(KINDS), "each beat has its own time"
    # Two beats at a time would send twice as many; one that has gone sends none.
    seconds = ticks[-1][0] - ticks[0][0]
    assert len(ticks) <= seconds + len(KINDS) + 2
    assert len(ticks) >= 3 * len(KINDS)
