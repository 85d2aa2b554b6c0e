"""Trees that a container has filled to lead root astray."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from bedstone.core import safe_tree
from bedstone.core.errors import BedstoneError

ENTRIES = ["", "d", "d/file", "dangling", "file", "pipe", "to-directory", "to-file"]


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """What belongs to the server: nothing of it may change."""
    made = tmp_path / "etc"
    made.mkdir(mode=0o700)
    (made / "shadow").write_text("secret")
    (made / "shadow").chmod(0o640)
    return made


@pytest.fixture
def tree(tmp_path: Path, outside: Path) -> Path:
    """A directory with links to a file and a directory of the server, to nothing, and a pipe."""
    made = tmp_path / "tree"
    (made / "d").mkdir(parents=True)
    for name in ("file", "d/file"):
        (made / name).write_text(name)
    (made / "to-file").symlink_to(outside / "shadow")
    (made / "to-directory").symlink_to(outside)
    (made / "dangling").symlink_to("/nowhere/at/all")
    os.mkfifo(made / "pipe")
    return made


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The inodes whose owner was changed, in place of a change that takes root."""
    inodes: set[int] = set()

    def chown(
        path: str, _uid: int, _gid: int, *, dir_fd: int | None = None, follow_symlinks: bool = True
    ) -> None:
        inodes.add(os.stat(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks).st_ino)

    monkeypatch.setattr(os, "chown", chown)
    monkeypatch.setattr(os, "fchown", lambda fd, _uid, _gid: inodes.add(os.fstat(fd).st_ino))
    return inodes


def inodes(*paths: Path) -> set[int]:
    return {path.lstat().st_ino for path in paths}


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_walk_yields_links_themselves_and_closes_what_it_opened(tree: Path) -> None:
    before = descriptors()
    assert sorted(entry.path for entry in safe_tree.walk(tree)) == ENTRIES
    assert descriptors() == before


def test_links_and_files_of_the_tree_are_given_and_nothing_outside(
    tree: Path, outside: Path, given: set[int]
) -> None:
    safe_tree.give(tree, 4001, 4001)
    assert given == inodes(tree, *tree.rglob("*"))
    assert not given & inodes(outside, outside / "shadow")


def test_directory_exchanged_for_a_link_during_the_walk_leads_nowhere(
    tree: Path, outside: Path
) -> None:
    seen = []
    for entry in safe_tree.walk(tree):
        seen.append(entry.path)
        if entry.path == "d":
            # Between the look at the directory and its contents.
            (tree / "d").rename(tree.parent / "away")
            (tree / "d").symlink_to(outside)
        entry.set_mode(0o777 if entry.is_directory else 0o666)
    assert "d/file" in seen, "the directory that was looked at is gone on with"
    assert "d/shadow" not in seen
    assert stat.S_IMODE((outside / "shadow").stat().st_mode) == 0o640
    assert stat.S_IMODE(outside.stat().st_mode) == 0o700


def test_file_exchanged_for_a_link_before_it_is_changed_leads_nowhere(
    tree: Path, outside: Path
) -> None:
    for entry in safe_tree.walk(tree):
        if entry.path == "file":
            (tree / "file").unlink()
            (tree / "file").symlink_to(outside / "shadow")
            entry.set_mode(0o666)
    assert stat.S_IMODE((outside / "shadow").stat().st_mode) == 0o640


def test_file_of_a_stranger_with_a_second_name_in_the_tree_is_left(
    tree: Path, outside: Path, given: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    os.link(outside / "shadow", tree / "second-name")
    monkeypatch.setattr(
        safe_tree.Entry,
        "belongs_to",
        lambda entry, _: entry.status.st_nlink == 1 or entry.path == "",
    )
    safe_tree.give(tree, 4001, 4001)
    assert not given & inodes(outside / "shadow")


def test_second_names_belong_to_the_app_if_it_owns_them(tree: Path) -> None:
    os.link(tree / "file", tree / "second-name")
    (entry,) = [e for e in safe_tree.walk(tree) if e.path == "file" and e.belongs_to({os.getuid()})]
    assert entry.status.st_nlink == 2
    assert not [e for e in safe_tree.walk(tree) if e.path == "file" and e.belongs_to({4001})]


def test_top_that_is_a_link_is_refused(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tree)
    with pytest.raises(NotADirectoryError):
        list(safe_tree.walk(tmp_path / "link"))


def test_directories_nested_without_end_are_refused(tree: Path) -> None:
    here = os.open(tree, os.O_RDONLY)
    for _ in range(safe_tree.DEEPEST + 5):
        os.mkdir("n", dir_fd=here)
        inner = os.open("n", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    before = descriptors()
    with pytest.raises(BedstoneError, match="nested more than 256 deep"):
        list(safe_tree.walk(tree))
    assert descriptors() == before


def test_published_tree_holds_files_directories_and_links_only(
    tree: Path, outside: Path, given: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tree)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    (tree / "file").chmod(0o4777)
    assert sorted(safe_tree.publish(tree)) == ["d/file", "file"]
    assert not (tree / "pipe").exists()
    assert not (tree / "socket").exists()
    assert stat.S_IMODE((tree / "file").stat().st_mode) == 0o644
    assert stat.S_IMODE((tree / "d").stat().st_mode) == 0o755
    assert stat.S_IMODE((outside / "shadow").stat().st_mode) == 0o640
    assert not given & inodes(outside, outside / "shadow")


def test_restored_files_lose_the_rights_of_their_owner(tree: Path, outside: Path) -> None:
    (tree / "d/file").chmod(0o6755)
    (outside / "shadow").chmod(0o4750)
    safe_tree.disarm(tree)
    assert stat.S_IMODE((tree / "d/file").stat().st_mode) == 0o755
    assert stat.S_IMODE((outside / "shadow").stat().st_mode) == 0o4750


def test_device_node_becomes_an_empty_file(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A node takes a capability that a test may not have: a pipe plays it.
    monkeypatch.setattr(stat, "S_ISCHR", stat.S_ISFIFO)
    safe_tree.disarm(tree)
    assert (tree / "pipe").is_file()
    assert stat.S_IMODE((tree / "pipe").stat().st_mode) == 0


def test_missing_files_are_linked_and_no_link_is_gone_through(
    tmp_path: Path, outside: Path
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    names = ["a.css", "deep/er/b.css", "led/x.sh", "from/shadow", "there.css", "dir", "../etc/y"]
    for name in names[:3]:
        (old / name).parent.mkdir(parents=True, exist_ok=True)
        (old / name).write_text("old")
    (old / "from").symlink_to(outside)
    (old / "there.css").write_text("old")
    (old / "dir").write_text("old")
    (new / "dir").mkdir(parents=True)
    (new / "there.css").write_text("new")
    (new / "led").symlink_to(outside)
    assert safe_tree.link_missing(old, new, names) == 2
    assert (new / "a.css").samefile(old / "a.css")
    assert (new / "deep/er/b.css").samefile(old / "deep/er/b.css")
    assert (new / "there.css").read_text() == "new"
    assert not (new / "from").exists()
    assert sorted(path.name for path in outside.iterdir()) == ["shadow"]
