"""The checklist of a system that was just provisioned, and of one with faults."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from testbed.paths import ROOT
from tests.seeds.conftest import System

# What a server of a test can't have: records in DNS.
OF_THE_WORLD = {"dns"}
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
    others = {name: each for name, each in found.items() if each["state"] != "yes"}
    assert {each["state"] for each in others.values()} == {"no"}, others
    assert OF_THE_WORLD <= set(others) <= OF_THE_WORLD | LEFT, others
    assert all(each["fix"] for each in others.values())


@pytest.mark.parametrize("system", ["internal-payment"], indirect=True)
def test_each_fault_is_told_with_its_way(system: System) -> None:
    settings = system.directory / "group_vars/all/settings.yml"
    text, backups = settings.read_text(), "/var/backups/bedstone/internal-payment"
    assert text.count("DEBUG: 'False'") == 1
    settings.write_text(text.replace("DEBUG: 'False'", "DEBUG: 'True'"))
    system.on_server(f"systemctl stop bedstone-backup.timer && mv {backups} {backups}.away")
    try:
        found = answers(system)
    finally:
        settings.write_text(text)
        system.on_server(f"mv {backups}.away {backups}; systemctl start bedstone-backup.timer")
    assert found["debug"]["found"] == "internal-payment: DEBUG is True"
    assert found["debug"]["fix"] == 'env: {DEBUG: "False"}, then deploy.yml'
    assert "internal-payment: none yet" in found["backups"]["found"]
    assert found["backups"]["fix"] == "bedstone backup, then bedstone status"
    assert "bedstone-backup.timer is off (inactive)" in found["alarms"]["found"]
    assert "`systemctl start bedstone-backup.timer`" in found["alarms"]["found"]
    for name in ("debug", "backups", "alarms"):
        assert found[name]["state"] == "no"
