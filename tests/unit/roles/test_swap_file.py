"""The swap file's program refuses what would fill the disk or the memory; tests/machine uses it."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

from tests.unit.fixtures.checkout import ROOT


class Usage(NamedTuple):
    """What shutil.disk_usage returns."""

    total: int
    used: int
    free: int


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program with files of its own in place of the kernel's."""
    source = ROOT / "roles/base/files/swap_file.py"
    specification = importlib.util.spec_from_file_location("swap_file", source)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    for name in ("FILE", "SWAPS", "MEMORY"):
        monkeypatch.setattr(module, name, tmp_path / name)
    module.MEMORY.write_text("MemTotal: 4096000 kB\nMemAvailable:    1024000 kB\n")
    module.SWAPS.write_text("Filename Type Size Used Priority\n")
    return module


def in_use(program: ModuleType, kib: int) -> None:
    program.SWAPS.write_text(f"Filename Type Size Used Priority\n{program.FILE} file 9 {kib} -2\n")


def test_disk_without_room_is_named(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    free = 3 * 1024**3
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, free))
    assert program.refusal(2048) is None
    assert program.main(["on", "2049"]) == 1
    assert "3072 MiB free: too few for 2049 MiB" in capsys.readouterr().err
    assert not program.FILE.exists()


def test_file_of_the_right_size_that_is_used_is_left_alone(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    with program.FILE.open("wb") as file:
        file.truncate(64 * 1024**2)
    in_use(program, 10)
    monkeypatch.setattr(program.subprocess, "run", lambda *_: pytest.fail("it did something"))
    assert program.main(["on", "64"]) == 0


@pytest.mark.parametrize(("kib", "fits"), [(800_000, True), (900_000, False)])
def test_what_is_swapped_has_to_fit_into_memory(
    program: ModuleType, kib: int, *, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_use(program, kib)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 100 * 1024**3))
    assert (program.refusal(128) is None) is fits
    assert (program.too_full() is None) is fits


def test_nothing_is_used_where_another_file_is(program: ModuleType) -> None:
    program.SWAPS.write_text("Filename Type Size Used Priority\n/swapfile file 9 5 -2\n")
    assert program.used_kib() is None
