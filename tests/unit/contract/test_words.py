"""The documentation, comments and docstrings use the field's words: see docs/glossary.md.

Each of these words marks a sentence whose subject is not the component that acts, or a
paraphrase of a standard term.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.unit.fixtures.checkout import ROOT

# docs/settings.md is generated from the schema.
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *sorted(path for path in (ROOT / "docs").glob("*.md") if path.name != "settings.md"),
    *sorted((ROOT / "roles").glob("*/README.md")),
]
SOURCES = sorted(path for name in ("src", "plugins") for path in (ROOT / name).rglob("*.py"))
BETTER = {
    "anew": "again, or recreate",
    "beside": "next to",
    "meanwhile": "during that time",
    "nobody": "no user, no process",
    "of before": "previous",
    "of then": "of that time",
    "somebody": "the operator, another process",
    "whoever": "an attacker, a user who",
}
_WORDS = "|".join(word.replace(" ", r"\s+") for word in BETTER)
TELL_TALE = re.compile(rf"\b(?:{_WORDS})\b", re.IGNORECASE)
FENCE = re.compile(r"^\s*(?:\d+\.\s+)?(`{3,}|~{3,})")
INDENTED = re.compile(r"^(?: {4}|\t)")
LIST_ITEM = re.compile(r"^\s*(?:[-*+]|\d+[.)])\s")
# Tables of docs/performance.md are the output of `make bench`.
GENERATED = re.compile(r"<!-- (bench[^:>]*): .*?<!-- /\1 -->", re.DOTALL)
# The name of an argument in a docstring is an identifier, not prose.
ARGUMENT = re.compile(r"^ +\w+:(?= )", re.MULTILINE)
INLINE = re.compile(r"(`+)(?:(?!\n\s*\n).)+?(?<!`)\1(?!`)", re.DOTALL)


def blank(part: re.Match[str]) -> str:
    """Return spaces for a part of a page, so that positions stay."""
    return re.sub(r"[^\n]", " ", part[0])


def mask(part: re.Match[str]) -> str:
    """Return a word without a meaning for inline code, so that its neighbours stay apart."""
    return re.sub(r"[^\n]", "x", part[0])


def prose(text: str) -> str:
    """Return a page with spaces for its code and generated tables."""
    lines: list[str] = []
    fence = ""
    in_list = False
    after_blank = True
    for line in GENERATED.sub(blank, text).split("\n"):
        mark = FENCE.match(line)
        # Indented lines are code, except those that continue a paragraph or a list.
        indented = bool(INDENTED.match(line)) and after_blank and not in_list
        if fence:
            if mark and mark[1].startswith(fence):
                fence = ""
            lines.append(" " * len(line))
            continue
        if mark:
            fence = mark[1]
            lines.append(" " * len(line))
            continue
        if line.strip() and not line.startswith(" "):
            in_list = False
        in_list = in_list or bool(LIST_ITEM.match(line))
        lines.append(" " * len(line) if indented else line)
        after_blank = not line.strip() or indented
    return INLINE.sub(blank, "\n".join(lines))


def matches(text: str, first_line: int = 1) -> list[tuple[int, str]]:
    """Return the tell-tale words of a text, each with its line."""
    return [
        (text.count("\n", 0, word.start()) + first_line, " ".join(word[0].split()).lower())
        for word in TELL_TALE.finditer(text)
    ]


def found(text: str) -> list[tuple[int, str]]:
    """Return the tell-tale words of a page, each with its line."""
    return matches(prose(text))


def docstrings(source: str) -> Iterator[tuple[int, str]]:
    """Yield the docstrings of a Python file, each with its first line's number."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, kinds) and (text := ast.get_docstring(node, clean=False)):
            yield node.body[0].lineno, ARGUMENT.sub(blank, text)


def comments(source: str) -> Iterator[tuple[int, str]]:
    """Yield the comments of a Python file, those of adjacent lines as one text."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    lines = {
        token.start[0]: token.string.lstrip("#")
        for token in tokens
        if token.type == tokenize.COMMENT
    }
    starts = [line for line in lines if line - 1 not in lines]
    for start, end in pairwise([*starts, max(lines, default=0) + 1]):
        yield start, "\n".join(text for line, text in lines.items() if start <= line < end)


def found_in_code(source: str) -> list[tuple[int, str]]:
    """Return the tell-tale words of a Python file's comments and docstrings."""
    return sorted(
        word
        for texts in (docstrings(source), comments(source))
        for line, text in texts
        for word in matches(INLINE.sub(mask, text), line)
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_has_none_of_the_words(page: Path) -> None:
    problems = [
        f"{page.relative_to(ROOT)}:{line}: '{word}'; better: {BETTER[word]}"
        for line, word in found(page.read_text())
    ]
    assert not problems, "\n".join(problems)


def test_comments_and_docstrings_have_none_of_the_words() -> None:
    assert SOURCES
    problems = [
        f"{path.relative_to(ROOT)}:{line}: '{word}'; better: {BETTER[word]}"
        for path in SOURCES
        for line, word in found_in_code(path.read_text())
    ]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('"""One.\n\nTwo anew.\n"""\n', [(3, "anew")]),
        (
            'class A:\n    """Nobody."""\n\n    async def b(self):\n        "Anew."\n',
            [(2, "nobody"), (5, "anew")],
        ),
        ("# the release of\n# before\n\n# beside\n", [(1, "of before"), (4, "beside")]),
        ("def anew():  # whoever\n    return 'nobody'\n", [(1, "whoever")]),
        (
            'def a():\n    """Do.\n\n    Args:\n        anew: so.\n        b: anew.\n    """\n',
            [(6, "anew")],
        ),
        ("# `anew` is an option\n# of `run` then\n", []),
        ("", []),
    ],
)
def test_only_comments_and_docstrings_are_read(
    source: str, expected: list[tuple[int, str]]
) -> None:
    assert found_in_code(source) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one\nIt begins Anew.\n", [(2, "anew")]),
        ("the release\nof\nbefore serves", [(2, "of before")]),
        ("besides, a renewal of beforehand", []),
        ("`somebody`, and `two\nwords: nobody`, somebody", [(2, "somebody")]),
        ("```sh\nanew\n```\nanew\n", [(4, "anew")]),
        ("2. ```sh\n   anew\n   ```\n   anew\n", [(4, "anew")]),
        ("text\n\n    anew\n    anew\n\nanew\n", [(6, "anew")]),
        ("- item\n\n    anew\n", [(3, "anew")]),
        ("<!-- bench of x: made -->\nanew\n<!-- /bench of x -->\nanew", [(4, "anew")]),
        ("a `tick alone\n\nanew ` here", [(3, "anew")]),
    ],
)
def test_code_is_left_out(text: str, expected: list[tuple[int, str]]) -> None:
    assert found(text) == expected


def test_glossary_is_short_and_linked() -> None:
    rows = re.findall(r"^\| ([^|]+) \|", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE)
    terms = [row for row in rows if row != "term"]
    assert terms
    assert len(terms) <= 60
    assert len(set(terms)) == len(terms)
    assert "](docs/glossary.md)" in (ROOT / "README.md").read_text()
