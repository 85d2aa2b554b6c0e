from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedstone.migrations.sql import Reader, statements, tokens


def values(text: str) -> list[str]:
    return [token.value for token in tokens(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT 1", ["select", "1"]),
        ('ALTER TABLE "Book" ADD x', ["alter", "table", "Book", "add", "x"]),
        ('"a ""quoted"" name"', ['a "quoted" name']),
        ("'it''s; --no comment'", ["'it''s; --no comment'"]),
        (r"'a\' b", [r"'a\'", "b"]),
        (r"E'a\' b' c", [r"E'a\' b'", "c"]),
        ("$$a; 'b$$ c", ["$$a; 'b$$", "c"]),
        ("$x$ $$ $y$ $x$ c", ["$x$ $$ $y$ $x$", "c"]),
        ("a$b$c", ["a$b$c"]),
        ("a -- b\nc", ["a", "c"]),
        ("a /* b /* c */ d */ e", ["a", "e"]),
        ("a--b", ["a"]),
        ("x::varchar(3)", ["x", "::", "varchar", "(", "3", ")"]),
        ("U&'d!0061t'", ["U&'d!0061t'"]),
        ("'never ended", ["'never ended"]),
        ("/* never ended", []),
        ("Größe straße", ["größe", "straße"]),
        ("$1", ["$", "1"]),
    ],
)
def test_tokens_are_what_postgresql_takes_them_for(text: str, expected: list[str]) -> None:
    assert values(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a; b;", ["a", "b"]),
        (";;", []),
        ("-- only a comment", []),
        ("--\n-- Raw SQL operation\n--\nSELECT 1;\nSELECT 2", ["SELECT 1", "SELECT 2"]),
        ("DO $$ BEGIN a; b; END $$; c", ["DO $$ BEGIN a; b; END $$", "c"]),
        (
            "CREATE RULE r AS ON INSERT TO t DO ALSO (INSERT INTO a VALUES (1); SELECT 1); b",
            ["CREATE RULE r AS ON INSERT TO t DO ALSO (INSERT INTO a VALUES (1); SELECT 1)", "b"],
        ),
        (
            (
                "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END;"
                " SELECT 2; END; DROP TABLE x"
            ),
            [
                (
                    "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END;"
                    " SELECT 2; END"
                ),
                "DROP TABLE x",
            ],
        ),
        ("BEGIN; SELECT 1; END; SELECT 2", ["BEGIN", "SELECT 1", "END", "SELECT 2"]),
    ],
)
def test_statements_end_where_postgresql_ends_them(text: str, expected: list[str]) -> None:
    assert [statement.text for statement in statements(text)] == expected


@given(st.text())
def test_any_text_is_read_to_its_end(text: str) -> None:
    end = 0
    for token in tokens(text):
        assert token.start >= end
        assert token.end > token.start
        end = token.end
    assert end <= len(text)
    statements(text)


NAMES = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1)


@given(NAMES)
def test_a_quoted_name_is_read_back_whatever_is_in_it(name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    assert Reader(tuple(tokens(f"{quoted}.{quoted} x"))).path() == (name, name)


@given(st.text(), st.sampled_from(["'{}'", "E'{}'", "$q${}$q$", "/*{}*/", "--{}\n"]))
def test_nothing_in_quotes_or_comments_is_a_statement(text: str, around: str) -> None:
    inner = {
        "'": text.replace("'", "''"),
        "E": text.replace("\\", "\\\\").replace("'", "''"),
        "$": text.replace("$", ""),
        "/": text.replace("*", "").replace("/", ""),
        "-": text.replace("\n", ""),
    }[around[0]]
    whole = around.replace("{}", f"; DROP TABLE x; {inner}") + " SELECT 1; SELECT 2"
    found = statements(whole)
    assert len(found) == 2
    assert found[1].text == "SELECT 2"
