"""What a restore point is called: `bedstone backups` shows it for the choice of a restore."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bedstone.release import operations
from bedstone.release.context import ReleaseOptions
from tests.unit.fixtures.schema_world import MIGRATED, World, world
from tests.unit.fixtures.server import Server, declare

__all__ = ["world"]


@pytest.fixture
def labels(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The labels of the restore points that are made."""
    found: list[str] = []

    def create(_settings: object, _app: str, *, label: str, **_: Any) -> SimpleNamespace:
        found.append(label)
        return SimpleNamespace(backup=SimpleNamespace(name=f"backup_{len(found)}"))

    monkeypatch.setattr("bedstone.backup.create.create", create)
    monkeypatch.setattr("bedstone.backup.settings.of_app", lambda _app: object())
    monkeypatch.setattr("bedstone.release.plans.lacks_backup", lambda _app: False)
    monkeypatch.setattr("bedstone.release.schema.digest", lambda _app: None)
    return found


def release(server: Server) -> str:
    outcome = operations.release("shop", host=server.host())
    assert outcome.ok, outcome.error
    return str(outcome.release)


def test_label_is_the_new_release(server: Server, world: World, labels: list[str]) -> None:
    world.declare("one", "a1")
    release(server)
    world.declare("two", "a1", "a2")
    assert labels == []
    assert labels == [release(server)]


def test_label_of_a_rollback_says_that_it_was_made_before_it(
    server: Server, world: World, labels: list[str]
) -> None:
    world.declare("one", "a1")
    first = release(server)
    world.declare("two", "a1", "a2")
    second = release(server)
    outcome = operations.rollback("shop", host=server.host())
    assert outcome.ok, outcome.error
    assert labels == [second, f"before rollback to {first}"]


def test_label_of_what_is_rolled_back_and_gets_new_secrets_speaks_of_a_restart(
    server: Server, labels: list[str]
) -> None:
    app = MIGRATED | {"migrations": "none", "restore_point": "always"}
    app |= {"secret_variables": ["SECRET"]}
    declare(server, app=app, source="one")
    first = release(server)
    declare(server, app=app, source="two")
    second = release(server)
    outcome = operations.rollback(
        "shop", host=server.host(), options=ReleaseOptions(keep_schema=True)
    )
    assert outcome.ok, outcome.error
    variables = server.root / "etc/bedstone/apps/shop/app.env"
    variables.write_text(variables.read_text().replace("tell-nobody", "told"))
    assert operations.release("shop", if_changed=True, host=server.host()).release == first
    assert labels == [second, f"before rollback to {first}", f"before restart of {first}"]
