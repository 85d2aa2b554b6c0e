"""Where images come from."""

from __future__ import annotations

import base64
import http.server
import json
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bedstone.apps import config
from bedstone.core import paths
from bedstone.core.errors import BedstoneError
from bedstone.core.process import Completed, run
from bedstone.release import source
from bedstone.system.docker import Docker
from tests.unit.fixtures.server import APP, IMAGE, Server


def app_with(**image: Any) -> config.App:
    return config.parse(APP | {"image": image})


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository with two commits, a branch and an annotated tag."""
    path = tmp_path / "repository"

    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=x", "-c", "user.email=x@example.com"]
        subprocess.run(["git", "-C", path, *identity, *arguments], check=True, capture_output=True)

    path.mkdir()
    git("init", "--initial-branch", "main")
    (path / "Dockerfile").write_text("FROM x")
    git("add", ".")
    git("commit", "-m", "one")
    git("tag", "-a", "v1", "-m", "v1")
    (path / "later").write_text("x")
    git("add", ".")
    git("commit", "-m", "two")
    return path


def commit(repository: Path, name: str) -> str:
    return run(["git", "-C", str(repository), "rev-parse", f"{name}^{{commit}}"]).stdout.strip()


@pytest.mark.parametrize("version", ["main", "v1"])
def test_git_version_is_its_commit(server: Server, repository: Path, version: str) -> None:
    app = app_with(kind="git", url=str(repository), version=version)
    identity = source.identify(app, Docker(server.run), run)
    assert identity == f"git:{commit(repository, version)}"
    assert source.version(app.image, identity) == f"{version}-{identity[4:12]}"


def test_git_without_version_is_what_the_server_calls_head(
    server: Server, repository: Path
) -> None:
    app = app_with(kind="git", url=str(repository))
    identity = source.identify(app, Docker(server.run), run)
    assert identity == f"git:{commit(repository, 'main')}"
    assert source.version(app.image, identity) == f"HEAD-{identity[4:12]}"


def test_git_source_is_built_at_its_commit(server: Server, repository: Path) -> None:
    app = app_with(kind="git", url=str(repository), version="v1")
    seen: list[list[str]] = []

    def runner(argv: Sequence[str], **options: Any) -> Any:
        if list(argv[:2]) == ["docker", "build"]:
            seen.append(sorted(path.name for path in Path(argv[-1]).iterdir()))
        program = run if argv[0] == "git" else server.run
        return program(argv, **options)

    identity = source.identify(app, Docker(server.run), run)
    source.obtain(app, identity, Docker(runner), runner)
    assert seen == [[".git", "Dockerfile"]]


def test_login_in_a_git_address_is_in_nobodys_arguments_or_messages(server: Server) -> None:
    asked: list[str | None] = []
    calls: list[Sequence[str]] = []

    class Repository(http.server.BaseHTTPRequestHandler):
        """A git server of the simple kind, which is a directory of files."""

        def do_GET(self) -> None:
            asked.append(self.headers.get("Authorization"))
            body = f"{'a' * 40}\trefs/heads/main\n" if "info/refs" in self.path else ""
            self.send_response(200 if body else 404)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    def spying(argv: Sequence[str], **options: Any) -> Completed:
        calls.append(argv)
        return run(argv, **options)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Repository) as listener:
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        url = f"http://deploy:tell%40nobody@127.0.0.1:{listener.server_port}/shop.git"
        app = app_with(kind="git", url=url, version="main")
        assert source.identify(app, Docker(server.run), spying) == f"git:{'a' * 40}"
        with pytest.raises(BedstoneError, match="no branch or tag 'v9'") as caught:
            source.identify(app_with(kind="git", url=url, version="v9"), Docker(server.run), spying)
        listener.shutdown()
    assert set(asked) == {"Basic " + base64.b64encode(b"deploy:tell@nobody").decode()}
    assert "nobody" not in f"{calls}{caught.value.text()}"


def test_unknown_git_version_is_told(server: Server, repository: Path) -> None:
    app = app_with(kind="git", url=str(repository), version="v9")
    with pytest.raises(BedstoneError, match="has no branch or tag 'v9'"):
        source.identify(app, Docker(server.run), run)


def test_reference_is_pulled_to_know_its_image(server: Server) -> None:
    app = app_with(kind="pull", reference="registry.example.com/shop:2.1")
    server.images["registry.example.com/shop:2.1"] = IMAGE
    identity = source.identify(app, Docker(server.run), server.run)
    assert identity == f"image:{IMAGE}"
    assert ["docker", "pull", "--quiet", "registry.example.com/shop:2.1"] in server.calls
    assert source.version(app.image, identity) == "2.1-11111111"
    assert source.obtain(app, identity, Docker(server.run), server.run).id == IMAGE


def test_digest_that_is_here_is_not_pulled(server: Server) -> None:
    reference = f"registry.example.com/shop@{IMAGE}"
    server.images[reference] = IMAGE
    app = app_with(kind="pull", reference=reference)
    source.identify(app, Docker(server.run), server.run)
    assert not [call for call in server.calls if "pull" in call]


def test_registry_password_goes_by_standard_input_and_is_not_kept(server: Server) -> None:
    login = {"server": "registry.example.com", "username": "ci", "password": "s3cret"}
    paths.app_config("shop").with_name("registry.json").write_text(json.dumps(login))
    server.images["shop:1"] = IMAGE
    calls: list[Sequence[str]] = []

    def runner(argv: Sequence[str], **options: Any) -> Any:
        if argv[1] == "--config":
            calls.append(argv)
            argv = [argv[0], *argv[3:]]
        if argv[1] == "login":
            assert options["input_text"] == "s3cret"
            argv = ["docker", "ps"]
        return server.run(argv, **options)

    source.identify(app_with(kind="pull", reference="shop:1"), Docker(runner), runner)
    assert [call[3] for call in calls] == ["login", "pull"]
    assert "s3cret" not in str(calls)
    assert list((server.root / "run/bedstone").glob("registry-*")) == []


def test_archive_is_loaded(server: Server) -> None:
    app = app_with(kind="load", archive="/var/lib/bedstone/apps/shop/source.tar.gz")
    identity = source.identify(app, Docker(server.run), server.run)
    assert source.obtain(app, identity, Docker(server.run), server.run).id == IMAGE


def test_archive_with_many_images_is_refused(server: Server, tmp_path: Path) -> None:
    server.docker_load = lambda _rest: (0, "Loaded image: a:1\nLoaded image: b:1\n", "")  # type: ignore[method-assign]
    with pytest.raises(BedstoneError, match="holds 2 images"):
        Docker(server.run).load(tmp_path / "x.tar")


@pytest.mark.parametrize(
    ("user", "ids"),
    [
        ("", (0, 0)),
        ("web", (10001, 10002)),
        ("10001", (10001, 10002)),
        ("4242", (4242, 0)),
        ("4242:17", (4242, 17)),
        ("web:17", (10001, 17)),
    ],
)
def test_user_is_read_from_the_image(server: Server, user: str, ids: tuple[int, int]) -> None:
    assert Docker(server.run).ids("image", user, app="shop") == ids


def test_unknown_user_is_told(server: Server) -> None:
    with pytest.raises(BedstoneError, match="no such user"):
        Docker(server.run).ids("image", "nobody", app="shop")


def test_label_names_the_version() -> None:
    image = app_with(kind="build", archive="/x", label="v1.2 (dirty)").image
    assert source.version(image, "sha256:12345678") == "v1.2-dirty"
