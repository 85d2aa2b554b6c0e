"""A copy is seeded over TLS, is away too long, is promoted, and the old primary follows it."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bedstone.core.errors import RefusedError
from bedstone.postgres import replication
from bedstone.postgres.debian_cluster import Cluster
from bedstone.postgres.server import PostgresError, Server
from bedstone.replica import picture, primary, standby
from bedstone.replica.settings import Settings
from bedstone.watch import replication as watch
from tests.integration import standbys
from tests.integration.standbys import Side

COUNT = "SELECT count(*) FROM public.note"
NOTE = "INSERT INTO public.note VALUES ('written')"

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="two clusters of PostgreSQL's own user: only root can make them"
)


@pytest.fixture
def sides(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Side, Side]]:
    """Return a primary with a table, and a server with the empty cluster of a package."""
    certificates = standbys.certificates()
    roots = [Path(tempfile.mkdtemp(prefix=f"bedstone-{name}-")) for name in ("db1", "db2")]
    both = {
        root: Side(name, root, certificates)
        for name, root in zip(("db1", "db2"), roots, strict=True)
    }
    one, two = both.values()

    def here() -> Side:
        return both[Path(os.environ["BEDSTONE_ROOT"])]

    monkeypatch.setattr(Cluster, "start", lambda _: here().start())
    monkeypatch.setattr(Settings, "server", property(lambda found: _server(both, found)))
    monkeypatch.setattr(standby, "_STREAM_SECONDS", 5.0)
    try:
        one.make(max_connections="120")
        two.make(max_connections="50")
        for side in (one, two):
            side.start()
        one.server.execute("CREATE TABLE public.note (text text)")
        one.configure(None, ("db2",))
        two.configure(one)
        with one.here():
            assert primary.prepare()
            assert not primary.prepare()
        yield one, two
    finally:
        for side in both.values():
            side.stop()
        for folder in (*roots, certificates):
            shutil.rmtree(folder)


def _server(both: dict[Path, Side], found: Settings) -> Server:
    (side,) = [each for each in both.values() if each.port == found.port]
    return side.server


@pytest.fixture
def copied(sides: tuple[Side, Side]) -> tuple[Side, Side]:
    """Return both, with the copy made."""
    one, two = sides
    with two.here():
        outcome = standby.follow()
    assert outcome.changed
    assert outcome.warnings == []
    return one, two


def alarms(side: Side) -> list[str]:
    with side.here():
        return [each.text() for each in watch.judge(picture.gather() or {}, datetime.now(UTC))]


def wait(condition: Callable[[], object]) -> None:
    limit = time.monotonic() + standbys.WAIT_SECONDS
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.1)


def rows(side: Side) -> str:
    return side.server.execute(COUNT).strip()


def follows(side: Side) -> bool:
    return bool(replication.standby(side.server)["receiver"] == "streaming")


def test_copy_follows_and_takes_no_write(copied: tuple[Side, Side]) -> None:
    one, two = copied
    one.server.execute(NOTE)
    wait(lambda: rows(two) == "1")
    with pytest.raises(PostgresError, match="read-only transaction"):
        two.server.execute(NOTE)
    # It started although the primary allows more connections than its own settings.
    assert two.server.execute("SHOW max_connections").strip() == "120"
    with two.here():
        assert not standby.follow().changed
    assert alarms(one) == alarms(two) == []
    assert [path.name for path in two.data.parent.iterdir()] == ["main"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"sslmode": "disable"}, "no encryption"),
        ({"sslcert": "/nonexistent"}, "client certificate"),
        ({"user": "postgres"}, "no pg_hba.conf entry"),
        ({"host": "elsewhere"}, "does not match host name"),
    ],
)
def test_replication_is_encrypted_and_proved_on_both_sides(
    sides: tuple[Side, Side], changed: dict[str, str], words: str
) -> None:
    assert not replication.identify(sides[0].conninfo()).in_recovery
    with pytest.raises(PostgresError) as refused:
        replication.identify(sides[0].conninfo(**changed))
    assert words in refused.value.details


def test_copy_that_was_away_too_long_is_seeded_again(copied: tuple[Side, Side]) -> None:
    one, two = copied
    two.stop()
    (alarm,) = alarms(one)
    assert "not connected" in alarm
    for _ in range(5):
        one.server.execute(f"{NOTE}; SELECT pg_switch_wal()")
    one.server.execute("CHECKPOINT")
    (alarm,) = alarms(one)
    assert "`sudo bedstone replica seed` on db2" in alarm
    two.start()
    (alarm,) = alarms(two)
    assert "gets no changes" in alarm
    with two.here():
        assert standby.seed() is None
    wait(lambda: rows(two) == rows(one))
    assert alarms(one) == alarms(two) == []


def test_exchange_keeps_rows_and_the_old_primary_follows(copied: tuple[Side, Side]) -> None:
    one, two = copied
    one.server.execute(NOTE)
    with two.here(), pytest.raises(RefusedError, match="still answers"):
        primary.promote()
    with one.here():
        standby.step_down()
    with two.here():
        primary.promote()
    two.server.execute(NOTE)
    two.configure(None, ("db1",))
    one.configure(two)
    with two.here():
        primary.prepare()
    with one.here():
        outcome = standby.follow()
    assert (outcome.changed, outcome.warnings) == (True, [])
    wait(lambda: rows(one) == rows(two) == "2")
    assert alarms(one) == alarms(two) == []
    # The slot that it had as the primary would keep WAL for ever.
    assert replication.slots(one.server) == {}


def test_old_primary_with_rows_of_its_own_keeps_them_until_it_is_seeded(
    copied: tuple[Side, Side],
) -> None:
    one, two = copied
    with two.here():
        primary.promote(force=True)
    one.server.execute("INSERT INTO public.note VALUES ('lost')")
    two.server.execute(NOTE)
    two.configure(None, ("db1",))
    one.configure(two)
    with two.here():
        primary.prepare()
    with one.here():
        outcome = standby.follow()
    assert "`sudo bedstone replica seed`" in outcome.warnings[0]
    assert one.server.execute("SELECT text FROM public.note").strip() == "lost"
    with pytest.raises(PostgresError, match="read-only transaction"):
        one.server.execute(NOTE)
    with one.here():
        assert standby.seed() is None
    wait(lambda: one.server.execute("SELECT text FROM public.note").strip() == "written")
    assert follows(one)


def test_data_of_another_cluster_is_never_replaced(sides: tuple[Side, Side]) -> None:
    two = sides[1]
    two.server.execute("CREATE TABLE public.own (text text)")
    with two.here(), pytest.raises(RefusedError, match="no copy of db1's"):
        standby.follow()
    assert two.server.execute("SELECT count(*) FROM public.own").strip() == "0"
