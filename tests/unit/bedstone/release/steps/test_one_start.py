"""Django's check and plan share a start of the app, and so do its migrate and collectstatic."""

from __future__ import annotations

import json

import pytest

from bedstone.migrations.report import DONE, MARKER, Report
from bedstone.release import commands, operations
from bedstone.release.outcome import Outcome
from tests.unit.fixtures.server import APP, Server, declare

CHECK = ["python", "manage.py", "check", "--deploy"]
MIGRATE = ["python", "manage.py", "migrate", "--noinput"]
REPORT = Report("django", applied=("shop.0001_initial",), known=("shop.0001_initial",))
ANSWER = MARKER + json.dumps(REPORT.as_json())


@pytest.fixture
def django(server: Server) -> Server:
    """The server with the app of Django, whose login differs for its migrations."""
    app = APP | {
        "migrations": "django",
        "database": {"name": "shop", "owner": "shop_owner"},
        "commands": {**APP["commands"], "check": [CHECK], "migrate": [MIGRATE]},
    }
    declare(server, app=app)
    configuration = server.root / "etc/bedstone/apps/shop"
    for name, role in (("app", "data"), ("migrate", "migrate")):
        (configuration / f"{name}.env").write_text(f"ROLE={role}\n")
    server.said = {"check": f"fine\n\n{DONE}\n\n{ANSWER}\n", "plan": f"\n{ANSWER}\n"}
    return server


def release(server: Server) -> Outcome:
    return operations.release("shop", host=server.host())


def containers(server: Server) -> list[str]:
    """Return the kinds of the one-off containers that ran, in their order."""
    return [str(each[""]) for each in server.environments]


def said(outcome: Outcome, step: str) -> str:
    return next(each.said for each in outcome.steps if each.name == step)


def test_check_and_plan_take_one_start(django: Server) -> None:
    outcome = release(django)
    assert outcome.ok, outcome.error
    assert containers(django) == ["check", "migrate", "static"]
    assert "ROLE=migrate" in django.environments[0]["file"]
    assert said(outcome, "check") == " ".join(CHECK)
    assert said(outcome, "plan") == "nothing pending, 1 applied"


def test_failed_check_is_the_declared_commands_and_nothing_else_runs(django: Server) -> None:
    django.broken = {"check"}
    django.said["check"] = "SystemCheckError\n"
    outcome = release(django)
    assert outcome.failed_step == "check"
    assert outcome.error is not None
    assert outcome.error.startswith("`python manage.py check --deploy` failed in the image")
    assert "bedstone-probe" not in outcome.error
    assert containers(django) == ["check"]


@pytest.mark.parametrize("check_fails", [True, False])
def test_plan_that_fails_after_the_check_is_asked_by_itself(
    django: Server,
    check_fails: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """It failed, or the command ended well and no probe came after it."""
    django.said["check"] = f"fine\n{DONE}\nConflicting migrations\n" if check_fails else "fine\n"
    django.broken = {"check"} if check_fails else set()
    outcome = release(django)
    assert outcome.ok, outcome.error
    assert containers(django) == ["check", "plan", "migrate", "static"]


def test_failure_of_the_plan_belongs_to_its_own_step(django: Server) -> None:
    django.said["check"] = f"fine\n{DONE}\n"
    django.broken = {"check", "plan"}
    outcome = release(django)
    assert outcome.failed_step == "plan"
    assert "manage.py shell" in str(outcome.error)


def test_other_variables_for_migrations_take_two_starts(django: Server) -> None:
    path = django.root / "etc/bedstone/apps/shop/migrate.env"
    path.write_text("ROLE=migrate\nMORE=yes\n")
    assert release(django).ok
    assert containers(django) == ["check", "plan", "migrate", "static"]
    assert "ROLE=data" in django.environments[0]["file"]


@pytest.fixture
def collecting(django: Server) -> Server:
    """The same, whose static files are collected by Django as well."""
    path = django.root / "etc/bedstone/apps/shop/app.json"
    app = json.loads(path.read_text())
    app["commands"]["static"] = [["python", "manage.py", "collectstatic", "--noinput"]]
    path.write_text(json.dumps(app))
    django.said["migrate"] = f"applied\n{DONE}\n1 file\n{DONE}\n"
    return django


def published(server: Server, outcome: Outcome) -> set[str]:
    directory = server.root / f"srv/bedstone/shop/static/{outcome.release}"
    return {path.name for path in directory.iterdir()}


def partial(server: Server) -> list[str]:
    return [path.name for path in (server.root / "srv/bedstone/shop/static").glob(".*")]


def test_migrate_and_collectstatic_take_one_start(collecting: Server) -> None:
    outcome = release(collecting)
    assert outcome.ok, outcome.error
    assert containers(collecting) == ["check", "migrate"]
    assert published(collecting, outcome) == {"site.css", "copied.css"}
    assert partial(collecting) == []


def test_failed_migration_leaves_no_static_files(collecting: Server) -> None:
    collecting.broken = {"migrate"}
    collecting.said["migrate"] = "half\n"
    outcome = release(collecting)
    assert outcome.failed_step == "migrate"
    assert str(outcome.error).startswith("`python manage.py migrate --noinput` failed")
    assert containers(collecting) == ["check", "migrate"]
    assert partial(collecting) == []


@pytest.mark.parametrize("fails", [True, False])
def test_static_files_that_failed_after_migrate_are_collected_by_themselves(
    collecting: Server,
    fails: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """The command failed, or the process ended well before it came to it."""
    collecting.said["migrate"] = f"applied\n{DONE}\n"
    collecting.broken = {"migrate"} if fails else set()
    outcome = release(collecting)
    assert outcome.ok, outcome.error
    assert containers(collecting) == ["check", "migrate", "static"]
    assert published(collecting, outcome) == {"site.css", "copied.css"}


def test_failure_of_the_static_files_belongs_to_their_own_step(collecting: Server) -> None:
    collecting.said["migrate"] = f"applied\n{DONE}\n"
    collecting.broken = {"migrate", "static"}
    outcome = release(collecting)
    assert outcome.failed_step == "static"
    assert str(outcome.error).startswith("`python manage.py collectstatic --noinput` failed")
    assert partial(collecting) == []


def test_locked_table_collects_once_more_from_the_start(
    collecting: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "LOCK_PAUSE_SECONDS", 0)
    monkeypatch.setattr(commands, "_LOCK_WORDS", ("it is broken",))
    collecting.said["migrate"] = "waiting\n"
    collecting.broken = {"migrate"}

    def second() -> None:
        if containers(collecting).count("migrate") > 1:
            collecting.broken = set()
            collecting.said["migrate"] = f"applied\n{DONE}\n1 file\n{DONE}\n"

    collecting.during["migrate"] = second
    outcome = release(collecting)
    assert outcome.ok, outcome.error
    assert "a table was locked, 1 times" in said(outcome, "migrate")
    assert published(collecting, outcome) == {"site.css", "copied.css"}


def test_leftovers_go_with_one_call(django: Server) -> None:
    release(django)
    removals = [call for call in django.calls if call[:2] == ["docker", "rm"]]
    assert any("bedstone-shop-check" in call and "bedstone-shop-look" in call for call in removals)
    inspected = [call for call in django.calls if call[:3] == ["docker", "image", "inspect"]]
    assert len(inspected) == 2, "after the build, and for its volumes"
