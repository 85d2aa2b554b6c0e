"""What is left when an operation ends in any place: killed, called off, half undone."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import pytest

from bedstone.backup import settings
from bedstone.core.errors import BedstoneError
from bedstone.ledger import database, releases
from bedstone.release import operations, schema, transaction
from bedstone.release.context import ReleaseOptions
from bedstone.release.outcome import Outcome
from bedstone.system import nginx, systemd
from tests.unit.fixtures.schema_world import World, world
from tests.unit.fixtures.server import APP, Server, declare

__all__ = ["world"]


class KilledError(BaseException):
    """As kill -9 does it: no step is undone."""


def release(server: Server) -> Outcome:
    return operations.release("shop", host=server.host())


def rollback(server: Server, *, keep_schema: bool = False) -> Outcome:
    return operations.rollback(
        "shop", host=server.host(), options=ReleaseOptions(keep_schema=keep_schema)
    )


def put_right(server: Server) -> Outcome:
    return operations.put_right("shop", host=server.host())


def killed_at(moment: str, operate: Callable[[], object]) -> None:
    """Carry an operation out up to the end of a step, which isn't even recorded."""
    real = operations._Record.done

    def done(self: operations._Record, position: int, name: str, *rest: object) -> None:
        if name == moment:
            raise KilledError
        real(self, position, name, *rest)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operations._Record, "done", done)
        patch.setattr(operations._Record, "failed", lambda *_: None)
        for name in ("bedstone.release.transaction._undo", "bedstone.release.operations._decided"):
            patch.setattr(name, lambda *_: (_ for _ in ()).throw(KilledError()))
        # After the moment of record, a kill is no failed step either.
        patch.setattr("bedstone.release.operations._tidy_up", lambda *_: None)
        with pytest.raises(KilledError):
            operate()


def running_steps() -> list[str]:
    with database.opened() as connection:
        return [
            step.name
            for operation in releases.operations(connection, "shop")
            for step in releases.steps(connection, operation.id)
            if step.state == "running"
        ]


@pytest.mark.parametrize("moment", ["migrate", "record", "drain"])
def test_no_step_of_a_killed_release_runs_for_ever_in_the_ledger(
    server: Server, moment: str
) -> None:
    release(server)
    declare(server, source="two")
    killed_at(moment, lambda: release(server))
    assert running_steps() == [moment]
    assert put_right(server).ok
    assert running_steps() == []


def test_container_of_a_reversal_that_was_killed_after_the_switch_is_ended_first(
    server: Server, world: World
) -> None:
    world.declare("one", "a1")
    first = release(server).release
    world.declare("two", "a1", "a2")
    release(server)
    undo = server.during["reverse"]

    def killed() -> None:
        raise KilledError

    server.during["reverse"] = killed
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "bedstone.release.transaction._undo", lambda *_: (_ for _ in ()).throw(KilledError())
        )
        with pytest.raises(KilledError):
            rollback(server)
    # The docker command was killed, its container wasn't.
    server.left_running.add("bedstone-shop-reverse")
    server.during["reverse"] = undo
    settled = put_right(server)
    assert settled.ok, settled.error
    assert settled.release == first
    assert world.applied == ["a1"]


def test_what_a_killed_rollback_wanted_to_undo_stays_when_the_schema_is_to_be_kept(
    server: Server, world: World
) -> None:
    world.declare("one", "a1")
    first = release(server).release
    world.declare("two", "a1", "a2")
    release(server)
    killed_at("verify", lambda: rollback(server))
    assert put_right(server).ok
    outcome = rollback(server, keep_schema=True)
    assert (outcome.ok, outcome.release) == (True, first)
    put_right(server)
    assert world.undone == []
    assert world.applied == ["a1", "a2"]


def test_signal_while_what_serves_is_put_right_calls_the_release_off(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = release(server).release
    declare(server, source="two")
    server.active.discard("bedstone-shop-web@blue.service")
    start = systemd.Systemd.start

    def signalled(*arguments: object, **options: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        start(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(systemd.Systemd, "start", signalled)
    with pytest.raises(BedstoneError, match="SIGTERM"):
        release(server)
    with database.opened() as connection:
        serving = releases.serving(connection, "shop")
        assert serving is not None
        assert serving.release == first
        assert len(releases.operations(connection, "shop")) == 1
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_signal_while_the_schema_is_looked_at_calls_the_release_off(
    server: Server, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.declare("one", "a1")
    first = release(server).release
    world.declare("two", "a1")

    def signalled(*_: object) -> object:
        os.kill(os.getpid(), signal.SIGTERM)
        return None

    monkeypatch.setattr(settings, "of_app", lambda _app: "some settings")
    monkeypatch.setattr(schema, "server_of", signalled)
    outcome = release(server)
    assert outcome.failed_step == "migrate"
    assert "SIGTERM" in str(outcome.error)
    assert set(server.serves().values()) == {first}


@pytest.mark.parametrize("cured", [True, False])
def test_slot_that_nginx_sends_requests_to_is_never_stopped(
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    cured: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    first = release(server).release
    declare(server, source="two")
    server.good, server.broken = {first}, {"worker"}
    moves: list[str | None] = []
    move = nginx.link

    def fails_on_the_way_back(app: str, slot: str | None) -> None:
        moves.append(slot)
        # The switch, its undoing, and what is tried when that has failed.
        if len(moves) == 2 or (len(moves) > 2 and not cured):
            raise BedstoneError("the disk is full")
        move(app, slot)

    monkeypatch.setattr(nginx, "link", fails_on_the_way_back)
    outcome = release(server)
    assert not outcome.ok
    assert "could not be undone: switch" in str(outcome.error)
    wanted = "blue" if cured else "green"
    told = server.upstreams()["shop-web"]
    assert told == {"blue": "172.20.0.129:8000", "green": "172.20.0.131:8000"}[wanted]
    assert f"bedstone-shop-web@{wanted}.service" in server.active
    if cured:
        assert set(server.serves().values()) == {first}


def test_container_whose_unit_could_not_end_it_goes_with_its_slot(server: Server) -> None:
    release(server)
    server.removed_containers.clear()
    declare(server, source="two")
    assert release(server).ok
    assert {"bedstone-shop-web-blue", "bedstone-shop-api-blue"} <= set(server.removed_containers)


def test_workers_that_stop_slowly_are_given_their_time_on_the_way_back(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = APP["services"]["worker"] | {"stop_seconds": 900, "health_timeout_seconds": 60}
    declare(server, app=APP | {"services": APP["services"] | {"worker": slow}})
    first = release(server).release
    declare(server, app=APP | {"services": APP["services"] | {"worker": slow}}, source="two")
    server.good, server.broken = {first}, {"worker"}
    given: list[float] = []
    restart = systemd.Systemd.restart

    def remembered(self: systemd.Systemd, units: list[str], *, timeout: float) -> None:
        given.append(timeout)
        restart(self, units, timeout=timeout)

    monkeypatch.setattr(systemd.Systemd, "restart", remembered)
    assert release(server).failed_step == "workers"
    assert [seconds > 900 + 60 for seconds in given] == [True, True]


class Interrupting(list[transaction.Step[list[str]]]):
    """Steps between the first and the second of which a signal comes."""

    def __iter__(self) -> Iterator[transaction.Step[list[str]]]:
        yield self[0]
        raise operations.Interrupted("ended by SIGTERM")


class Silent:
    """A journal without a reader."""

    def started(self, *_: object) -> None:
        """Record nothing."""

    done = failed = undone = started


def test_signal_between_two_steps_undoes_the_first() -> None:
    def append(done: list[str]) -> str:
        done.append("x")
        return ""

    steps = Interrupting(
        transaction.Step[list[str]](name, append, list.clear) for name in ("first", "second")
    )
    done: list[str] = []
    with pytest.raises(transaction.StepFailedError, match="ended by SIGTERM"):
        transaction.execute(steps, done, Silent())
    assert done == []
