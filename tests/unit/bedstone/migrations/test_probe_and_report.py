from __future__ import annotations

import ast
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedstone import migrations
from bedstone.apps.config import App, Commands, Image, Service
from bedstone.core.errors import BedstoneError, ConfigError
from bedstone.migrations import PATH, Backward, Pending, Report, Table, parse
from bedstone.migrations.probe import VARIABLE, script
from bedstone.migrations.report import DONE, MARKER
from bedstone_control.roles import zipapp

SCRIPTS = ("manage_commands", "django_probe", "alembic_probe", "squash_driver")


def app(tool: str, *commands: str) -> App:
    return App(
        name="payments",
        domains=(),
        image=Image("pull", reference="x"),
        services={"web": Service("web")},
        environment_file="x",
        network="x",
        commands=Commands(migrate=tuple(tuple(command.split()) for command in commands)),
        migrations=tool,
    )


def shared() -> str:
    """Return the part of a script that needs neither Django nor Alembic."""
    return script("django_probe").partition('"""Ask Django')[0]


# --- the probe ---


DEFAULT_CHECK = "python manage.py check --deploy --fail-level WARNING"
DEFAULT_MIGRATE = "python manage.py migrate --noinput"


def checked(check: str, migrate: str = DEFAULT_MIGRATE, tool: str = "django") -> App:
    """Return an app with checks, which `;` separates."""
    declared = app(tool, migrate)
    checks = tuple(tuple(command.split()) for command in check.split(";") if command)
    return replace(declared, commands=replace(declared.commands, check=checks))


def test_djangos_own_check_shares_its_start_with_the_probe() -> None:
    probe = migrations.probe_after_check(checked(DEFAULT_CHECK))
    assert probe is not None
    assert probe.command == ("python", PATH)
    asked = json.loads(probe.variables[VARIABLE])
    assert asked["commands"] == [["manage.py", "check", "--deploy", "--fail-level", "WARNING"]]
    alone = migrations.probe(app("django", DEFAULT_MIGRATE))
    assert alone is not None
    del asked["commands"]
    assert asked == json.loads(alone.variables[VARIABLE])
    assert f'DONE = "{DONE}"' in probe.script
    assert probe.script.index('"""Run commands of manage.py') < probe.script.index('"""Ask Django')


@pytest.mark.parametrize(
    ("check", "migrate", "tool"),
    [
        ("", DEFAULT_MIGRATE, "django"),
        (f"{DEFAULT_CHECK};{DEFAULT_CHECK}", DEFAULT_MIGRATE, "django"),
        ("./check.sh", DEFAULT_MIGRATE, "django"),
        ("sh -c x", DEFAULT_MIGRATE, "django"),
        ("./manage.py check", "./manage.py migrate", "django"),
        ("uv manage.py check", "uv manage.py migrate", "django"),
        ("python -W error manage.py check", "python -W error manage.py migrate", "django"),
        ("python manage.py test", DEFAULT_MIGRATE, "django"),
        ("python other.py check", "python other.py migrate", "django"),
        (f"{DEFAULT_CHECK} --settings=a", DEFAULT_MIGRATE, "django"),
        (f"{DEFAULT_CHECK} --pythonpath a", DEFAULT_MIGRATE, "django"),
        (DEFAULT_CHECK, f"{DEFAULT_MIGRATE} --settings=a", "django"),
        (DEFAULT_CHECK, "python src/manage.py migrate", "django"),
        (DEFAULT_CHECK, "python3 manage.py migrate", "django"),
        (DEFAULT_CHECK, "alembic upgrade head", "alembic"),
        (DEFAULT_CHECK, DEFAULT_MIGRATE, "none"),
    ],
)
def test_other_checks_start_by_themselves(check: str, migrate: str, tool: str) -> None:
    assert migrations.probe_after_check(checked(check, migrate, tool)) is None


@pytest.mark.parametrize(
    ("migrate", "static", "together"),
    [
        (DEFAULT_MIGRATE, "python manage.py collectstatic --noinput", True),
        (f"{DEFAULT_MIGRATE} --settings=a", "python manage.py collectstatic --noinput", False),
        (DEFAULT_MIGRATE, "python manage.py compress", False),
        (DEFAULT_MIGRATE, "npm run build", False),
        (DEFAULT_MIGRATE, "", False),
    ],
)
def test_migrate_and_collectstatic_share_a_start(
    migrate: str,
    static: str,
    together: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    declared = app("django", migrate)
    commands = (tuple(static.split()),) if static else ()
    declared = replace(declared, commands=replace(declared.commands, static=commands))
    probe = migrations.migrate_and_collect(declared)
    assert (probe is not None) is together
    if probe is not None:
        asked = json.loads(probe.variables[VARIABLE])
        assert asked == {"commands": [["manage.py", "migrate", "--noinput"], static.split()[1:]]}


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_scripts_need_no_newer_python_than_images_have(name: str) -> None:
    ast.parse(script(name), feature_version=(3, 8))


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_scripts_stand_for_themselves(name: str) -> None:
    tree = ast.parse(script(name))
    imported = {
        name
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [str(node.module)]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    theirs = {"django", "alembic", "sqlalchemy"}
    assert {name.partition(".")[0] for name in imported} - theirs <= sys.stdlib_module_names
    compile(tree, name, "exec")


def test_the_scripts_are_in_the_program_as_it_is_installed(tmp_path: Path) -> None:
    program = zipapp.build(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", ("import sys; sys.path.insert(0, sys.argv[1]);"
         "from bedstone.migrations.probe import script; print(script(sys.argv[2]), end='')"),
         str(program), SCRIPTS[0]],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )  # fmt: skip
    assert done.stdout == script(SCRIPTS[0])


def test_django_is_asked_by_the_apps_own_command() -> None:
    probe = migrations.probe(app("django", "python manage.py migrate --noinput --settings=a.b"))
    assert probe is not None
    assert probe.command[:5] == ("python", "manage.py", "shell", "--settings=a.b", "-c")
    assert PATH in probe.command[5]
    asked = json.loads(probe.variables[VARIABLE])
    assert asked == {
        "keep": None,
        "program": ["python", "manage.py"],
        "options": ["--settings=a.b"],
        "targets": None,
    }


def test_the_migrations_to_keep_are_asked_for() -> None:
    for tool, command in (("django", "./manage.py migrate"), ("alembic", "alembic upgrade head")):
        probe = migrations.probe(app(tool, command), keep=["a.0001"])
        assert probe is not None
        assert json.loads(probe.variables[VARIABLE])["keep"] == ["a.0001"]
        assert "\n" not in probe.variables[VARIABLE]


def test_a_long_question_fits_into_a_line_of_an_environment_file() -> None:
    keep = [f"application_{n % 30}.{n:04}_alter_something_{n * 7919 % 10007}" for n in range(3000)]
    probe = migrations.probe(app("django", "./manage.py migrate"), keep=keep)
    assert probe is not None
    assert max(map(len, probe.variables.values())) < 60_000
    done = subprocess.run(
        [sys.executable, "-"],
        input=f"{shared()}\nprint(json.dumps(question()))",
        env=dict(probe.variables),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["keep"] == keep


def test_several_migrate_commands_are_one_plan() -> None:
    parts = migrations.probe(app("django", "./manage.py migrate a", "./manage.py migrate b 0002"))
    whole = migrations.probe(app("django", "./manage.py migrate a", "./manage.py migrate"))
    assert parts is not None
    assert whole is not None
    assert json.loads(parts.variables[VARIABLE])["targets"] == [["a", None], ["b", "0002"]]
    assert json.loads(whole.variables[VARIABLE])["targets"] is None


def test_alembic_is_asked_by_its_own_python() -> None:
    probe = migrations.probe(app("alembic", "/venv/bin/alembic -c x.ini upgrade head"))
    assert probe is not None
    assert probe.command == ("/venv/bin/python3", PATH)
    assert json.loads(probe.variables[VARIABLE])["options"] == ["-c", "x.ini"]


def test_an_app_without_migrations_has_no_probe() -> None:
    assert migrations.probe(app("none", "./manage.py migrate")) is None
    assert migrations.probe(app("django")) is None


@pytest.mark.parametrize("tool", ["django", "alembic"])
def test_a_tool_that_is_not_in_the_commands_is_refused(tool: str) -> None:
    with pytest.raises(ConfigError, match="isn't one of its migrate commands") as error:
        migrations.probe(app(tool, "sh -c true"))
    assert "migrations: none" in str(error.value.hint)


# --- the report ---


FULL = Report(
    "django",
    applied=("a.0001", "a.0002"),
    known=("a.0001",),
    pending=(
        Pending("a.0003", False, "why", ("SELECT 'ü'",), ("RunPython(x)",), ("drop-table",), "x"),
        Pending("a.0004"),
    ),
    tables={"a": Table(1, 2, {"x": "text"})},
    backward=Backward(("a.0002",), (("a.0002", "why"),), (("manage.py", "migrate"),)),
)


def test_a_report_survives_json() -> None:
    assert Report.from_json(json.loads(json.dumps(FULL.as_json()))) == FULL
    assert FULL.unknown == ("a.0002",)


WORDS = st.lists(st.text(), max_size=3).map(tuple)


@given(
    st.builds(
        Report,
        tool=st.sampled_from(["django", "alembic"]),
        applied=WORDS,
        known=WORDS,
        pending=st.lists(
            st.builds(Pending, name=st.text(), sql=st.none() | WORDS, opaque=WORDS), max_size=2
        ).map(tuple),
        tables=st.dictionaries(st.text(), st.builds(Table, st.integers(), st.integers())),
        backward=st.none() | st.builds(Backward, WORDS),
    )
)
def test_any_report_survives_json(report: Report) -> None:
    assert Report.from_json(json.loads(json.dumps(report.as_json()))) == report


def test_the_report_is_found_among_what_the_app_prints() -> None:
    line = MARKER + json.dumps(FULL.as_json())
    assert parse(f"12 objects imported automatically.\n\n{line}\nGoodbye.\n") == FULL
    assert parse(f"{MARKER}{{}}\n{line}") == FULL


def test_a_long_report_is_packed_by_the_script() -> None:
    pending = [{"name": "a.1", "reversible": True, "why_not": None, "sql": ["x" * 300_000] * 4,
                "opaque": [], "accepts": []}]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-"],
        input=f"{shared()}\nemit({dict(FULL.as_json(), pending=pending)!r})",
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(done.stdout) < 10_000
    report = parse(done.stdout)
    assert [len(sql) for sql in report.pending[0].sql or ()] == [200_000] * 4


def test_output_without_a_report_is_said_with_its_end() -> None:
    with pytest.raises(BedstoneError, match="didn't say which migrations") as error:
        parse("Traceback\nImportError: no module shop\n")
    assert "no module shop" in error.value.details


@pytest.mark.parametrize("rest", ["{", "zlib:!!!", "zlib:aGFsbG8=", "{}", '{"tool": "x"}', "[]"])
def test_a_broken_report_is_an_error_for_people(rest: str) -> None:
    with pytest.raises(BedstoneError):
        parse(MARKER + rest)
