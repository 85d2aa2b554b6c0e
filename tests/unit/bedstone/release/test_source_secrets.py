"""Secrets of a source: where they go, and where they never show."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from bedstone.apps import config, source_secrets
from bedstone.core import errors, paths
from bedstone.core.errors import BedstoneError, CommandError, ConfigError
from bedstone.core.process import Completed, run
from bedstone.notify import redact
from bedstone.release import fingerprint, source
from bedstone.system.docker import Docker
from tests.unit.fixtures.server import APP, Server

TOKEN = "tell-this-to-nobody"
GIT = {"kind": "git", "url": "https://deploy:${secret.token}@git.example.com/a.git", "version": "v"}
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nbm9ib2R5\n-----END OPENSSH PRIVATE KEY-----\n"


def app_with(**image: Any) -> config.App:
    return config.parse(APP | {"image": image})


def keep(**secrets: Any) -> None:
    path = paths.app_config("shop").with_name(source_secrets.NAME)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(secrets))


def test_login_of_a_repository_comes_from_the_file_and_shows_nowhere(server: Server) -> None:
    keep(url=f"https://deploy:{TOKEN}@git.example.com/a.git")
    calls: list[tuple[Sequence[str], dict[str, Any]]] = []

    def runner(argv: Sequence[str], **options: Any) -> Completed:
        calls.append((argv, options))
        return Completed(tuple(argv), 0, f"{'a' * 40}\trefs/heads/v\n", "", 0.0)

    assert source.identify(app_with(**GIT), Docker(server.run), runner) == f"git:{'a' * 40}"
    ((argv, options),) = calls
    assert "https://git.example.com/a.git" in argv
    assert TOKEN not in str(argv)
    assert "Authorization: Basic" in options["env"]["GIT_CONFIG_VALUE_0"]


def test_deploy_key_is_a_file_of_roots_for_as_long_as_git_runs(server: Server) -> None:
    keep(deploy_key=KEY, known_hosts="git.example.com ssh-ed25519 AAAA\n")
    seen: list[str] = []

    def runner(argv: Sequence[str], **options: Any) -> Completed:
        command = shlex.split(options["env"]["GIT_SSH_COMMAND"])
        key = Path(command[command.index("-i") + 1])
        seen.append(str(key))
        assert key.read_text() == KEY
        assert key.stat().st_mode & 0o777 == 0o600
        assert key.parent.stat().st_mode & 0o777 == 0o700
        hosts = next(word for word in command if word.startswith("UserKnownHostsFile="))
        assert Path(hosts.partition("=")[2]).read_text().startswith("git.example.com ")
        assert {"StrictHostKeyChecking=yes", "IdentitiesOnly=yes", "BatchMode=yes"} <= set(command)
        assert "nobody" not in f"{argv}{options}"
        return Completed(tuple(argv), 0, f"{'a' * 40}\trefs/heads/v\n", "", 0.0)

    app = app_with(kind="git", url="git@git.example.com:team/a.git", version="v")
    source.identify(app, Docker(server.run), runner)
    assert [path for path in seen if Path(path).exists()] == []
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("Host key verification failed.", "host_keys"),
        ("git@x: Permission denied (publickey).", "deploy keys"),
        ("fatal: could not read Username for 'https://x'", "secret.git_token"),
    ],
)
def test_failed_fetch_says_how_a_repository_is_reached(
    server: Server, said: str, hint: str
) -> None:
    def runner(argv: Sequence[str], **_: Any) -> Completed:
        raise CommandError(f"`{argv[0]}` failed", returncode=128, output=said)

    with pytest.raises(BedstoneError, match="git can't fetch git@x:a") as caught:
        source.identify(
            app_with(kind="git", url="git@x:a", version="v"), Docker(server.run), runner
        )
    assert hint in str(caught.value.hint)
    assert said in caught.value.details


def test_build_secrets_and_secret_arguments_are_in_no_arguments(server: Server) -> None:
    calls: list[tuple[list[str], dict[str, Any]]] = []

    def runner(argv: Sequence[str], **options: Any) -> Completed:
        if list(argv[:2]) == ["docker", "build"]:
            calls.append((list(argv), options))
        return server.run(argv, **options)

    Docker(runner).build(
        Path("/x"),
        dockerfile="Dockerfile",
        args={"A": "1", "TOKEN": "${secret.token}"},
        secret_args={"TOKEN": TOKEN},
        secrets={"npm": TOKEN},
        target=None,
        labels={},
    )
    ((argv, options),) = calls
    assert TOKEN not in str(argv)
    assert argv[argv.index("A=1") - 1] == "--build-arg"
    assert argv[argv.index("TOKEN") - 1] == "--build-arg"
    assert "${secret.token}" not in str(argv)
    mounted = argv[argv.index("--secret") + 1]
    assert mounted.startswith("id=npm,env=")
    assert options["env"][mounted.partition("env=")[2]] == TOKEN
    assert options["env"]["TOKEN"] == TOKEN


def test_build_with_secrets_needs_buildkit(server: Server) -> None:
    def runner(argv: Sequence[str], **options: Any) -> Completed:
        if list(argv[:2]) == ["docker", "buildx"]:
            return Completed(tuple(argv), 1, "", "", 0.0)
        if list(argv[:2]) == ["docker", "version"]:
            return Completed(tuple(argv), 0, "26.1", "", 0.0)
        return server.run(argv, **options)

    with pytest.raises(ConfigError, match="no BuildKit"):
        Docker(runner).build(
            Path("/x"), dockerfile="D", args={}, secrets={"a": "b"}, target=None, labels={}
        )


def test_missing_build_secret_is_told(server: Server, tmp_path: Path) -> None:
    archive = tmp_path / "source.tar"
    (tmp_path / "Dockerfile").write_text("FROM x")
    subprocess.run(["tar", "-cf", archive, "-C", tmp_path, "Dockerfile"], check=True)
    (paths.host("/a.tar")).write_bytes(archive.read_bytes())
    app = app_with(kind="build", archive="/a.tar", secrets=["npm"])
    with pytest.raises(ConfigError, match="lack npm"):
        source.obtain(app, "x", Docker(server.run), run)


@pytest.mark.usefixtures("server")
def test_changed_secret_argument_is_another_build_and_a_changed_token_is_none() -> None:
    app = app_with(kind="build", archive="/a.tar", args={"T": "${secret.t}"}, secrets=["npm"])
    environment = paths.host(app.environment_file)
    environment.parent.mkdir(parents=True, exist_ok=True)
    environment.write_text("")
    found = []
    for value, token in (("one", "x"), ("two", "x"), ("two", "y")):
        keep(args={"T": value}, secrets={"npm": token})
        found.append(fingerprint.compute(app, {"": "id"}))
    assert found[0].build != found[1].build
    assert found[0].whole != found[1].whole
    assert found[0].declared == found[1].declared
    assert found[1] == found[2]


@pytest.mark.usefixtures("server")
def test_damaged_file_is_told_without_what_is_in_it() -> None:
    keep(url=["tell-this-to-nobody"])
    with pytest.raises(ConfigError) as caught:
        source_secrets.load("shop")
    assert "source.json: url isn't right" in caught.value.message
    assert "nobody" not in caught.value.text()


# --- Git LFS -------------------------------------------------------------------------------


def test_pointer_of_git_lfs_in_a_repository_is_refused(server: Server, tmp_path: Path) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 18151\n"
    repository = tmp_path / "repository"
    repository.mkdir()
    (repository / "Dockerfile").write_text("FROM x")
    (repository / "img").mkdir()
    (repository / "img" / "logo.png").write_text(pointer)
    for command in ("init -qb main", "add .", "-c user.name=x -c user.email=x@x commit -qm x"):
        subprocess.run(["git", "-C", repository, *command.split()], check=True)
    app = app_with(kind="git", url=str(repository), version="main")
    identity = source.identify(app, Docker(server.run), run)

    def runner(argv: Sequence[str], **options: Any) -> Any:
        return (run if argv[0] == "git" else server.run)(argv, **options)

    with pytest.raises(BedstoneError, match=r"img/logo\.png .* pointer of Git LFS") as caught:
        source.obtain(app, identity, Docker(runner), runner)
    assert "git-lfs" in str(caught.value.hint)


# --- what is said of it --------------------------------------------------------------------


@pytest.fixture
def masking(server: Server) -> Iterator[Server]:
    """As the command line does it."""
    errors.mask_with(redact.hide_all)
    yield server
    errors.mask_with(str)


@pytest.mark.usefixtures("masking")
def test_no_error_and_no_line_of_output_shows_a_secret() -> None:
    directory = paths.app_config("shop").parent
    directory.mkdir(parents=True, exist_ok=True)
    document = APP | {"secret_variables": ["DATABASE_URL"]}
    (directory / "app.json").write_text(json.dumps(document))
    (directory / "app.env").write_text("DATABASE_URL=postgresql://a:pass-of-db@b/c\nLEVEL=loudly\n")
    keep(url=f"https://deploy:{TOKEN}@git.example.com/a.git", secrets={"npm": "npm-secret"})
    (directory / "registry.json").write_text('{"password": "registry-secret"}')
    lines: list[str] = []
    script = f"echo {TOKEN} npm-secret; echo pass-of-db registry-secret loudly >&2; exit 1"
    with pytest.raises(CommandError) as caught:
        run(["sh", "-c", script], on_line=lines.append)
    shown = f"{lines}{caught.value.text()}{BedstoneError('x', details=TOKEN).text()}"
    for secret in (TOKEN, "npm-secret", "pass-of-db", "registry-secret"):
        assert secret not in shown
    assert "loudly" in shown
    assert "***" in shown


@pytest.mark.usefixtures("masking")
def test_changed_secret_is_masked_too_and_a_damaged_file_hides_no_error() -> None:
    keep(secrets={"npm": "first-secret"})
    directory = paths.app_config("shop").parent
    (directory / "app.json").write_text(json.dumps(APP))
    assert BedstoneError("first-secret").message == "***"
    keep(secrets={"npm": "second-secret"})
    os.utime(directory / source_secrets.NAME, (1, 1))
    assert BedstoneError("second-secret").message == "***"
    (directory / source_secrets.NAME).write_text("{")
    assert BedstoneError("plain words").message == "plain words"
