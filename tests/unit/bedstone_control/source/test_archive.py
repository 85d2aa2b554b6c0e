"""The archive of an app's source: which files, and always the same."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from bedstone_control.settings.source import Build
from bedstone_control.source import archive as source

BUILD = Build.model_validate({})


def git(directory: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
    subprocess.run(["git", "-C", str(directory), *identity, *arguments], check=True)


@pytest.fixture
def app(tmp_path: Path) -> Path:
    root = tmp_path / "app"
    for name, text in {
        "Dockerfile": "FROM scratch\n",
        "manage.py": "#!/usr/bin/env python3\n",
        "shop/views.py": "x = 1\n",
        "notes.md": "notes\n",
        ".env": "SECRET=1\n",
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "manage.py").chmod(0o755)
    return root


def archive(directory: Path, cache: Path) -> Path:
    return source.prepare(directory, BUILD).archive(cache, "shop")


def listed(path: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(path) as stream:
        return {member.name: member for member in stream.getmembers()}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_outside_of_git_everything_is_in_it(app: Path, tmp_path: Path) -> None:
    (app / ".git").mkdir()
    (app / ".git" / "secret").write_text("x")
    shutil.rmtree(app / ".git")
    names = set(listed(archive(app, tmp_path / "cache")))
    assert names == {"Dockerfile", "manage.py", "shop/views.py", "notes.md", ".env"}


def test_git_leaves_out_what_it_ignores_and_keeps_what_is_new(app: Path, tmp_path: Path) -> None:
    (app / ".gitignore").write_text(".env\n")
    git(app, "init", "-q")
    git(app, "add", "Dockerfile", "manage.py", "shop")
    git(app, "commit", "-qm", "x")
    (app / "shop" / "gone.py").write_text("")
    git(app, "add", "shop/gone.py")
    (app / "shop" / "gone.py").unlink()
    (app / "new.py").write_text("")
    names = set(listed(archive(app, tmp_path / "cache")))
    assert {"new.py", "manage.py", "notes.md", ".gitignore"} <= names
    assert ".env" not in names
    assert "shop/gone.py" not in names
    assert not [name for name in names if name.startswith(".git/")]


def test_directory_within_a_checkout_is_its_own_root(app: Path, tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "other.txt").write_text("")
    assert "manage.py" in listed(archive(app, tmp_path / "cache"))
    assert "other.txt" not in listed(archive(app, tmp_path / "cache"))


def test_dockerignore_is_honoured_but_for_what_the_build_needs(app: Path, tmp_path: Path) -> None:
    (app / ".dockerignore").write_text("*\n!shop\n")
    assert set(listed(archive(app, tmp_path / "cache"))) == {
        ".dockerignore",
        "Dockerfile",
        "shop/views.py",
    }


def test_archive_is_the_same_whenever_the_source_is(app: Path, tmp_path: Path) -> None:
    first = digest(archive(app, tmp_path / "one"))
    copy = tmp_path / "elsewhere" / "app"
    shutil.copytree(app, copy)
    for path in copy.rglob("*"):
        os.utime(path, (1, 1))
    (copy / "notes.md").chmod(0o600)
    assert digest(archive(copy, tmp_path / "two")) == first


def test_changed_file_changes_the_archive(app: Path, tmp_path: Path) -> None:
    first = digest(archive(app, tmp_path / "cache"))
    (app / "shop" / "views.py").write_text("x = 2\n")
    path = archive(app, tmp_path / "cache")
    assert digest(path) != first
    with tarfile.open(path) as stream:
        member = stream.extractfile("shop/views.py")
        assert member is not None
        assert member.read() == b"x = 2\n"


def test_removed_file_leaves_the_archive(app: Path, tmp_path: Path) -> None:
    archive(app, tmp_path / "cache")
    (app / "notes.md").unlink()
    assert "notes.md" not in listed(archive(app, tmp_path / "cache"))


def test_unchanged_source_is_not_packed_again(app: Path, tmp_path: Path) -> None:
    path = archive(app, tmp_path / "cache")
    before = path.stat().st_ino
    assert archive(app, tmp_path / "cache").stat().st_ino == before


def test_owners_times_and_modes_tell_nothing_of_this_machine(app: Path, tmp_path: Path) -> None:
    (app / "link").symlink_to("shop/views.py")
    members = listed(archive(app, tmp_path / "cache"))
    assert {(item.uid, item.gid, item.uname, item.gname) for item in members.values()} == {
        (0, 0, "", "")
    }
    assert len({item.mtime for item in members.values()}) == 1
    assert members["manage.py"].mode == 0o755
    assert members["shop/views.py"].mode == 0o644
    assert members["link"].issym()
    assert members["link"].linkname == "shop/views.py"


def test_missing_directory_and_dockerfile_are_told(app: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"There is no directory .*/ap\."):
        source.prepare(tmp_path / "ap", BUILD)
    with pytest.raises(ValueError, match=r"There is no Dockerfile .*/docker/Dockerfile"):
        source.prepare(app, Build.model_validate({"dockerfile": "docker/Dockerfile"}))


def test_checkout_without_git_is_refused(
    app: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(app, "init", "-q")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="git is not installed"):
        archive(app, tmp_path / "cache")


def test_default_dockerfile_is_added_with_the_requirements(app: Path, tmp_path: Path) -> None:
    (app / "Dockerfile").unlink()
    (app / "requirements.txt").write_text("django\n")
    (app / ".dockerignore").write_text("*\n!shop\n!manage.py\n")
    prepared = source.prepare(app, BUILD)
    assert prepared.dockerfile == ".bedstone/Dockerfile"
    assert set(listed(prepared.archive(tmp_path / "cache", "shop"))) == {
        ".bedstone/Dockerfile",
        ".bedstone/requirements.txt",
        ".bedstone/files/requirements.txt",
        "shop/views.py",
        "manage.py",
    }
