"""Jobs, the console, migrations and hooks: from settings to what the host program reads."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from bedstone.apps import config
from bedstone.notify import settings as host_hooks
from bedstone_control.checks.jobs import schedule_fault
from bedstone_control.roles import host_program, registry
from bedstone_control.roles.app_config import host_config
from bedstone_control.settings.root import Settings
from tests.unit.fixtures.roles import site_of

if TYPE_CHECKING:
    from pathlib import Path

    from bedstone_control.roles.site import Site

ARGUMENTS = registry.arguments()

APP: dict[str, Any] = {
    "name": "payments",
    "source": {"image": "registry.example.com/payments:1"},
    "services": {"web": {"port": 8000, "stop_signal": "SIGQUIT"}},
    "domains": ["pay.example.com"],
}
SECRETS = {"secret_key": "k", "database_password": "p", "database_migrate_password": "m"}
HOOKS = {"chat_url": "https://chat.example.com/hooks/t0ken", "mail_password": "pa$$"}

# Each one was given to `systemd-analyze calendar` of Debian 12 and of 13, which take it.
TIMES = (
    "daily", "hourly", "weekly", "Mon", "mon..fri", "*-*-* 03:00:00", "Mon..Fri 07:30",
    "*-*-* *:00/15", "Sat,Sun 12:05", "*:0/5", "2026-*-01 00:00", "*-*~01 23:00",
    "Mon *-*-* 03:00:00 Europe/Berlin", "*-02-29", "12:34:56.75", "quarterly", "03:00 UTC",
    "Mon..Wed,Fri 9:00", "*-*-1..7 18:00:00", "semi-annually", "*-1,4,7,10-01",
)  # fmt: skip


def site(*apps: dict[str, Any], secrets: dict[str, Any] | None = None, **settings: Any) -> Site:
    given = list(apps) or [APP]
    own = {app["name"]: SECRETS for app in given}
    return site_of(
        {"apps": given, **settings}, {"apps": own, "hooks": HOOKS if secrets is None else secrets}
    )


def read(**changes: Any) -> config.App:
    """Return what the host program reads of an app with these settings."""
    made = site(APP | changes)
    return config.parse(json.loads(json.dumps(host_config(made, made.settings.apps[0]))))


def test_jobs_arrive_as_they_were_written() -> None:
    jobs = {
        "cleanup": {"command": "python manage.py clearsessions", "schedule": "daily"},
        "import": {"command": ["import", "a b"], "timeout_seconds": 60, "memory_mb": 256},
    }
    read_jobs = read(jobs=jobs).jobs
    assert read_jobs["cleanup"] == config.Job(
        "cleanup", ("python", "manage.py", "clearsessions"), schedule="daily"
    )
    assert read_jobs["import"].command == ("import", "a b")
    assert (read_jobs["import"].schedule, read_jobs["import"].memory_mb) == (None, 256)


def test_app_without_more_settings_has_the_defaults() -> None:
    app = read()
    assert app.jobs == {}
    assert app.services["web"].stop_signal == "SIGQUIT"
    assert (app.migrations, app.restore_point) == ("django", "migrations")
    assert app.commands.console == ("python", "manage.py", "shell")
    assert app.secret_variables == (
        "DATABASE_URL",
        "POSTGRES_PASSWORD",
        "SECRET_KEY",
        "SECRET_KEY_FALLBACKS",
    )


@pytest.mark.parametrize(
    ("changes", "tool"),
    [
        ({"commands": {"migrate": "alembic upgrade head"}}, "alembic"),
        ({"commands": {"migrate": "python -m alembic upgrade head"}}, "alembic"),
        ({"commands": {"migrate": "/app/.venv/bin/alembic upgrade head"}}, "alembic"),
        ({"commands": {"migrate": "django-admin migrate"}}, "django"),
        ({"commands": {"migrate": ["python src/manage.py migrate"]}}, "django"),
        ({"commands": {"migrate": [["sh", "-c", "cd src && ./manage.py migrate"]]}}, "django"),
        ({"commands": {"migrate": "python -m django migrate"}}, "django"),
        # The migration tool can't be asked there: the release says so, and makes a restore point
        # each time.
        ({"commands": {"migrate": [["sh", "-c", "python manage.py migrate && echo"]]}}, "none"),
        ({"commands": {"migrate": "python manage.py migrate_schemas"}}, "none"),
        ({"commands": {"migrate": "npm run migrate"}}, "none"),
        ({"commands": {"migrate": []}}, "none"),
        ({"commands": []}, "none"),
        ({"database": False}, "none"),
        ({"migrations": "none"}, "none"),
        ({"migrations": "alembic"}, "alembic"),
    ],
)
def test_tool_for_migrations_is_guessed_unless_it_is_said(
    changes: dict[str, Any], tool: str
) -> None:
    assert read(**changes).migrations == tool


@pytest.mark.parametrize(
    ("changes", "console"),
    [
        ({"commands": {"migrate": ["python src/manage.py migrate"]}},
         ("python", "src/manage.py", "shell")),
        ({"database": False}, ("python", "manage.py", "shell")),
        ({"commands": {"console": "python manage.py shell_plus"}},
         ("python", "manage.py", "shell_plus")),
        ({"commands": {"console": []}}, None),
        ({"commands": []}, None),
        ({"commands": {"check": [], "migrate": "alembic upgrade head", "static": []}}, None),
    ],
)  # fmt: skip
def test_console_is_django_s_unless_it_is_said(
    changes: dict[str, Any], console: tuple[str, ...] | None
) -> None:
    assert read(**changes).commands.console == console


def test_variables_with_secrets_are_named_whatever_they_are_called() -> None:
    app = read(
        default_env=False,
        env={
            "DSN": "user=${database.user} password=${database.password}",
            "KEY": "${app.secret_key}",
            "STRIPE": "${secret.stripe}",
            "HOST": "${database.host}",
            "DOLLAR": "$${secret.stripe}",
        },
    )
    assert app.secret_variables == ("DSN", "KEY", "STRIPE")


@pytest.mark.parametrize("text", TIMES)
def test_times_that_systemd_takes_pass(text: str) -> None:
    assert schedule_fault(text) is None


def test_lock_timeout_is_the_database_s() -> None:
    (database,) = ARGUMENTS["postgresql_databases"](
        site(APP | {"database": {"lock_timeout_seconds": 9}})
    )
    assert database["lock_timeout_seconds"] == 9


def test_hooks_get_their_secrets_and_one_way_each() -> None:
    made = site(
        hooks=[
            {"events": ["failure"], "webhook": "${secret.chat_url}", "apps": ["payments"]},
            {"mail": ["ops@example.com"], "timeout_seconds": 20},
            {"command": "/usr/local/bin/tell 'the pager'"},
        ],
        mail={
            "server": "mail.example.com",
            "user": "u",
            "password": "${secret.mail_password}",
            "sender": "bedstone@example.com",
        },
    )
    every = ["release", "failure", "rollback"]
    assert ARGUMENTS["host_program_hooks"](made) == [
        {
            "events": ["failure"],
            "apps": ["payments"],
            "timeout_seconds": 10,
            "webhook": HOOKS["chat_url"],
        },
        {"events": every, "apps": None, "timeout_seconds": 20, "mail": ["ops@example.com"]},
        {
            "events": every,
            "apps": None,
            "timeout_seconds": 10,
            "command": ["/usr/local/bin/tell", "the pager"],
        },
    ]
    assert ARGUMENTS["host_program_mail"](made) == {
        "server": "mail.example.com",
        "port": 587,
        "security": "starttls",
        "user": "u",
        "password": "pa$$",
        "sender": "bedstone@example.com",
    }


def test_without_hooks_nobody_is_told() -> None:
    assert ARGUMENTS["host_program_hooks"](site(secrets={})) == []
    assert ARGUMENTS["host_program_mail"](site(secrets={})) is None


def test_missing_secret_of_a_hook_is_named() -> None:
    made = site(hooks=[{"webhook": "${secret.chat_url}"}], secrets={})
    with pytest.raises(ValueError, match=r"hook 1: the vault has no bedstone_secrets\.hooks\.chat"):
        ARGUMENTS["host_program_hooks"](made)


def test_secrets_of_hooks_are_listed_once() -> None:
    url = "https://${secret.host}/${secret.token}"
    given = {"apps": [APP], "hooks": [{"webhook": url}, {"webhook": url}]}
    assert host_program.required_secrets(Settings.model_validate(given)) == ["host", "token"]


def test_host_program_reads_the_hooks_that_are_written_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = site(
        hooks=[
            {"webhook": "${secret.chat_url}", "apps": ["payments"]},
            {"mail": ["ops@example.com"]},
            {"command": "/usr/local/bin/tell pager"},
        ],
        mail={"server": "m.example.com", "sender": "b@example.com"},
    )
    path = tmp_path / "etc/bedstone/hooks.json"
    path.parent.mkdir(parents=True)
    written = {
        "schema": 1,
        "hooks": ARGUMENTS["host_program_hooks"](made),
        "mail": ARGUMENTS["host_program_mail"](made),
    }
    path.write_text(json.dumps(written))
    monkeypatch.setenv("BEDSTONE_ROOT", str(tmp_path))
    found = host_hooks.load()
    assert [hook.webhook for hook in found.hooks] == [HOOKS["chat_url"], None, None]
    assert found.hooks[1].recipients == ("ops@example.com",)
    assert found.hooks[2].command == ("/usr/local/bin/tell", "pager")
    assert found.mail is not None
    assert found.mail.password is None
