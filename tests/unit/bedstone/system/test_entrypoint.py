"""Commands in an image whose ENTRYPOINT takes them for arguments, and hints by its output."""

from __future__ import annotations

import pytest

from bedstone.core.process import Completed
from bedstone.system import container_hints
from bedstone.system.container import Container
from bedstone.system.docker import Docker
from bedstone.system.entrypoint import swallows


@pytest.mark.parametrize(
    "entrypoint",
    [
        ["gunicorn", "shop.wsgi", "--bind", "0.0.0.0:8000"],
        ["python3", "/server.py"],
        ["/usr/local/bin/python3.13", "-m", "shop"],
        ["/bin/sh", "-c", "gunicorn shop.wsgi"],
        ["/usr/bin/tini", "--", "uvicorn", "shop:app"],
        ["uv", "run", "gunicorn", "shop.wsgi"],
        ["node", "server.js"],
    ],
)
def test_server_takes_a_command_for_arguments(entrypoint: list[str]) -> None:
    assert swallows(entrypoint)


@pytest.mark.parametrize(
    "entrypoint",
    [
        [],
        ["/docker-entrypoint.sh"],
        ["docker-entrypoint.sh", "--verbose"],
        ["python", "/app/entrypoint.py"],
        ["/bin/sh", "/start"],
        ["sh", "-c", 'exec "$@"', "--"],
        ["/usr/bin/tini", "-g", "--"],
        ["dumb-init", "--", "/start.sh"],
        ["/init"],
        ["uv", "run"],
        ["env", "A=1"],
    ],
)
def test_wrapper_runs_a_command(entrypoint: list[str]) -> None:
    assert not swallows(entrypoint)


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(("one_off", "without"), [(True, True), (False, False)])
def test_one_off_command_runs_without_a_server_before_it(*, one_off: bool, without: bool) -> None:
    calls: list[list[str]] = []

    def run(argv: list[str], **_: object) -> Completed:
        calls.append(argv)
        shown = '[{"Id": "sha256:1", "Config": {"Entrypoint": ["gunicorn", "shop.wsgi"]}}]'
        return Completed(tuple(argv), 0, shown if "inspect" in argv else "", "", 0.0)

    made = Container("n", "sha256:1", "net", {}, command=("manage", "check"), one_off=one_off)
    Docker(run).run_once(made, timeout=5)  # type: ignore[arg-type]
    argv = calls[-1]
    assert ("--entrypoint" in argv) == without
    if without:
        assert argv[argv.index("--entrypoint") + 1] == ""
    assert argv[-3:] == ["sha256:1", "manage", "check"]


@pytest.mark.parametrize(
    ("output", "uid", "setting"),
    [
        (
            "[FATAL tini (7)] exec /usr/bin/caddy failed: Operation not permitted",
            1000,
            "capabilities: [NET_BIND_SERVICE]",
        ),
        ("s6-overlay-suexec: fatal: can only run as pid 1", 0, "init: false"),
        ("x.so: failed to map segment from shared object", 1000, ":exec"),
        ("chown: /data: Operation not permitted", 0, "capabilities: [CHOWN, SETGID, SETUID]"),
        ("error: failed switching to 'app'", 0, "SETUID"),
    ],
)
def test_setting_that_helps_is_named(output: str, uid: int, setting: str) -> None:
    assert setting in str(container_hints.hint(output, uid, ()))


def test_no_setting_is_guessed() -> None:
    assert container_hints.hint("chown: /data: Operation not permitted", 1000, ()) is None
    assert container_hints.hint("it is broken", 0, ()) is None
    rights = ("CHOWN", "SETGID", "SETUID")
    assert container_hints.hint("kill: Operation not permitted", 0, rights) is None


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("ModuleNotFoundError: No module named 'kombu.transport'", "no Python module kombu"),
        ("Invalid HTTP_HOST header: 'shop.example.com'. You may", "shop.example.com: put it into"),
        (
            "?: (security.W004) You have not set\n?: (security.W008) Your SECURE_SSL_REDIRECT",
            'SILENCED_SYSTEM_CHECKS = ["security.W004", "security.W008"]',
        ),
    ],
)
def test_what_an_app_says_last_names_what_helps(output: str, words: str) -> None:
    assert words in str(container_hints.hint(output, 1000, ()))


@pytest.mark.parametrize(
    ("output", "setting"),
    [
        (
            "ERROR:  canceling statement due to statement timeout",
            "`database: {settings: {statement_timeout: 30min}}`",
        ),
        (
            "FATAL:  terminating connection due to idle-in-transaction timeout",
            "{settings: {idle_in_transaction_session_timeout: 30min}}",
        ),
        ("QueryCanceled: canceling statement due to lock timeout", "{lock_timeout: 30s}"),
        (
            "FATAL:  terminating connection due to transaction timeout",
            "{transaction_timeout: 30min}",
        ),
        ("ERROR:  temporary file size exceeds temp_file_limit (1048576kB)", "temp_file_limit: 4GB"),
    ],
)
def test_limit_of_the_database_is_named_with_its_setting(output: str, setting: str) -> None:
    assert setting in str(container_hints.hint(output, 1000, ()))


def test_migration_has_settings_of_its_own() -> None:
    said = "canceling statement due to statement timeout"
    hint = container_hints.of_database(said, migration=True)
    assert "`postgresql_migrate_settings: {statement_timeout: 30min}`" in str(hint)
    assert container_hints.of_database("canceling statement due to user request") is None
