"""The controller's versions: requirements.yml and the lock file hold those that are installed."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from importlib.metadata import version
from importlib.resources import files

import pytest
import yaml

from tests.unit.fixtures.checkout import ROOT

PINNED = yaml.safe_load((ROOT / "requirements.yml").read_text())["collections"]
# The oldest controller that is supported. ansible-core 2.20 and later don't run on its Python.
OLDEST = sys.version_info < (3, 12)
RANGE = re.compile(r">=(\d+(?:\.\d+)*),<=(\d+(?:\.\d+)*)")


@pytest.mark.parametrize("collection", PINNED, ids=lambda entry: entry["name"])
def test_installed_collection_is_a_bound_of_the_range(collection: dict[str, str]) -> None:
    namespace, name = collection["name"].split(".")
    manifest = files("ansible_collections") / namespace / name / "MANIFEST.json"
    bounds = RANGE.fullmatch(collection["version"])
    assert bounds, "not >=OLDEST,<=NEWEST"
    installed = json.loads(manifest.read_text())["collection_info"]["version"]
    assert installed == bounds[1 if OLDEST else 2]


def test_installed_ansible_is_the_one_of_this_python() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    marker = "python_version < '3.12'" if OLDEST else "python_version >= '3.12'"
    assert f"ansible=={version('ansible')}; {marker}" in project["dependencies"]
    marker = marker.replace("version", "full_version")
    for package in ("ansible", "ansible-core"):
        pin = f"{package}=={version(package)} ; {marker} \\"
        assert pin in (ROOT / "requirements.txt").read_text().splitlines()


def test_every_collection_in_use_is_pinned() -> None:
    pinned = {entry["name"] for entry in PINNED}
    used = set()
    for folder in ("roles", "playbooks", "molecule"):
        for path in (ROOT / folder).rglob("*.yml"):
            for line in path.read_text().splitlines():
                word = line.strip().removeprefix("- ").split(":")[0]
                parts = word.split(".")
                if len(parts) == 3 and parts[0] in {"ansible", "community", "containers"}:
                    used.add(".".join(parts[:2]))
    assert used - {"ansible.builtin", "ansible.legacy"} <= pinned


def test_lock_file_names_no_registry() -> None:
    text = (ROOT / "requirements.txt").read_text()
    assert "://" not in text
    assert "--index" not in text
    assert "--find-links" not in text


def test_lock_file_of_a_front_end_pins_by_hash_and_names_no_registry() -> None:
    folder = ROOT / "tests/apps/srq-hpn/apps/web"
    wanted = json.loads((folder / "package.json").read_text())["dependencies"]
    packages = json.loads((folder / "package-lock.json").read_text())["packages"]
    locked = {name: packages[f"node_modules/{name}"]["version"] for name in wanted}
    assert locked == wanted, "exact versions, and the lock file's are the same"
    for name, package in packages.items():
        assert not name or package["integrity"].startswith("sha512-")
        assert "resolved" not in package
