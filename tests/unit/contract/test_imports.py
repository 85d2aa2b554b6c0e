"""What tests outside the unit tests import is there: mypy doesn't read Molecule's tests.

Their scripts for servers are texts, which neither mypy nor a linter reads.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
OURS = {"bedstone", "bedstone_control", "plugins", "testbed", "bench", "tests"}
FOLDERS = ("molecule", "tests/drill", "tests/e2e", "tests/faults", "tests/integration", "testbed")
IN_TEXT = re.compile(r"^\s*from (bedstone[\w.]*) import ([\w, ]+)", re.MULTILINE)
SOURCES = [
    path.relative_to(ROOT).as_posix()
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob("*.py"))
]


def imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Return module and name of each import of ours, those in texts included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.module.partition(".")[0] in OURS:
                yield from ((node.module, name.name) for name in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            for module, names in IN_TEXT.findall(node.value):
                for name in names.split(","):
                    yield module, name.strip().partition(" as ")[0]


def is_there(module: str, name: str) -> bool:
    try:
        if hasattr(importlib.import_module(module), name):
            return True
        importlib.import_module(f"{module}.{name}")
    except ModuleNotFoundError:
        return False
    return True


@pytest.mark.parametrize("source", SOURCES)
def test_imports_of_ours_resolve(source: str) -> None:
    tree = ast.parse((ROOT / source).read_text(encoding="utf-8"))
    assert [found for found in imported(tree) if not is_there(*found)] == []


def test_texts_of_scripts_are_read() -> None:
    tree = ast.parse('SCRIPT = "import sys\\nfrom bedstone.core import nowhere, lock\\n"')
    assert [found for found in imported(tree) if not is_there(*found)] == [
        ("bedstone.core", "nowhere")
    ]
