"""Rollback and restart, with every decision on the schema, and every step failing once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bedstone.core.errors import RefusedError
from bedstone.ledger import database, releases
from bedstone.notify import redact
from bedstone.release import changes, operations
from bedstone.release.context import ReleaseOptions
from bedstone.release.outcome import Outcome
from tests.unit.fixtures.schema_world import MIGRATED, World, world
from tests.unit.fixtures.server import APP, Server, declare

__all__ = ["world"]

DROP = ('ALTER TABLE "shop_note" DROP COLUMN "text" CASCADE;',)


def release(server: Server, *, if_changed: bool = False, accept: str = "") -> Outcome:
    options = ReleaseOptions(accepted=(accept,) if accept else ())
    return operations.release("shop", if_changed=if_changed, host=server.host(), options=options)


def rollback(
    server: Server,
    wanted: str | None = None,
    *,
    keep_schema: bool = False,
    old_secrets: bool = False,
) -> Outcome:
    options = ReleaseOptions(keep_schema=keep_schema, old_secrets=old_secrets)
    return operations.rollback("shop", wanted, host=server.host(), options=options)


def two(server: Server) -> tuple[str, str]:
    """Release twice and return the ids."""
    ids = []
    for source in ("one", "two"):
        declare(server, source=source)
        ids.append(str(release(server).release))
    return ids[0], ids[1]


def test_rollback_serves_the_one_before_with_its_image_and_environment(server: Server) -> None:
    first, second = two(server)
    outcome = rollback(server)
    assert outcome.ok, outcome.error
    assert (outcome.kind, outcome.release, outcome.previous) == ("rollback", first, second)
    assert set(server.serves().values()) == {first}
    assert set(server.serves()) == {"web@blue", "api@blue", "worker@1", "worker@2"}
    assert server.static() == first
    assert server.builds == 2, "nothing is built"
    assert [step.name for step in outcome.steps] == [
        *("prepare", "network", "plan", "restore_point", "reverse", "migrate", "start", "switch"),
        *("verify", "workers", "record", "drain", "reverse", "prune"),
    ]
    with database.opened() as connection:
        operation = releases.operations(connection, "shop")[0]
        assert (operation.kind, operation.state) == ("rollback", "succeeded")
        names = [step.name for step in releases.steps(connection, operation.id)]
    assert names == [step.name for step in outcome.steps]


def test_rollback_to_a_named_release_and_forth_again(server: Server) -> None:
    first, second = two(server)
    assert rollback(server, first[:15]).release == first
    assert rollback(server, second).release == second
    assert set(server.serves().values()) == {second}


def test_rollback_passes_over_what_was_rolled_back_from(server: Server) -> None:
    first, _second = two(server)
    rollback(server)
    declare(server, source="three")
    release(server)
    assert rollback(server).release == first


@pytest.mark.parametrize("wanted", ["nonsense", "2"])
def test_release_that_is_not_kept_is_refused_with_those_that_are(
    server: Server, wanted: str
) -> None:
    first, second = two(server)
    declare(server, source="three")
    release(server)
    with pytest.raises(RefusedError) as caught:
        rollback(server, wanted)
    assert first in caught.value.details
    assert second in caught.value.details


def test_nothing_before_the_first_release(server: Server) -> None:
    with pytest.raises(RefusedError, match="Nothing of shop serves"):
        rollback(server)
    release(server)
    with pytest.raises(RefusedError, match=r"No release of shop before .* is kept"):
        rollback(server)


@pytest.mark.parametrize(
    ("broken", "step"),
    [
        ("web@blue", "start"),
        ("nginx", "switch"),
        ("front door", "verify"),
        ("worker@2", "workers"),
    ],
)
def test_failed_rollback_leaves_the_newer_one_serving(
    server: Server, broken: str, step: str
) -> None:
    _, second = two(server)
    before = (server.serves(), server.upstreams(), server.static(), set(server.enabled))
    server.broken, server.good = {broken}, {second}
    outcome = rollback(server)
    assert outcome.failed_step == step
    assert (server.serves(), server.upstreams(), server.static(), set(server.enabled)) == before
    server.broken = set()
    assert rollback(server).ok, "the next one works"


def test_image_that_is_gone_is_refused_before_anything_changes(server: Server) -> None:
    first, second = two(server)
    server.images = {n: i for n, i in server.images.items() if first not in n and ":1" not in n}
    outcome = rollback(server)
    assert outcome.failed_step == "prepare"
    assert "isn't on this server any more" in str(outcome.error)
    assert set(server.serves().values()) == {second}


# --- what was rolled back stays so ------------------------------------------------------------


def test_what_was_rolled_back_is_not_released_again_by_itself(server: Server) -> None:
    first, second = two(server)
    rollback(server)
    again = release(server, if_changed=True)
    assert (again.changed, again.release) == (False, first)
    assert f"{second} was rolled back" in again.warnings[0]
    assert not changes.would_change("shop", server.host()).changed
    declare(server, source="three")
    assert release(server, if_changed=True).changed, "something new is"


def test_it_is_when_somebody_says_so(server: Server) -> None:
    _, second = two(server)
    rollback(server)
    outcome = release(server)
    assert outcome.ok
    assert str(outcome.release) > second
    assert server.builds == 2, "the same source isn't built again"


# --- secrets ---------------------------------------------------------------------------------


def rotate(root: Path, secret: str) -> None:
    app = json.loads((root / "etc/bedstone/apps/shop/app.json").read_text())
    app["secret_variables"] = ["SECRET"]
    (root / "etc/bedstone/apps/shop/app.json").write_text(json.dumps(app))
    for name in ("app.env", "migrate.env"):
        path = root / "etc/bedstone/apps/shop" / name
        path.write_text(path.read_text().replace("tell-nobody", secret) + f"PLAIN={secret}\n")


def environment(root: Path, release_id: str) -> str:
    return (root / f"var/lib/bedstone/apps/shop/releases/{release_id}/app.env").read_text()


def test_rollback_takes_the_secrets_of_today_and_the_rest_of_then(
    server: Server, root: Path
) -> None:
    first = str(release(server).release)
    rotate(root, "rotated")
    assert release(server, if_changed=True).changed
    rollback(server)
    assert "SECRET=rotated" in environment(root, first)
    assert "PLAIN" not in environment(root, first)


def test_variables_of_one_service_are_kept_with_a_release_and_rotate(
    server: Server, root: Path
) -> None:
    directory = root / "etc/bedstone/apps/shop"
    plain = (directory / "app.json").read_text()
    described = json.loads(plain) | {"secret_variables": ["SECRET", "KEY"]}
    own = directory / "service-web.env"
    described["services"]["web"]["environment_file"] = "/etc/bedstone/apps/shop/service-web.env"
    (directory / "app.json").write_text(json.dumps(described))
    own.write_text("SECRET=tell-nobody\nKEY=of the web alone\n")
    first = str(release(server).release)
    kept = root / f"var/lib/bedstone/apps/shop/releases/{first}/service-web.env"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert "KEY" not in environment(root, first)
    assert "of the web alone" in redact.secrets_of("shop")

    own.write_text("SECRET=rotated\nKEY=rotated, too\n")
    assert release(server, if_changed=True).changed, "one file of the two has changed"
    rollback(server)
    assert kept.read_text() == "KEY=rotated, too\nSECRET=rotated\n"

    # A service that has no variables of its own any more runs with the app's secrets of today.
    (directory / "app.json").write_text(plain)
    own.unlink()
    rotate(root, "rotated-again")
    assert release(server, if_changed=True).changed
    rollback(server, first)
    assert kept.read_text() == "KEY=of the web alone\nSECRET=rotated-again\n"


def log_in_as(root: Path, login: str) -> None:
    directory = root / "etc/bedstone/apps/shop"
    app = json.loads((directory / "app.json").read_text())
    app["login_variables"] = ["DB_USER"]
    app["database"] = {"name": "shop", "owner": "shop_owner", "role": "shop_app", "login": login}
    (directory / "app.json").write_text(json.dumps(app))
    (directory / "app.env").write_text(f"SECRET=tell-nobody\nDB_USER={login}\n")


def test_rollback_logs_in_to_the_database_as_today(server: Server, root: Path) -> None:
    first = str(release(server).release)
    log_in_as(root, "shop_app_00000001")
    second = str(release(server, if_changed=True).release)
    declare(server, source="two")
    log_in_as(root, "shop_app_00000002")
    assert release(server, if_changed=True).changed
    assert rollback(server, keep_schema=True).release == second
    assert "DB_USER=shop_app_00000002" in environment(root, second)
    # Of an app.json that names no such variables: it has none.
    rollback(server, first, keep_schema=True)
    assert "DB_USER" not in environment(root, first)


def test_new_login_brings_nothing_back_that_was_rolled_back(server: Server, root: Path) -> None:
    for number, source in enumerate(("one", "two")):
        declare(server, source=source)
        log_in_as(root, "shop_app_00000001")
        assert release(server, if_changed=True).changed, number
    first = str(rollback(server, keep_schema=True).release)
    log_in_as(root, "shop_app_00000002")
    assert changes.would_change("shop", server.host()).reason == "its secrets have changed"
    outcome = release(server, if_changed=True)
    assert (outcome.ok, outcome.changed, outcome.release) == (True, True, first)
    assert "DB_USER=shop_app_00000002" in environment(root, first)


def test_old_secrets_come_back_only_when_asked_for(server: Server, root: Path) -> None:
    first = str(release(server).release)
    rotate(root, "rotated")
    second = str(release(server, if_changed=True).release)
    rollback(server)
    rollback(server, second)
    rollback(server, old_secrets=True)
    assert "SECRET=tell-nobody" in environment(root, first)


def test_failed_rollback_leaves_the_kept_environment(server: Server, root: Path) -> None:
    first = str(release(server).release)
    before = environment(root, first)
    rotate(root, "rotated")
    second = str(release(server, if_changed=True).release)
    server.broken, server.good = {"front door"}, {second}
    assert not rollback(server).ok
    assert environment(root, first) == before


def test_secret_that_changes_after_a_rollback_reaches_what_serves(
    server: Server, root: Path
) -> None:
    rotate(root, "one")
    first = str(release(server).release)
    declare(server, source="two")
    rotate(root, "one")
    second = str(release(server).release)
    rollback(server)
    declare(server, source="two")
    rotate(root, "one")
    path = root / "etc/bedstone/apps/shop/app.env"
    path.write_text(path.read_text().replace("SECRET=one", "SECRET=two"))
    assert changes.would_change("shop", server.host()).reason == "its secrets have changed"
    outcome = release(server, if_changed=True)
    assert (outcome.ok, outcome.changed, outcome.release) == (True, True, first)
    assert "SECRET=two" in environment(root, first)
    assert f"{second} was rolled back" in outcome.warnings[-1]
    assert not release(server, if_changed=True).changed


# --- the schema ------------------------------------------------------------------------------


def test_same_schema_needs_nothing(server: Server, world: World) -> None:
    for source in ("one", "two"):
        world.declare(source, "a1")
        release(server)
    assert rollback(server).ok
    assert world.applied == ["a1"]
    assert world.undone == []


def test_newer_migrations_are_undone_once_nothing_newer_runs(server: Server, world: World) -> None:
    world.declare("one", "a1")
    first = release(server).release
    world.declare("two", "a1", "a2", "a3")
    release(server)
    serving: list[set[str]] = []
    undo = server.during["reverse"]

    def seen() -> None:
        serving.append(set(server.serves().values()))
        undo()

    server.during["reverse"] = seen
    outcome = rollback(server)
    assert outcome.ok
    assert world.undone == ["a3", "a2"]
    assert world.applied == ["a1"]
    assert serving == [{first}, {first}], "the older one lives with the newer schema meanwhile"


def test_migrations_are_undone_with_the_migration_role_s_password_of_today(
    server: Server, world: World, root: Path
) -> None:
    world.declare("one", "a1")
    release(server)
    world.declare("two", "a1", "a2")
    release(server)
    rotate(root, "rotated")
    server.environments.clear()
    assert rollback(server).ok
    (undone,) = [run for run in server.environments if run[""] == "reverse"]
    assert "SECRET=rotated" in undone["file"]
    assert "PLAIN" not in undone["file"]


def test_what_the_older_release_can_not_live_with_is_undone_before_it_starts(
    server: Server, world: World
) -> None:
    world.declare("one", "a1")
    release(server)
    world.sql["a2"] = DROP
    world.declare("two", "a1", "a2")
    assert release(server).failed_step == "plan"
    world.known[f"sha256:{server.builds + 1:064d}"] = ["a1", "a2"]
    second = release(server, accept="a2").release
    serving: list[set[str]] = []
    undo = server.during["reverse"]

    def seen() -> None:
        serving.append(set(server.serves().values()))
        undo()

    server.during["reverse"] = seen
    assert rollback(server).ok
    assert serving == [{second}]
    assert world.applied == ["a1"]


def test_failed_rollback_applies_again_what_it_has_undone(server: Server, world: World) -> None:
    world.declare("one", "a1")
    release(server)
    world.sql["a2"] = DROP
    world.declare("two", "a1", "a2")
    second = str(release(server, accept="a2").release)
    server.broken, server.good = {"front door"}, {second}
    outcome = rollback(server)
    assert outcome.failed_step == "verify"
    assert world.undone == ["a2"]
    assert world.applied == ["a1", "a2"]
    assert not list(server.root.glob("var/lib/bedstone/apps/shop/releases/*/schema-pending.json"))


def test_irreversible_migration_refuses_the_rollback(server: Server, world: World) -> None:
    world.declare("one", "a1")
    first = release(server).release
    world.declare("two", "a1", "a2")
    second = release(server).release
    world.irreversible["a2"] = "RunPython without a reverse_code"
    outcome = rollback(server)
    assert (outcome.failed_step, outcome.exit_code) == ("plan", 3)
    assert "a2: RunPython without a reverse_code" in outcome.details
    assert "`--keep-schema`" in str(outcome.hint)
    assert set(server.serves().values()) == {second}
    assert rollback(server, keep_schema=True).release == first
    assert world.applied == ["a1", "a2"]


def test_refusal_names_the_restore_point_and_the_commands(server: Server, world: World) -> None:
    world.declare("one", "a1")
    first = release(server).release
    world.declare("two", "a1", "a2")
    release(server)
    world.irreversible["a2"] = "no way back"
    with database.opened() as connection:
        operation = releases.operations(connection, "shop")[0]
        releases.set_restore_point(connection, operation.id, "backup_20261120_101500")
    hint = str(rollback(server).hint)
    assert "bedstone restore shop backup_20261120_101500 --no-restart" in hint
    assert f"bedstone rollback shop {first}" in hint


def test_rolling_forth_applies_what_is_missing(server: Server, world: World) -> None:
    world.declare("one", "a1")
    release(server)
    world.declare("two", "a1", "a2")
    second = str(release(server).release)
    rollback(server)
    assert world.applied == ["a1"]
    assert rollback(server, second).ok
    assert world.applied == ["a1", "a2"]


def test_without_a_tool_the_schema_itself_is_compared(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = MIGRATED | {"migrations": "none"}
    for source in ("one", "two"):
        monkeypatch.setattr("bedstone.release.schema.digest", lambda _app, now=source: now)
        declare(server, app=app, source=source)
        assert release(server).ok
    refused = rollback(server)
    assert refused.failed_step == "plan"
    assert "The schema has changed since then" in str(refused.error)
    monkeypatch.setattr("bedstone.release.schema.digest", lambda _app: "one")
    assert rollback(server).ok


@pytest.mark.parametrize(("now", "asked"), [("d", False), ("changed by hand", True)])
def test_tool_is_not_asked_when_the_schema_is_still_that_of_both(
    server: Server,
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    now: str,
    asked: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    monkeypatch.setattr("bedstone.release.schema.digest", lambda _app: "d")
    for source in ("one", "two"):
        world.declare(source, "a1")
        release(server)
    monkeypatch.setattr("bedstone.release.schema.digest", lambda _app: now)
    before = world.asked
    assert rollback(server).ok
    assert (world.asked > before) is asked


# --- the gate -------------------------------------------------------------------------------


def test_source_older_than_the_database_is_refused(server: Server, world: World) -> None:
    world.declare("two", "a1", "a2")
    release(server)
    world.declare("one", "a1")
    outcome = release(server)
    assert outcome.failed_step == "plan"
    assert "doesn't have: a2" in str(outcome.error)
    assert "bedstone rollback shop" in str(outcome.hint)


def test_squashed_migrations_are_accepted_once(server: Server, world: World) -> None:
    world.declare("one", "a1", "a2")
    release(server)
    world.declare("two", "a1")
    assert release(server).failed_step == "plan"
    world.known[f"sha256:{server.builds + 1:064d}"] = ["a1"]
    assert release(server, accept="unknown-migrations").ok
    world.declare("three", "a1", "a3")
    assert release(server).ok


# --- killed ---------------------------------------------------------------------------------


class KilledError(BaseException):
    """As kill -9 does it: no step is undone."""


@pytest.mark.parametrize("breaking", [True, False])
@pytest.mark.parametrize("moment", ["reverse", "verify", "record", "drain"])
def test_killed_rollback_leaves_one_release_with_its_schema(
    server: Server,
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
    breaking: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    world.declare("one", "a1")
    first = str(release(server).release)
    world.sql["a2"] = DROP if breaking else ()
    world.declare("two", "a1", "a2")
    second = str(release(server, accept="a2").release)
    real = operations._Record.done

    def killed(self: operations._Record, position: int, name: str, *rest: object) -> None:
        if name == moment:
            raise KilledError
        real(self, position, name, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(operations._Record, "done", killed)
        for name in ("bedstone.release.transaction._undo", "bedstone.release.operations._decided"):
            patch.setattr(name, lambda *_: (_ for _ in ()).throw(KilledError()))
        with pytest.raises(KilledError):
            rollback(server)
    settled = operations.put_right("shop", host=server.host())
    assert settled.ok
    served = first if moment in {"record", "drain"} else second
    assert set(server.serves().values()) == {served}
    assert world.applied == (["a1"] if served == first else ["a1", "a2"])
    assert not operations.put_right("shop", host=server.host()).changed


# --- restart ----------------------------------------------------------------------------------


def test_restart_moves_the_same_release_to_the_other_slot(server: Server) -> None:
    serving = release(server).release
    outcome = operations.restart("shop", host=server.host())
    assert outcome.ok
    assert (outcome.kind, outcome.release) == ("restart", serving)
    assert set(server.serves()) == {"web@green", "api@green", "worker@1", "worker@2"}
    assert set(server.serves().values()) == {serving}
    assert not release(server, if_changed=True).changed


def test_failed_restart_leaves_what_served(server: Server) -> None:
    release(server)
    before = server.serves()
    server.broken = {"front door"}
    assert operations.restart("shop", host=server.host()).failed_step == "verify"
    assert server.serves() == before


def test_first_release_that_was_killed_is_cleared(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(
            "bedstone.release.transaction._undo", lambda *_: (_ for _ in ()).throw(KilledError())
        )
        server.broken = {"front door"}
        with pytest.raises(KilledError):
            release(server)
    server.broken = set()
    assert server.active
    operations.put_right("shop", host=server.host())
    assert server.active == server.enabled == set()
    assert release(server).ok


def test_static_files_of_the_release_before_stay_for_open_pages(server: Server) -> None:
    declare(server, app=APP, source="one")
    first = release(server).release
    static = server.root / "srv/bedstone/shop/static"
    (static / str(first) / "old.css").write_text("old")
    own = server.root / f"var/lib/bedstone/apps/shop/releases/{first}/static.txt"
    own.write_text(own.read_text() + "old.css\n")
    declare(server, source="two")
    second = release(server).release
    assert (static / str(second) / "old.css").read_text() == "old"
    declare(server, source="three")
    third = release(server).release
    assert not (static / str(third) / "old.css").exists(), "only those of the one before"
