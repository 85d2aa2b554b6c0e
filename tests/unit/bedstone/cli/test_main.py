"""The program as one file, and its command line."""

from __future__ import annotations

import argparse
import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bedstone import __version__
from bedstone.cli import main
from bedstone_control.roles import zipapp
from bedstone_control.version import version
from tests.unit.fixtures.release import root

__all__ = ["root"]


def test_same_source_gives_the_same_bytes(tmp_path: Path) -> None:
    copies = [tmp_path / name / "bedstone" for name in ("one", "two")]
    for seconds, copy in enumerate(copies, 1):
        for path in zipapp.source_directory().rglob("*.py"):
            target = copy / path.relative_to(zipapp.source_directory())
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
            os.utime(target, (seconds, seconds))
    one, two = copies
    assert zipapp.content(one) == zipapp.content(two)
    (two / "cli" / "main.py").write_text("changed")
    assert zipapp.content(one) != zipapp.content(two)


def test_built_program_runs_without_the_checkout(tmp_path: Path) -> None:
    program = zipapp.build(tmp_path / "cache")
    assert zipapp.build(tmp_path / "cache") == program
    ran = subprocess.run(
        [sys.executable, "-I", program, "--version"],
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
        env=os.environ | {"BEDSTONE_ROOT": str(tmp_path / "root")},
    )
    assert ran.stdout == f"bedstone {version()}\n"
    assert version().startswith(f"{__version__}+")


def test_wrong_directory_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="isn't the host program's package"):
        zipapp.content(tmp_path)


def test_host_program_needs_the_standard_library_alone() -> None:
    allowed = set(sys.stdlib_module_names) | {"bedstone"}
    for path in zipapp.source_directory().rglob("*.py"):
        if path.parent.name == "in_image":
            # Handed as text to the app's own Python, which has its own libraries.
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or "bedstone"]
            outside = {name.split(".")[0] for name in names} - allowed
            assert not outside, f"{path.name} imports {outside}"


@pytest.mark.parametrize("command", main.COMMANDS)
def test_every_command_has_help(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as caught:
        main.main([command, "--help"])
    assert caught.value.code == 0
    said = capsys.readouterr().out
    assert f"usage: bedstone {command}" in said
    assert "examples:" in said
    assert max(map(len, said.splitlines())) <= 100


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main.main(["--help"])
    said = capsys.readouterr().out
    assert [name for name in main.COMMANDS if f"    {name}" not in said] == []
    assert "exit codes:" in said


def test_error_goes_to_standard_error_with_a_hint(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del root
    assert main.main(["logs", "nobody"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "bedstone: No app is called 'nobody'" in captured.err
    assert "hint: " in captured.err


@pytest.mark.parametrize("arguments", [["nonsense"], [], ["status", "--", "x"], ["release"]])
def test_what_is_not_understood_exits_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str], root: Path
) -> None:
    del root
    with pytest.raises(SystemExit) as caught:
        main.main(arguments)
    assert caught.value.code == 2
    assert "usage: bedstone" in capsys.readouterr().err


def test_command_for_an_app_goes_after_two_dashes(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del root
    assert main.main(["run", "shop"]) == 1
    assert "It goes after two dashes" in capsys.readouterr().err


def test_only_root_may(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("BEDSTONE_ROOT", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main.main(["status"]) == 1
    assert "sudo" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [["shop", "latest", "--yes"], ["shop", "--yes", "latest"], ["--yes", "shop", "latest"]],
    ids=" ".join,
)
def test_name_may_stand_before_and_behind_options(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, str | None]] = []

    def remember(arguments: argparse.Namespace) -> int:
        seen.append((arguments.app, arguments.backup))
        return 0

    monkeypatch.setenv("BEDSTONE_ROOT", "/nonexistent")
    monkeypatch.setattr("bedstone.cli.restore._command", remember)
    assert main.main(["restore", *words]) == 0
    assert seen == [("shop", "latest")]


def test_word_too_many_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main.main(["restore", "shop", "latest", "--yes", "another"])
    assert "unrecognized arguments: another" in capsys.readouterr().err
