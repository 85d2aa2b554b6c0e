"""requirements.yml and what the environment installed are the same versions."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
PINNED = yaml.safe_load((ROOT / "requirements.yml").read_text())["collections"]


@pytest.mark.parametrize("collection", PINNED, ids=lambda entry: entry["name"])
def test_pinned_collection_is_the_installed_one(collection: dict[str, str]) -> None:
    namespace, name = collection["name"].split(".")
    manifest = files("ansible_collections") / namespace / name / "MANIFEST.json"
    assert json.loads(manifest.read_text())["collection_info"]["version"] == collection["version"]


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
