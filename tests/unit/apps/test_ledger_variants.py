"""The archives that the release proof is made with."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from tests.apps.ledger import variant


def packed(path: Path) -> dict[str, str]:
    with tarfile.open(path) as archive:
        return {
            member.name: handle.read().decode()
            for member in archive
            if (handle := archive.extractfile(member)) is not None
        }


def test_equal_sources_are_equal_bytes(tmp_path: Path) -> None:
    first = variant.pack(tmp_path / "a", "2", ["additive"]).read_bytes()
    assert variant.pack(tmp_path / "b", "2", ["additive"]).read_bytes() == first
    assert variant.pack(tmp_path / "b", "3", ["additive"]).read_bytes() != first


def test_migrations_follow_each_other(tmp_path: Path) -> None:
    found = packed(variant.pack(tmp_path / "a", "2", ["additive", "long"]))
    assert '("entries", "0001_initial")' in found["entries/migrations/0002_additive.py"]
    assert '("entries", "0002_additive")' in found["entries/migrations/0003_long.py"]


def test_models_fit_the_migrations(tmp_path: Path) -> None:
    plain = packed(variant.pack(tmp_path / "a", "2"))["entries/models.py"]
    assert "label =" in plain
    assert "note =" not in plain
    changed = packed(variant.pack(tmp_path / "a", "2", ["additive", "destructive"]))
    assert "label =" not in changed["entries/models.py"]
    assert "note =" in changed["entries/models.py"]


@pytest.mark.parametrize("behaviour", sorted(variant.BEHAVIOURS))
def test_behaviour_is_baked(tmp_path: Path, behaviour: str) -> None:
    found = packed(variant.pack(tmp_path / "a", "2", (), [behaviour]))
    assert behaviour in found["ledger/behaviour.py"]
    compile(found["ledger/behaviour.py"], "behaviour.py", "exec")


def test_unknown_migration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sideways"):
        variant.pack(tmp_path / "a", "2", ["sideways"])
