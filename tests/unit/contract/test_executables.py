"""Files that are executable in git start with an interpreter line, or exec(2) refuses them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.unit.fixtures.checkout import ROOT

SKIPPED = {".git", ".venv", ".cache", "node_modules"}


def executables() -> list[Path]:
    """Return the executable files of the project, links left out."""
    found = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in SKIPPED and not name.startswith("__")]
        paths = [Path(folder, name) for name in names]
        found += [path for path in paths if not path.is_symlink() and path.stat().st_mode & 0o111]
    return sorted(found)


@pytest.mark.parametrize("path", executables(), ids=lambda path: str(path.relative_to(ROOT)))
def test_executable_file_starts_with_an_interpreter_line(path: Path) -> None:
    first = path.read_bytes().split(b"\n", 1)[0]
    assert first.startswith(b"#!/"), f"{path}: first line {first!r}"


@pytest.mark.parametrize(
    "path",
    [path for path in executables() if b"sh" in path.read_bytes().split(b"\n", 1)[0]],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_shell_script_parses(path: Path) -> None:
    shell = "bash" if b"bash" in path.read_bytes().split(b"\n", 1)[0] else "sh"
    run = subprocess.run([shell, "-n", path], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
