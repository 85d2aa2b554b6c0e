from __future__ import annotations

import pytest

from bedstone.migrations import guess
from bedstone.migrations.commands import Alembic, Django, alembic, django, plain


@pytest.mark.parametrize(
    ("command", "tool"),
    [
        ("python manage.py migrate --noinput", "django"),
        ("./manage.py migrate", "django"),
        ("python3.12 -m django migrate --settings=x", "django"),
        ("django-admin migrate", "django"),
        ("uv run python src/manage.py migrate", "django"),
        ("alembic upgrade head", "alembic"),
        ("/opt/venv/bin/alembic -c db.ini upgrade head", "alembic"),
        ("python -m alembic upgrade heads", "alembic"),
        ("python -m guestbook.schema", "none"),
        ("python manage.py migrate_schemas", "none"),
        ("python manage.py", "none"),
        ("alembic current", "none"),
        ("alembic", "none"),
        ("flask db upgrade", "none"),
        ("migrate", "none"),
    ],
)
def test_the_tool_is_guessed_from_the_migrate_command(command: str, tool: str) -> None:
    assert guess([command.split()]) == tool
    assert guess([["something", "else"], command.split()]) == tool


def test_without_a_command_there_is_no_tool() -> None:
    assert guess([]) == "none"
    assert guess([[]]) == "none"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("python manage.py migrate --noinput", Django(("python", "manage.py"))),
        (
            "django-admin migrate --settings a.b --pythonpath=src -v 2",
            Django(("django-admin",), ("--settings=a.b", "--pythonpath=src")),
        ),
        ("./manage.py migrate shop", Django(("./manage.py",), label="shop")),
        (
            "./manage.py migrate -v 0 shop --no-color 0003",
            Django(("./manage.py",), label="shop", target="0003"),
        ),
        ("env A=b ./manage.py migrate --database default", Django(("env", "A=b", "./manage.py"))),
    ],
)
def test_a_migrate_command_of_django_is_taken_apart(command: str, expected: Django) -> None:
    assert django([command.split()]) == (expected,)


def test_other_databases_than_the_default_are_left_alone() -> None:
    commands = ["manage.py check", "./manage.py migrate --database=log", "./manage.py migrate"]
    assert django([command.split() for command in commands]) == (Django(("./manage.py",)),)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("alembic upgrade head", Alembic(("alembic",), ("python3",))),
        (
            "/opt/venv/bin/alembic upgrade head",
            Alembic(("/opt/venv/bin/alembic",), ("/opt/venv/bin/python3",)),
        ),
        (
            "alembic -c upgrade -x a=b --name=n upgrade abc123 --tag t",
            Alembic(
                ("alembic", "-c", "upgrade", "-x", "a=b", "--name=n"),
                ("python3",),
                ("-c", "upgrade", "-x", "a=b", "--name=n"),
                "abc123",
            ),
        ),
        (
            "uv run alembic upgrade --tag t heads",
            Alembic(("uv", "run", "alembic"), ("uv", "run", "python3"), target="heads"),
        ),
        (
            "python3.12 -m alembic --raiseerr upgrade +1",
            Alembic(
                ("python3.12", "-m", "alembic", "--raiseerr"),
                ("python3.12",),
                ("--raiseerr",),
                "+1",
                module=True,
            ),
        ),
    ],
)
def test_an_upgrade_by_alembic_is_taken_apart(command: str, expected: Alembic) -> None:
    assert alembic([command.split()]) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("exec python manage.py migrate", ("python", "manage.py", "migrate")),
        ("alembic -x 'a b' upgrade head", ("alembic", "-x", "a b", "upgrade", "head")),
    ],
)
def test_a_shell_that_only_starts_the_command_is_seen_through(
    text: str, expected: tuple[str, ...]
) -> None:
    for shell in (("sh", "-c"), ("/bin/bash", "-ec")):
        assert plain((*shell, text)) == expected


def test_a_shell_stays_for_the_directory_alone() -> None:
    command = ("sh", "-c", "cd 'my src' && exec ./manage.py migrate --noinput")
    shell = ("sh", "-c", "cd 'my src' && exec \"$@\"", "sh")
    assert plain(command) == (*shell, "./manage.py", "migrate", "--noinput")
    assert django([command]) == (Django((*shell, "./manage.py")),)
    assert guess([command]) == "django"


@pytest.mark.parametrize(
    "text",
    [
        "./manage.py collectstatic && ./manage.py migrate",
        "cd a && cd b && ./manage.py migrate",
        "cd $HOME && ./manage.py migrate",
        "./manage.py migrate $ARGS",
        "./manage.py migrate | tee log",
        "./manage.py 'migrate",
    ],
)
def test_a_shell_that_does_more_stays(text: str) -> None:
    command = ("sh", "-c", text)
    assert plain(command) == command
    assert guess([command]) == "none"
