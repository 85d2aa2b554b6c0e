"""Read a source directory as git sees it: its files, its empty directories, its history."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_SUBMODULE = "160000"  # the mode of its entry


def files(directory: Path, ignores: Callable[[str], bool]) -> list[str] | None:
    """Return what git lists below a directory, None outside of a checkout.

    These are the tracked files, and the untracked files and empty directories (with a slash at the
    end) that git does not ignore.

    Args:
        directory: absolute.
        ignores: says of a path whether it is left out anyway.

    Raises:
        ValueError: git refuses, or a submodule is not there.

    """
    try:
        tracked = _git(directory, "ls-files", "-z", "--stage")
    except FileNotFoundError:
        if (directory / ".git").exists():
            raise ValueError(
                f"{directory} is a git checkout, and git is not installed here: without it the "
                "ignored files can't be told from the others."
            ) from None
        return None
    if tracked.returncode:
        message = tracked.stderr.decode(errors="replace").strip()
        if "not a git repository" in message:
            return None
        raise ValueError(f"git can't list the files of {directory}: {message}")
    found: list[str] = []
    for entry in _entries(tracked.stdout):
        facts, _, path = entry.partition("\t")
        whole = directory / path
        if facts.startswith(_SUBMODULE):
            found += _submodule(directory, path, ignores)
        elif whole.is_symlink() or whole.is_file():  # not a deleted file
            found.append(path)
    found += _untracked(directory, ignores)
    # A directory that an outer repository ignores as a whole is no checkout of its own.
    return list(dict.fromkeys(found)) or None


def _submodule(directory: Path, path: str, ignores: Callable[[str], bool]) -> list[str]:
    """Return the files of a submodule."""
    if ignores(path):
        return []
    if not (directory / path / ".git").exists():
        raise ValueError(
            f"The submodule {path} of {directory} is not there. Fetch it: "
            f"git -C {directory} submodule update --init --recursive"
        )
    inner = files(directory / path, lambda name: ignores(f"{path}/{name}"))
    return [f"{path}/{name}" for name in inner or []]


def _untracked(directory: Path, ignores: Callable[[str], bool]) -> list[str]:
    """Return the untracked files and empty directories that git does not ignore."""
    others = ("ls-files", "-z", "--others", "--exclude-standard")
    result = []
    for path in _entries(_git(directory, *others).stdout):
        whole = directory / path
        if path.endswith("/"):  # a repository of its own that is no submodule
            inner = files(whole, lambda name, outer=path: ignores(f"{outer}{name}"))  # type: ignore[misc]
            result += [f"{path}{name}" for name in inner or []]
        elif whole.is_symlink() or whole.is_file():
            result.append(path)
    for path in _entries(_git(directory, *others, "--directory").stdout):
        if path.endswith("/") and not (directory / path / ".git").exists():
            result += _empty(directory, path)
    return result


def _empty(directory: Path, below: str) -> list[str]:
    """Return the empty directories below one that git does not ignore."""
    found = [
        f"{os.path.relpath(place, directory)}/"
        for place, folders, names in os.walk(directory / below)
        if not folders and not names
    ]
    if not found:
        return []
    asked = _git(directory, "check-ignore", "-z", "--stdin", given="\0".join(found))
    ignored = set(_entries(asked.stdout))
    return [path for path in found if path not in ignored]


# --- the history ---------------------------------------------------------------------------


def history(directory: Path) -> dict[str, bytes]:
    """Return a `.git` for the build: the commit of the checkout with its history and its tags.

    It is made for the purpose: nothing of the checkout's own configuration, hooks, other branches,
    stashes and remotes is in it, and it is the same as long as the commit and the tags are.

    Raises:
        ValueError: the directory is not the top of a checkout, or has no commit.

    """
    commit = head(directory)
    branch = _said(directory, "symbolic-ref", "--quiet", "HEAD")
    with tempfile.TemporaryDirectory(prefix="bedstone-git-") as temporary:
        made = Path(temporary) / ".git"
        _must(None, "init", "--quiet", "--bare", "--template=", str(made))
        _must(
            made, "fetch", "--quiet", "--no-write-fetch-head", str(directory), f"{commit}:refs/it"
        )
        _must(made, "update-ref", branch or "HEAD", commit)
        if branch is not None:
            _must(made, "symbolic-ref", "HEAD", branch)
        _must(made, "update-ref", "-d", "refs/it")
        _must(made, "config", "core.bare", "false")
        _must(made, "read-tree", commit)  # an index without times: the same each time
        _must(made, "pack-refs", "--all")
        _must(made, "-c", "pack.threads=1", "repack", "-adq")
        # Git takes a directory without these for no repository.
        kept = {".git/refs/heads/": b"", ".git/objects/info/": b""}
        kept |= {
            f".git/{path.relative_to(made).as_posix()}": path.read_bytes()
            for path in sorted(made.rglob("*"))
            if path.is_file()
        }
    return kept


def head(directory: Path) -> str:
    """Return the commit of a checkout.

    Raises:
        ValueError: the directory is not the top of a checkout, or has no commit.

    """
    top = _said(directory, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != directory.resolve():
        raise ValueError(
            f"`git_directory` sends the history of a repository, and {directory} is not the top "
            "directory of one."
        )
    commit = _said(directory, "rev-parse", "--verify", "--quiet", "HEAD")
    if commit is None:
        raise ValueError(f"`git_directory` sends a history, and {directory} has no commit yet.")
    return commit


def history_mark(directory: Path) -> str:
    """Return a text that changes when the history of a checkout does."""
    return "\n".join(
        _said(directory, *command) or ""
        for command in (
            ("rev-parse", "HEAD"),
            ("symbolic-ref", "--quiet", "HEAD"),
            ("for-each-ref", "--merged", "HEAD", "refs/tags"),
        )
    )


# --- git -----------------------------------------------------------------------------------


def _git(
    directory: Path | None, *arguments: str, given: str | None = None
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["git", *(["-C", str(directory)] if directory else []), *arguments],
        input=None if given is None else os.fsencode(given),
        capture_output=True,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )


def _entries(output: bytes) -> list[str]:
    return [entry for entry in os.fsdecode(output).split("\0") if entry]


def _said(directory: Path, *arguments: str) -> str | None:
    done = _git(directory, *arguments)
    return None if done.returncode else os.fsdecode(done.stdout).strip()


def _must(directory: Path | None, *arguments: str) -> None:
    done = _git(directory, *arguments)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise ValueError(f"`git {' '.join(arguments)}` failed: {said}")
