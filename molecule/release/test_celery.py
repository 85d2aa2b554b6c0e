"""Background work goes on: no task is lost, none runs twice, beat is never there twice."""

from __future__ import annotations

from itertools import pairwise

from ledger_app import Ledger

UNITS = ["bedstone-ledger-worker@*", "bedstone-ledger-beat@*", "redis-server.service"]
TASKS = 60
RELEASES = 2


def test_each_task_runs_exactly_once(ledger: Ledger) -> None:
    first = 1 + int(ledger.sql("SELECT coalesce(max(number), 0) FROM entries_execution"))
    queued = 0
    for _ in range(RELEASES + 1):
        # Tasks are waiting and running when the workers are stopped.
        queue(ledger, first + queued)
        queued += TASKS
        busy(ledger, first)
        ledger.source()
        if queued <= RELEASES * TASKS:
            ledger.release()
        else:
            ledger.bedstone("rollback ledger")
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
    assert int(ledger.host.check_output("redis-cli llen celery")) > 0, "and others wait"


def test_worker_ends_warm(ledger: Ledger) -> None:
    since = ledger.host.check_output("date +%s")
    ledger.source()
    ledger.release()
    for slot in ("1", "2"):
        said = ledger.host.check_output(
            "journalctl --no-pager -o cat -u bedstone-ledger-worker@%s --since @%s", slot, since
        )
        assert "ledger worker ended warm" in said
        assert "SIGKILL" not in said


def test_beat_is_never_there_twice(ledger: Ledger) -> None:
    last = ledger.sql("SELECT coalesce(max(id), 0) FROM entries_tick")
    for _ in range(RELEASES):
        ledger.source()
        ledger.release()
        more_ticks(ledger, 3)
    ticks = [
        (float(sent), origin)
        for sent, _, origin in (
            line.partition("|")
            for line in ledger.sql(
                f"SELECT sent_at, origin FROM entries_tick WHERE id > {last} ORDER BY sent_at"
            ).splitlines()
        )
    ]
    origins = [origin for _, origin in ticks]
    changes = [pair for pair in pairwise(origins) if pair[0] != pair[1]]
    assert len(changes) == len(set(origins)) - 1 == RELEASES, "each beat has its own time"
    # Two beats at a time would send twice as many; one that has gone sends none.
    seconds = ticks[-1][0] - ticks[0][0]
    assert len(ticks) <= seconds + RELEASES + 2
    assert len(ticks) >= 3 * RELEASES


def more_ticks(ledger: Ledger, number: int) -> None:
    """Wait until the present beat has sent some."""
    beat = ledger.host.check_output(
        "docker inspect -f '{{.Config.Hostname}}' bedstone-ledger-beat-1"
    )
    sent = f"SELECT count(*) FROM entries_tick WHERE origin = '{beat}'"
    ledger.wait_until(lambda: int(ledger.sql(sent)) >= number, seconds=60, what="beat sends ticks")
