"""The tests of a module are found by its place: their folders are the packages of the source."""

from __future__ import annotations

import pytest

from tests.unit.fixtures.checkout import ROOT


@pytest.mark.parametrize("name", ["bedstone", "bedstone_control"])
def test_each_folder_of_tests_is_a_package_of_the_source(name: str) -> None:
    tests = ROOT / "tests" / "unit" / name
    # By their files: git leaves folders behind that hold nothing but what Python cached.
    folders = {path.parent.relative_to(tests) for path in tests.rglob("*.py")}
    assert folders
    strange = [
        str(folder)
        for folder in sorted(folders)
        if not (ROOT / "src" / name / folder / "__init__.py").is_file()
    ]
    assert not strange, f"tests/unit/{name} has folders without a package: {', '.join(strange)}"
