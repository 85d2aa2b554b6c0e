"""What playbooks/rebuild.yml refuses before it connects to any server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.fixtures.checkout import ROOT
from tests.unit.fixtures.destinations import HOST_KEY

INVENTORY = """
all:
  vars:
    # Whoever connects fails, with other words than a refusal's.
    ansible_host: 192.0.2.1
    ansible_ssh_executable: /bin/false
  children:
    app: {hosts: {web1: , both2: }}
    postgresql: {hosts: {db1: , both2: , pinned3: }}
    proxy: {hosts: {web1: , both2: }}
  hosts:
    pinned3: {host_keys: [KEY]}
"""


def rebuild(place: Path, *arguments: str) -> str:
    """Run the playbook, which has to fail, and return its words on one line."""
    inventory = place / "hosts.yml"
    inventory.write_text(INVENTORY.replace("KEY", HOST_KEY))
    done = subprocess.run(
        [
            Path(sys.executable).with_name("ansible-playbook"),
            "playbooks/rebuild.yml",
            f"--inventory={inventory}",
            "--extra-vars=confirm=db1",
            *arguments,
        ],
        cwd=ROOT,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_FORCE_COLOR": "0",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    return " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-efrom=offsite",), ["`from` is called `destination` now"]),
        (("-edestination=offsite",), ["A rebuild recreates one server"]),
        (("-edestination=offsite", "--limit=web1"), ["web1 keeps no database"]),
        (
            ("-edestination=offsite", "--limit=db1"),
            ["db1 has no `host_keys` in hosts.yml", "ssh-keyscan -t ed25519 192.0.2.1"],
        ),
    ],
)
def test_what_can_not_be_done_is_refused_before_anything_is_touched(
    tmp_path: Path, arguments: tuple[str, ...], words: list[str]
) -> None:
    said = rebuild(tmp_path, *arguments)
    assert "Nothing was touched" in said
    assert [missing for missing in words if missing not in said] == []


@pytest.mark.parametrize(
    "arguments", [("--limit=pinned3",), ("--limit=both2", "-etrust_first_contact=true")]
)
def test_one_of_several_servers_is_taken_on(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    said = rebuild(tmp_path, "-edestination=offsite", *arguments)
    assert "Nothing was touched" not in said
    assert "Check the settings" in said
