"""Sources arrive as `docker build` would see them, or are refused before anything changes."""

from __future__ import annotations

import subprocess
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from bedstone_control.checks.operators import host_key_fault
from bedstone_control.roles.app_config import host_config, source_secrets
from bedstone_control.roles.environment import environment
from bedstone_control.roles.secrets import new_secrets
from bedstone_control.settings import gitserver
from bedstone_control.settings.app import App
from bedstone_control.settings.source import Build
from bedstone_control.source import archive as source
from tests.unit.fixtures.roles import site_of
from tests.unit.fixtures.sites import PUBLIC_KEY

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.fixtures.sites import Site

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 18151\n"


def git(directory: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
    allowed = ["-c", "protocol.file.allow=always"]
    done = subprocess.run(
        ["git", "-C", str(directory), *identity, *allowed, *arguments],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def made(directory: Path, **files: str) -> Path:
    """Make a repository with files; two underscores stand for a slash."""
    for name, text in files.items():
        path = directory / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git(directory, "init", "-q", "-b", "main")
    git(directory, "add", ".")
    git(directory, "commit", "-qm", "one")
    return directory


def build(**values: Any) -> Build:
    return Build.model_validate(values)


def listed(directory: Path, cache: Path, **options: Any) -> list[str]:
    archive = source.prepare(directory, build(), **options).archive(cache, "shop")
    with tarfile.open(archive) as stream:
        return sorted(
            f"{member.name}/" if member.isdir() else member.name for member in stream.getmembers()
        )


# --- submodules, Git LFS, empty directories ------------------------------------------------


def test_submodule_that_is_not_there_is_refused_by_the_preflight(
    site: Site, tmp_path: Path
) -> None:
    library = made(tmp_path / "lib", lib__py="x")
    shop = made(tmp_path / "shop", Dockerfile="FROM scratch\n")
    git(shop, "submodule", "add", "-q", str(library), "lib")
    git(shop, "commit", "-qm", "two")
    git(tmp_path, "clone", "-q", str(shop), "clone")
    site.app["source"]["path"] = "../clone"
    (problem,) = site.check()
    assert "The submodule lib" in problem.message
    assert "submodule update --init --recursive" in problem.message
    (tmp_path / "clone" / ".dockerignore").write_text("lib\n")
    assert site.check() == []
    site.app["source"]["path"] = "../shop"
    assert site.check() == []


def test_pointer_of_git_lfs_is_refused_by_the_preflight(site: Site, tmp_path: Path) -> None:
    app = tmp_path / "app"
    (app / "img").mkdir()
    (app / "img" / "logo.png").write_text(POINTER)
    (problem,) = site.check()
    assert "img/logo.png" in problem.message
    assert "lfs pull" in problem.message
    (app / ".dockerignore").write_text("img\n")
    assert site.check() == []


def test_empty_directories_are_sent_along(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    (plain / "plugins" / "inner").mkdir(parents=True)
    (plain / "left" / "out").mkdir(parents=True)
    (plain / "Dockerfile").write_text("FROM scratch\n")
    (plain / ".dockerignore").write_text("left\n")
    wanted = [".dockerignore", "Dockerfile", "plugins/inner/"]
    assert listed(plain, tmp_path / "cache") == wanted


def test_empty_directories_of_a_checkout_are_those_that_git_does_not_ignore(
    tmp_path: Path,
) -> None:
    shop = made(tmp_path / "shop", Dockerfile="FROM scratch\n", **{".gitignore": "build\n"})
    for name in ("plugins", "build", "src/empty", "build/deep"):
        (shop / name).mkdir(parents=True)
    (shop / "src" / "new.py").write_text("")
    assert listed(shop, tmp_path / "cache") == [
        ".gitignore",
        "Dockerfile",
        "plugins/",
        "src/empty/",
        "src/new.py",
    ]


# --- the Dockerfile ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../docker/Dockerfile", "/ABSOLUTE", "link"])
def test_dockerfile_outside_of_the_source_is_sent_along(
    tmp_path: Path, site: Site, name: str
) -> None:
    outside = tmp_path / "docker" / "Dockerfile"
    outside.parent.mkdir()
    outside.write_text("FROM scratch\nCOPY . /x\n")
    outside.with_name("Dockerfile.dockerignore").write_text("left\n")
    app = tmp_path / "app"
    (app / "left").write_text("")
    (app / "link").symlink_to(outside)
    given = str(outside) if name == "/ABSOLUTE" else name
    site.app["build"] = {"dockerfile": given}
    assert site.check() == []
    prepared = source.prepare(app, build(dockerfile=given))
    with tarfile.open(prepared.archive(tmp_path / "cache", "shop")) as stream:
        member = stream.extractfile(prepared.dockerfile)
        assert member is not None
        assert member.read() == outside.read_bytes()
        assert ("left" in stream.getnames()) is (name == "link")


def test_dockerfile_that_git_ignores_is_sent_all_the_same(tmp_path: Path) -> None:
    shop = made(tmp_path / "shop", a="x", **{".gitignore": "Dockerfile\n"})
    (shop / "Dockerfile").write_text("FROM scratch\n")
    assert "Dockerfile" in listed(shop, tmp_path / "cache")


# --- .git ----------------------------------------------------------------------------------


def test_git_directory_holds_the_history_and_nothing_of_this_machine(tmp_path: Path) -> None:
    shop = made(tmp_path / "shop", Dockerfile="FROM scratch\n", src__a="x")
    git(shop, "tag", "-a", "v1.2", "-m", "v1.2")
    (shop / "b").write_text("x")
    git(shop, "add", ".")
    git(shop, "commit", "-qm", "two")
    git(shop, "remote", "add", "origin", "https://me:token-of-mine@git.example.com/shop.git")
    git(shop, "branch", "secret-branch", "HEAD~1")
    (shop / ".git" / "hooks" / "post-commit").write_text("token-of-mine")
    prepared = source.prepare(shop, build(), git_directory=True)
    first = prepared.archive(tmp_path / "cache", "shop").read_bytes()
    assert b"token-of-mine" not in first
    target = tmp_path / "there"
    target.mkdir()
    subprocess.run(["tar", "-xzf", "-", "-C", target], input=first, check=True)
    assert git(target, "status", "--porcelain") == ""
    assert git(target, "describe") == git(shop, "describe")
    assert git(target, "branch", "--show-current") == "main"
    assert git(target, "branch", "--list", "secret-branch") == ""
    assert "token-of-mine" not in (target / ".git" / "config").read_text()
    git(shop, "status")
    again = source.prepare(shop, build(), git_directory=True).archive(tmp_path / "two", "shop")
    assert again.read_bytes() == first
    git(shop, "tag", "v1.3")
    prepared.archive(tmp_path / "cache", "shop")
    assert prepared.archive(tmp_path / "cache", "shop").read_bytes() != first


def test_git_directory_is_asked_for_where_the_dockerfile_copies_it(
    site: Site, tmp_path: Path
) -> None:
    app = made(tmp_path / "app", Dockerfile="FROM scratch\nCOPY --link .git/HEAD /version\n")
    (problem,) = site.check()
    assert problem.example == "source:\n  path: ../app\n  git_directory: true"
    site.app["source"]["git_directory"] = True
    assert site.check() == []
    (app / ".dockerignore").write_text(".git\n")
    (problem,) = site.check()
    assert ".dockerignore" in problem.message


def test_git_directory_needs_a_repository(site: Site) -> None:
    site.app["source"]["git_directory"] = True
    (problem,) = site.check()
    assert "not the top directory" in problem.message


# --- repositories --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "ssh", "host", "port"),
    [
        ("git@git.example.com:team/shop.git", True, "git.example.com", None),
        ("git.example.com:shop.git", True, "git.example.com", None),
        ("ssh://git@git.example.com:2222/shop.git", True, "git.example.com", 2222),
        ("https://git.example.com/shop.git", False, "git.example.com", None),
        ("https://a:${secret.b}@git.example.com:8443/shop.git", False, "git.example.com", 8443),
        ("git://git.example.com/shop.git", False, "", None),
        ("/srv/shop.git", False, "", None),
    ],
)
def test_address_of_a_repository(address: str, *, ssh: bool, host: str, port: int | None) -> None:
    found = gitserver.parse(address)
    assert found is not None
    assert (found.ssh, found.host, found.port) == (ssh, host, port)
    assert not found.has_open_secret


@pytest.mark.parametrize("address", ["", "shop", "ftp://x/y", "https://", "https://a b/c"])
def test_no_address_of_a_repository(site: Site, address: str) -> None:
    site.app["source"] = {"git": address, "version": "v1"}
    assert "no address" in site.check()[0].message


@pytest.mark.parametrize("login", ["me:hunter22", "ghp_0123456789abcdefghijkl"])
def test_login_in_plain_text_is_refused_and_not_shown(site: Site, login: str) -> None:
    site.app["source"] = {"git": f"https://{login}@git.example.com/a.git", "version": "v1"}
    (problem,) = site.check()
    assert "plain text" in problem.message
    assert login not in str(problem)
    assert "${secret.git_token}" in problem.example


def test_repository_by_ssh_needs_host_keys_and_a_deploy_key(site: Site) -> None:
    site.app["source"] = {"git": "git@git.example.com:team/shop.git", "version": "main"}
    keys, key = site.check()
    assert "ssh-keyscan git.example.com" in keys.message
    assert "deploy_key" in key.message
    assert "bedstone_control secrets" in key.example
    site.app["source"]["host_keys"] = [f"git.example.com {PUBLIC_KEY}"]
    site.secrets = new_secrets(site.settings, site.secrets)
    assert site.check() == []
    site.app_secrets["deploy_key"] = "nonsense"
    (problem,) = site.check()
    assert "no private key" in problem.message


def test_dockerfile_of_a_repository_is_in_it(site: Site) -> None:
    site.app["source"] = {"git": "https://git.example.com/shop.git", "version": "main"}
    site.app["build"] = {"dockerfile": "../Dockerfile"}
    (problem,) = site.check()
    assert "is in it" in problem.message


def test_known_hosts_have_the_port_and_keep_names_of_other_servers() -> None:
    server = gitserver.parse("ssh://git@git.example.com:2222/a.git")
    assert server is not None
    key = " ".join(PUBLIC_KEY.split()[:2])
    lines = [key, f"other.example.com {key}", f"|1|abc|def= {key}"]
    assert [host_key_fault(line) for line in lines] == [None, None, None]
    assert gitserver.known_hosts(server, lines) == (
        f"[git.example.com]:2222 {key}\n"
        f"[git.example.com]:2222,other.example.com {key}\n"
        f"[git.example.com]:2222 {key}\n"
    )


# --- secrets of the source -----------------------------------------------------------------

SECRET_APP = {
    "name": "shop",
    "source": {
        "git": "https://deploy:${secret.git_token}@git.example.com/shop.git",
        "version": "main",
    },
    "build": {
        "args": {"PLAIN": "$${HOME}", "KEY": "k-${secret.key}"},
        "secrets": {"NPM_TOKEN": "${secret.npm}"},
    },
    "services": {"web": {"command": "x", "port": 8000}},
    "database": False,
}


def test_secrets_of_a_source_are_in_a_file_of_their_own() -> None:
    secrets = {"git_token": "a/b@c", "key": "K", "npm": "N"}
    site = site_of({"apps": [SECRET_APP]}, {"apps": {"shop": secrets}})
    (app,) = site.settings.apps
    config = host_config(site, app)
    assert config["image"]["url"] == app.source.git
    assert config["image"]["args"] == {"PLAIN": "${HOME}", "KEY": "k-${secret.key}"}
    assert config["image"]["secrets"] == ["NPM_TOKEN"]
    assert source_secrets(site, app, app.origins[0]) == {
        "url": "https://deploy:a%2Fb%40c@git.example.com/shop.git",
        "args": {"KEY": "k-K"},
        "secrets": {"NPM_TOKEN": "N"},
    }


@pytest.mark.parametrize(
    ("build", "message"),
    [
        ({"secrets": {"T": "open"}}, "plain text"),
        ({"secrets": {"a b": "${secret.t}"}}, "can't be the name"),
        ({"args": {"T": "${database.password}"}}, "Known is only"),
        ({"args": {"PATH": "${secret.t}"}}, "means something to Docker"),
        ({"args": {"T": "${secret.gone}"}}, "vault lacks `gone`"),
        ({"args": {"T": "1"}, "secrets": {"T": "${secret.t}"}}, "among the build's secrets"),
    ],
)
def test_wrong_secret_of_a_build_is_told(site: Site, build: Any, message: str) -> None:
    site.app_secrets["t"] = "x"
    site.app["build"] = build
    (problem,) = site.check()
    assert message in problem.message


# --- the database's address ----------------------------------------------------------------


def test_both_schemes_of_the_databases_address_and_the_authority_are_offered() -> None:
    app = App.model_validate(
        {
            "name": "shop",
            "source": {"image": "x"},
            "services": {"web": {"port": 8000}},
            "env": {"DATABASE_URL": "${database.postgres_url}"},
        }
    )
    secrets = {"database_password": "p", "secret_key": "k"}
    site = site_of({"apps": [app.model_dump(exclude_unset=True)]}, {"apps": {"shop": secrets}})
    found = environment(site, app)
    assert found["DATABASE_URL"].startswith(
        "postgres://shop_app_ee873911:p@postgres:5432/shop?sslmode="
    )
    assert found["PGSSLROOTCERT"] == "/run/bedstone/ca.crt"


# --- names ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["shop-", "-shop", "shop\n", "a" * 32])
def test_name_that_a_release_would_refuse_is_refused_before(site: Site, name: str) -> None:
    site.app["name"] = name
    assert any("can't be used" in problem.message for problem in site.check())


def test_database_with_a_name_of_postgresqls_own_is_refused(site: Site) -> None:
    site.app["database"] = {"name": "pg_shop"}
    (problem,) = site.check()
    assert "pg_" in problem.message
