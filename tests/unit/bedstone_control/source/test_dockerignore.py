"""What a .dockerignore leaves out, as Docker's own documentation has it."""

from __future__ import annotations

import pytest

from bedstone_control.source.dockerignore import DockerIgnore


@pytest.mark.parametrize(
    ("patterns", "path", "ignored"),
    [
        ("*.md", "README.md", True),
        ("*.md", "docs/README.md", False),
        ("**/*.md", "docs/README.md", True),
        ("**/*.md", "README.md", True),
        ("docs", "docs/a/b.txt", True),
        ("/docs/", "docs/a", True),
        ("docs", "src/docs/a", False),
        ("**/node_modules", "a/b/node_modules/c/d.js", True),
        ("temp?", "tempa", True),
        ("temp?", "temporary", False),
        ("[a-c].txt", "b.txt", True),
        ("[!a-c].txt", "b.txt", False),
        ("*.md\n!README.md", "README.md", False),
        ("*.md\n!README.md", "other.md", True),
        ("!README.md\n*.md", "README.md", True),
        ("*\n!src", "src/a.py", False),
        ("*\n!src", "other/a.py", True),
        ("# *.py\n\n", "a.py", False),
        ("a.b", "aXb", False),
        ("./build/../dist", "build/x", False),
        ("", "a", False),
    ],
)
def test_pattern(patterns: str, path: str, ignored: bool) -> None:  # noqa: FBT001 - a table
    assert DockerIgnore(patterns).ignores(path) is ignored
