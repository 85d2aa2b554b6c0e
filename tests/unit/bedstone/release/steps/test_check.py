"""Django's check and the question about its migrations share a start of the app."""

from __future__ import annotations

import json

import pytest

from bedstone.migrations.report import CHECKED, MARKER, Report
from bedstone.release import operations
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
    server.said = {"check": f"fine\n\n{CHECKED}\n\n{ANSWER}\n", "plan": f"\n{ANSWER}\n"}
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
    django.said["check"] = f"fine\n{CHECKED}\nConflicting migrations\n" if check_fails else "fine\n"
    django.broken = {"check"} if check_fails else set()
    outcome = release(django)
    assert outcome.ok, outcome.error
    assert containers(django) == ["check", "plan", "migrate", "static"]


def test_failure_of_the_plan_belongs_to_its_own_step(django: Server) -> None:
    django.said["check"] = f"fine\n{CHECKED}\n"
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


def test_leftovers_go_with_one_call(django: Server) -> None:
    release(django)
    removals = [call for call in django.calls if call[:2] == ["docker", "rm"]]
    assert any("bedstone-shop-check" in call and "bedstone-shop-look" in call for call in removals)
    inspected = [call for call in django.calls if call[:3] == ["docker", "image", "inspect"]]
    assert len(inspected) == 2, "after the build, and for its volumes"
