"""app.json: jobs, the console, migrations, restore points, and what older files leave out."""

from __future__ import annotations

import copy
import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from bedstone.apps import config, containers
from bedstone.apps.slots import Made, Slot
from bedstone.core.errors import ConfigError
from tests.unit.fixtures.server import APP

if TYPE_CHECKING:
    from pathlib import Path

JOB = {"command": ["manage", "clearsessions"], "schedule": "*-*-* 03:00:00"}
SLOT = Slot("web", "blue", "1", Made("sha256:1", 10001, 10001, None), "172.20.0.129")

WRONG = [
    ("jobs", ["clean"], "jobs is ['clean']; an object"),
    ("jobs", {"Clean": JOB}, "jobs holds 'Clean'"),
    ("jobs", {"clean": {}}, "jobs.clean.command is None; a list"),
    ("jobs", {"clean": {"command": []}}, "jobs.clean.command is empty"),
    ("jobs", {"clean": JOB | {"schedule": ""}}, "jobs.clean.schedule is ''"),
    ("jobs", {"clean": JOB | {"timeout_seconds": 0}}, "jobs.clean.timeout_seconds is 0"),
    ("jobs", {"clean": JOB | {"memory_mb": 1}}, "jobs.clean.memory_mb is 1"),
    ("jobs", {"clean": JOB | {"cpus": 0}}, "jobs.clean.cpus is 0"),
    ("jobs", {"clean": JOB | {"pids": 0}}, "jobs.clean.pids is 0"),
    ("commands", {"console": "shell"}, "commands.console is 'shell'; a list"),
    ("migrations", "rails", "migrations is 'rails'; it is one of django, alembic, none"),
    ("restore_point", True, "restore_point is True; it is one of migrations, always, never"),
    ("secret_variables", [1], "secret_variables is 1; a text"),
    ("services", {"web": {"port": 80, "stop_signal": 3}}, "services.web.stop_signal is 3"),
]


def changed(**values: Any) -> dict[str, Any]:
    return copy.deepcopy(APP) | values


def test_older_files_without_the_newer_keys_have_their_defaults() -> None:
    older = changed()
    for key in ("jobs", "migrations", "restore_point", "secret_variables"):
        older.pop(key, None)
    older.get("commands", {}).pop("console", None)
    app = config.parse(older)
    assert app.jobs == {}
    assert (app.migrations, app.restore_point) == ("none", "migrations")
    assert app.secret_variables == ()
    assert app.commands.console is None
    assert app.services["web"].stop_signal is None


def test_reads_jobs_with_and_without_a_schedule() -> None:
    by_hand = {"command": ["manage", "import"], "timeout_seconds": 60, "memory_mb": 512, "cpus": 1}
    app = config.parse(changed(jobs={"clean": JOB, "import": by_hand}))
    assert app.jobs["clean"] == config.Job(
        "clean", ("manage", "clearsessions"), "*-*-* 03:00:00", timeout_seconds=3600, pids=512
    )
    assert app.jobs["import"].schedule is None
    assert app.jobs["import"].timeout_seconds == 60
    assert (app.jobs["import"].memory_mb, app.jobs["import"].cpus) == (512, 1.0)


def test_reads_the_console_the_tool_and_the_secret_variables() -> None:
    app = config.parse(
        changed(
            commands={"console": ["python", "manage.py", "shell"]},
            migrations="alembic",
            restore_point="always",
            secret_variables=["DATABASE_URL", "SECRET_KEY"],
        )
    )
    assert app.commands.console == ("python", "manage.py", "shell")
    assert (app.migrations, app.restore_point) == ("alembic", "always")
    assert app.secret_variables == ("DATABASE_URL", "SECRET_KEY")


@pytest.mark.parametrize(("key", "value", "words"), WRONG, ids=lambda part: str(part)[:40])
def test_wrong_description_is_told_with_its_place(key: str, value: Any, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.parse(changed(**{key: value}), "/etc/app.json")
    assert caught.value.message.startswith("/etc/app.json: ")
    assert words in caught.value.message


def test_service_is_stopped_with_the_signal_it_asks_for(root: Path) -> None:
    del root
    services = {"web": {"port": 80, "stop_signal": "SIGQUIT"}}
    app = config.parse(changed(services=services))
    made = containers.for_service(app, app.services["web"], SLOT, {})
    assert "--stop-signal SIGQUIT" in " ".join(made.arguments())
    assert made.specification() != dataclasses.replace(made, stop_signal=None).specification()


def test_service_without_a_signal_is_run_as_ever(root: Path) -> None:
    del root
    app = config.parse(changed(services={"web": {"port": 80}}))
    made = containers.for_service(app, app.services["web"], SLOT, {})
    assert "--stop-signal" not in made.arguments()
