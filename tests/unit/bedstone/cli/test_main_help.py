"""Help that teaches: commands by what people come for, each with examples that work."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator

import pytest

from bedstone.cli import main


def parser_of(command: str) -> argparse.ArgumentParser:
    parser = main.build_parser([main.COMMANDS[command]])
    choices = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction)).choices
    assert choices is not None
    found = choices[command]
    assert isinstance(found, argparse.ArgumentParser)
    return found


def examples(command: str) -> list[str]:
    epilog = parser_of(command).epilog or ""
    assert epilog.startswith("examples:\n")
    return [line.strip() for line in epilog.splitlines()[1:]]


def own_lines() -> Iterator[tuple[str, str]]:
    """Yield each example that calls bedstone, with the command that shows it."""
    for command in main.COMMANDS:
        for line in examples(command):
            if line.startswith("bedstone "):
                yield command, line


@pytest.mark.parametrize("command", main.COMMANDS)
def test_every_command_has_examples_and_says_what_it_does(command: str) -> None:
    assert examples(command)
    description = parser_of(command).description or ""
    assert description[0].isupper()
    assert description.split("\n")[0].endswith(".")


@pytest.mark.parametrize(("command", "line"), list(own_lines()))
def test_examples_are_understood(command: str, line: str) -> None:
    words = shlex.split(line, comments=True)
    for sign in ("|", "<"):
        words = words[: words.index(sign)] if sign in words else words
    _, *arguments = words
    assert arguments[0] == command
    own, dashes, rest = main._split(arguments)
    parsed = main.build_parser([main.COMMANDS[command]]).parse_args(own)
    assert getattr(parsed, "takes_rest", False) is dashes
    assert bool(rest) is dashes


def test_every_command_is_in_one_group() -> None:
    grouped = [name for names in main.GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(main.COMMANDS)


def test_overview_lists_groups_a_usual_day_and_exit_codes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main.main(["--help"])
    said = capsys.readouterr().out
    for heading in ("look:", "change what serves:", "data:", "a usual day:", "exit codes:"):
        assert f"\n{heading}\n" in said
    assert max(map(len, said.splitlines())) <= 80
    assert said.startswith("usage: bedstone [-h] [--version] COMMAND ...\n")


def test_usual_day_is_understood() -> None:
    day = main._EPILOG.partition("a usual day:\n")[2].partition("\n\n")[0]
    for line in day.splitlines():
        _, *arguments = shlex.split(line, comments=True)
        main.build_parser([main.COMMANDS[arguments[0]]]).parse_args(arguments)
