"""The checklist of a system that was just provisioned."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from testbed.paths import ROOT
from tests.seeds.conftest import System

# What a server of a test can't have: records in DNS.
OF_THE_WORLD = {"dns"}
# Systems without Django, for which its own check answers `not yet` for ever.
WITHOUT_DJANGO = {"srq-hpn"}
# What a document doesn't ask for, or is done a week later.
LEFT = {"offsite", "notifications", "restore"}


def answers(system: System) -> dict[str, dict[str, Any]]:
    """Return the answers by item."""
    command = ["checklist", str(system.directory), "--json", "--ports", "1-1024"]
    ended = subprocess.run(
        [sys.executable, "-m", "bedstone_control", *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1, ended.stderr
    return {each["id"]: each for each in json.loads(ended.stdout)["items"]}


def test_system_just_provisioned_lacks_only_what_is_left_to_do(system: System) -> None:
    found = answers(system)
    if system.name in WITHOUT_DJANGO:
        assert found.pop("check-deploy")["state"] == "not yet"
    others = {name: each for name, each in found.items() if each["state"] != "yes"}
    assert {each["state"] for each in others.values()} == {"no"}, others
    assert OF_THE_WORLD <= set(others) <= OF_THE_WORLD | LEFT, others
    assert all(each["fix"] for each in others.values())
