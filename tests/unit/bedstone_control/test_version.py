"""The version tells two checkouts apart, in git and outside of it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from bedstone_control import version


@pytest.fixture
def package(tmp_path: Path) -> Path:
    made = tmp_path / "checkout" / "src" / "bedstone"
    made.mkdir(parents=True)
    (made / "__init__.py").write_text('"""A program."""\n\n__version__ = "1.2.3"\n')
    return made


def git(package: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.com"]
    command = ["git", "-C", str(package), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def commit(package: Path) -> str:
    git(package, "add", "--all")
    git(package, "commit", "--quiet", "--message=x")
    return git(package, "rev-parse", "--short=7", "HEAD")


def test_commit_is_named_whatever_the_tags(package: Path) -> None:
    git(package.parents[1], "init", "--quiet")
    first = commit(package)
    assert version.version(package) == f"1.2.3+{first}"
    git(package, "tag", "v1.2.3")
    assert version.version(package) == f"1.2.3+{first}"
    (package / "more.py").write_text("x = 1\n")
    second = commit(package)
    assert second != first
    assert version.version(package) == f"1.2.3+{second}"


def test_uncommitted_changes_show(package: Path) -> None:
    git(package.parents[1], "init", "--quiet")
    made = commit(package)
    (package / "__init__.py").write_text('__version__ = "1.2.4"\n')
    assert version.version(package) == f"1.2.4+{made}.dirty"


def test_without_git_the_content_tells_them_apart(package: Path) -> None:
    first = version.version(package)
    assert re.fullmatch(r"1\.2\.3\+src\.[0-9a-f]{8}", first)
    (package / "more.py").write_text("x = 1\n")
    assert version.version(package) != first


def test_only_the_package_itself_gets_it(package: Path) -> None:
    (package / "more.py").write_text('__version__ = "1.2.3"\n')
    content = version.with_version(package, package / "__init__.py").decode()
    assert f'__version__ = "{version.version(package)}"' in content
    assert content.startswith('"""A program."""\n')
    assert version.with_version(package, package / "more.py") == b'__version__ = "1.2.3"\n'


def test_another_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no __version__"):
        version.version(tmp_path)
