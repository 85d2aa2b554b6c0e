"""Environment files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedstone.apps import environment
from bedstone.core.errors import ConfigError

VALUES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(st.dictionaries(st.from_regex(r"[A-Z_][A-Z0-9_]*", fullmatch=True), VALUES))
def test_what_is_written_is_read(variables: dict[str, str]) -> None:
    assert environment.loads(environment.dumps(variables)) == variables


def test_ordinary_values_stand_as_they_are() -> None:
    assert environment.dumps({"B": "it's = # 1", "A": "x"}) == "A=x\nB=it's = # 1\n"


def test_comments_and_empty_lines_are_skipped() -> None:
    assert environment.loads("# why\n\nA=1\n") == {"A": "1"}


@pytest.mark.parametrize("name", ["", "1A", "A B", "A=B", "A\n"])
def test_impossible_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="can't be the name"):
        environment.dumps({name: "x"})


def test_nul_is_refused() -> None:
    with pytest.raises(ValueError, match="NUL"):
        environment.dumps({"A": "\0"})


@pytest.mark.parametrize("line", ["secret", "A B=secret", "=secret", 'A="secret'])
def test_wrong_line_is_told_without_its_value(line: str) -> None:
    with pytest.raises(ConfigError, match=r"x\.env, line 2") as caught:
        environment.loads(f"A=1\n{line}\n", "x.env")
    assert "secret" not in str(caught.value)


def test_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        environment.load(tmp_path / "app.env")
