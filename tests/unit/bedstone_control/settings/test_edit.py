"""One line of a settings file changes, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bedstone_control.settings import edit

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("b: {time: '02:30'}  # night\nc: 1\n", "b: {key: new, time: '02:30'}  # night\nc: 1\n"),
        ("b: {}\n", "b: {key: new}\n"),
        ("b: {\n  time: 1,\n}\n", "b: {key: new, \n  time: 1,\n}\n"),
        ("b: {time: 1, key: 'old'} # x\n", "b: {time: 1, key: new} # x\n"),
        (
            "b:\n  # why\n  time: 1\n\n# c\nc: 1\n",
            "b:\n  # why\n  key: new\n  time: 1\n\n# c\nc: 1\n",
        ),
        ("b:\n  key: old   # held\n  time: 1\n", "b:\n  key: new   # held\n  time: 1\n"),
        ("b:\r\n  time: 1\r\n", "b:\r\n  key: new\r\n  time: 1\r\n"),
        ("a: ü€😀\nb:\n    time: 1\n", "a: ü€😀\nb:\n    key: new\n    time: 1\n"),
        ("a: !vault |\n  3031\nb: {time: 1}\n", "a: !vault |\n  3031\nb: {key: new, time: 1}\n"),
        ("---\na: 1\n", "---\na: 1\nb: {key: new}\n"),
        ("a: 1", "a: 1\nb: {key: new}\n"),
        ("a: {b: {c: 1}}\n", "a: {b: {c: 1}}\nb: {key: new}\n"),
        ("b: {key: new}\n", "b: {key: new}\n"),
    ],
)
def test_only_the_line_changes(before: str, after: str) -> None:
    assert edit.changed(before, "b", "key", "new") == after


@pytest.mark.parametrize(
    "text",
    [
        "b: '{{ theirs }}'\n",
        "b: [1]\n",
        "b:\n",
        "- b\n",
        "",
        "b: {key: [1]}\n",
        "a: &x {time: 1}\nb: *x\n",
        "$ANSIBLE_VAULT;1.1;AES256\n3031\n",
    ],
)
def test_what_can_not_be_changed_alone_is_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "settings.yml"
    path.write_text(text)
    assert not edit.set_in(path, "b", "key", "new")
    assert path.read_text() == text
    assert list(tmp_path.iterdir()) == [path]


def test_broken_yaml_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "settings.yml"
    path.write_text("b: {\n")
    assert not edit.set_in(path, "b", "key", "new")


def test_file_keeps_its_rights_and_a_link_stays_one(tmp_path: Path) -> None:
    path, link = tmp_path / "settings.yml", tmp_path / "link.yml"
    path.write_bytes(b"b: {time: 1}\r\n")
    path.chmod(0o640)
    link.symlink_to(path)
    assert edit.set_in(link, "b", "key", "new")
    assert link.is_symlink()
    assert path.read_bytes() == b"b: {key: new, time: 1}\r\n"
    assert path.stat().st_mode & 0o777 == 0o640
