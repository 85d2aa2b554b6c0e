"""The environment's schema: every problem at once, in sentences; docs that can't drift."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING
from unittest import mock

import pytest

from config import environment_docs
from config.environment import Environment, EnvironmentProblems, load, variable

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

GOOD = {
    "SECRET_KEY": "k3yk3y-" + "abcdefghijklmnopqrstuvwxyz" * 2,
    "ALLOWED_HOSTS": "pay.example.com, pay.example.org",
    "POSTGRES_DB": "payments",
    "POSTGRES_USER": "payments_app",
    "POSTGRES_PASSWORD": "p4ssw0rd-of-the-test",
    "POSTGRES_HOST": "postgres",
    "POSTGRES_SSL_ROOT_CERT": "system",
}


def load_with(changes: dict[str, str | None]) -> Environment:
    values = {name: value for name, value in (GOOD | changes).items() if value is not None}
    with mock.patch.dict(os.environ, values, clear=True):
        return load()


def problems_with(changes: dict[str, str | None]) -> list[str]:
    with pytest.raises(EnvironmentProblems) as caught:
        load_with(changes)
    return caught.value.problems


def test_a_good_environment_is_typed() -> None:
    env = load_with({"WEB_CONCURRENCY": "3", "FORWARDED_ALLOW_IPS": "10.0.0.0/8,127.0.0.1"})
    assert env.allowed_hosts == ["pay.example.com", "pay.example.org"]
    assert env.web_concurrency == 3
    assert env.forwarded_allow_ips == ["10.0.0.0/8", "127.0.0.1"]
    assert env.postgres_ssl_mode == "verify-full"
    assert env.debug is False


def test_secrets_are_masked_when_printed() -> None:
    assert GOOD["SECRET_KEY"] not in repr(load_with({}))
    assert GOOD["POSTGRES_PASSWORD"] not in repr(load_with({}))


def test_https_switches_follow_https_enforced() -> None:
    def switches(**changes: str) -> tuple[bool | None, ...]:
        env = load_with({**changes})
        return env.secure_ssl_redirect, env.session_cookie_secure, env.csrf_cookie_secure

    assert switches() == (True, True, True)
    assert switches(HTTPS_ENFORCED="false") == (False, False, False)
    assert switches(SECURE_SSL_REDIRECT="false") == (False, True, True)
    assert switches(HTTPS_ENFORCED="no", CSRF_COOKIE_SECURE="yes") == (False, False, True)


def test_an_empty_variable_counts_as_missing() -> None:
    assert problems_with({"POSTGRES_HOST": ""}) == [
        "POSTGRES_HOST is not set. Example: POSTGRES_HOST=postgres"
    ]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"SECRET_KEY": None}, "SECRET_KEY is not set."),
        ({"SECRET_KEY": None, "SECRETKEY": "x"}, "but SECRETKEY is: a typing mistake?"),
        ({"SECRET_KEY": "short"}, "SECRET_KEY must be at least 50 random characters, and has 5"),
        ({"SECRET_KEY": "ab" * 40}, "SECRET_KEY must be at least 50 random characters"),
        ({"SECRET_KEY": "django-insecure-" + "abcdefghij" * 5}, "begins with 'django-insecure-'"),
        ({"SECRET_KEY_FALLBACKS": "short"}, "SECRET_KEY_FALLBACKS must be at least 50"),
        ({"DEBUG": "maybe"}, "DEBUG must be true or false, and is 'maybe'"),
        ({"ALLOWED_HOSTS": " , "}, "ALLOWED_HOSTS holds no name"),
        ({"ALLOWED_HOSTS": "*"}, "ALLOWED_HOSTS is '*'"),
        ({"ALLOWED_HOSTS": "https://pay.example.com"}, "ALLOWED_HOSTS must hold host names"),
        ({"CSRF_TRUSTED_ORIGINS": "pay.example.com"}, "CSRF_TRUSTED_ORIGINS must hold origins"),
        ({"TIME_ZONE": "Europe/Atlantis"}, "TIME_ZONE names no known time zone"),
        ({"POSTGRES_PASSWORD": None}, "POSTGRES_PASSWORD is not set"),
        ({"POSTGRES_PORT": "many"}, "POSTGRES_PORT must be a whole number, and is 'many'"),
        ({"POSTGRES_PORT": "70000"}, "POSTGRES_PORT must be at most 65535, and is '70000'"),
        (
            {"POSTGRES_SSL_MODE": "strict"},
            "POSTGRES_SSL_MODE must be disable, allow, prefer, require, verify-ca or verify-full",
        ),
        (
            {"POSTGRES_SSL_ROOT_CERT": None},
            "POSTGRES_SSL_ROOT_CERT is not set, and POSTGRES_SSL_MODE=verify-full needs it",
        ),
        (
            {"POSTGRES_SSL_MODE": "verify-ca", "POSTGRES_SSL_ROOT_CERT": None},
            "POSTGRES_SSL_ROOT_CERT is not set, and POSTGRES_SSL_MODE=verify-ca needs it",
        ),
        ({"POSTGRES_SSL_MODE": "require"}, "POSTGRES_SSL_ROOT_CERT is 'system', which needs"),
        (
            {"POSTGRES_SSL_ROOT_CERT": "/nowhere/ca.crt"},
            "POSTGRES_SSL_ROOT_CERT names the file /nowhere/ca.crt, which does not exist",
        ),
        (
            {"POSTGRES_SSL_CERT": "/nowhere/client.crt"},
            "POSTGRES_SSL_CERT names the file /nowhere/client.crt, which does not exist",
        ),
        (
            {"POSTGRES_SSL_KEY": "/nowhere/client.key"},
            "POSTGRES_SSL_KEY names the file /nowhere/client.key, which does not exist",
        ),
        ({"POSTGRES_SSL_CERT": __file__}, "POSTGRES_SSL_KEY is not set"),
        ({"POSTGRES_SSL_KEY": __file__}, "POSTGRES_SSL_CERT is not: they come together"),
        ({"LOG_LEVEL": "loud"}, "LOG_LEVEL must be DEBUG, INFO, WARNING, ERROR or CRITICAL"),
        ({"LOG_FORMAT": "xml"}, "LOG_FORMAT must be json or text, and is 'xml'"),
        ({"HTTPS_ENFORCED": "2"}, "HTTPS_ENFORCED must be true or false"),
        ({"PORT": "0"}, "PORT must be at least 1"),
        ({"WEB_CONCURRENCY": "0"}, "WEB_CONCURRENCY must be at least 1"),
        ({"FORWARDED_ALLOW_IPS": "nginx"}, "FORWARDED_ALLOW_IPS must hold IP addresses"),
    ],
)
def test_each_mistake_has_its_sentence(changes: dict[str, str | None], problem: str) -> None:
    found = problems_with(changes)
    assert len(found) == 1
    assert problem in found[0]
    assert f"Example: {found[0].split()[0]}=" in found[0]


def test_all_problems_come_at_once_and_show_no_secret() -> None:
    changes = {
        "SECRET_KEY": "tooshort-but-secret",
        "POSTGRES_PASSWORD": None,
        "POSTGRES_SSL_MODE": "strict",
        "POSTGRES_SSL_ROOT_CERT": "/nowhere",
        "LOG_LEVEL": "loud",
        "PORT": "x",
    }
    found = problems_with(changes)
    assert [problem.split()[0] for problem in found] == [*changes]
    assert "tooshort" not in " ".join(found)


def test_the_start_ends_with_the_list_and_code_78(
    run: Callable[..., subprocess.CompletedProcess[str]], environment: dict[str, str]
) -> None:
    env = environment | {"POSTGRES_SSL_MODE": "strict", "LOG_LEVEL": "loud"}
    for program in (["manage.py", "check"], ["-m", "gunicorn", "--check-config"]):
        done = run(*program, env=env)
        assert done.returncode == 78, done.stderr
        assert "its environment has 2 problems" in done.stderr
        assert "POSTGRES_SSL_MODE must be" in done.stderr
        assert "LOG_LEVEL must be" in done.stderr
        assert "Traceback" not in done.stderr


def test_docs_and_example_are_those_of_the_schema() -> None:
    assert environment_docs.EXAMPLE.read_text() == environment_docs.env_example(), "make example"
    assert environment_docs.TABLE.read_text() == environment_docs.table(), "make example"


def test_the_examples_are_right_values(tmp_path: Path) -> None:
    """The example file, its secrets filled in and its comments opened, is accepted."""
    values = {}
    for line in environment_docs.env_example().splitlines():
        if found := re.fullmatch(r"#?([A-Z_]+)=(.*)", line):
            values[found[1]] = found[2] or GOOD["SECRET_KEY"]
    certificate = tmp_path / "certificate"
    certificate.touch()
    for name in values:
        if name.endswith(("_CERT", "_SSL_KEY")):
            values[name] = str(certificate)
    assert {*values} == {variable(field) for field in Environment.model_fields}
    with mock.patch.dict(os.environ, values, clear=True):
        load()


def test_the_source_reads_no_other_variable() -> None:
    """Whoever adds os.environ somewhere goes around the schema."""
    readers = [
        path.name
        for folder in ("config", "payments")
        for path in (environment_docs.BASE / folder).rglob("*.py")
        if "environ[" in path.read_text() or "getenv" in path.read_text()
    ]
    assert readers == []
