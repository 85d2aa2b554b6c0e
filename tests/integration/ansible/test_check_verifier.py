"""The host that verifies backups is compared with the others, by Ansible's facts of each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.fixtures.checkout import ROOT

PLAY = [
    {
        "hosts": "{{ looked_at }}",
        "gather_facts": True,
        "gather_subset": ["!all", "!min", "distribution"],
    },
    {"hosts": "all", "gather_facts": False, "tasks": [{"check_verifier": None}]},
]


def play(directory: Path, looked_at: str, version: str | None = None) -> tuple[int, str]:
    """Run the check on two hosts that are this machine; return the exit code and what it said.

    Args:
        directory: for the inventory and the play.
        looked_at: of which hosts there are facts.
        version: the PostgreSQL of the one that verifies; that of the other is its Debian's.

    """
    own: dict[str, Any] = {"postgresql_version": version} if version else {}
    inventory = {
        "all": {
            "vars": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable},
            "children": {
                "postgresql": {"hosts": {"db1": {"postgresql_version": "17.6"}}},
                "verify": {"hosts": {"proofs1": own}},
            },
        }
    }
    (directory / "hosts.yml").write_text(yaml.safe_dump(inventory))
    (directory / "play.yml").write_text(yaml.safe_dump(PLAY))
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            f"--inventory={directory / 'hosts.yml'}",
            f"--extra-vars={json.dumps({'looked_at': looked_at})}",
            str(directory / "play.yml"),
        ],
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_FORCE_COLOR": "0",
        },
        cwd=ROOT,
    )
    return done.returncode, done.stdout + done.stderr


def test_another_postgresql_stops_the_run(tmp_path: Path) -> None:
    code, said = play(tmp_path, "all", "16")
    assert code == 2
    assert "would prove the backups of db1, which has PostgreSQL 17" in " ".join(said.split())
    assert 'postgresql_version: "17"' in said


@pytest.mark.parametrize("looked_at", ["all", "proofs1"])
def test_the_same_or_nothing_to_compare_with_lets_it_go_on(tmp_path: Path, looked_at: str) -> None:
    code, said = play(tmp_path, looked_at, "17.4" if looked_at == "all" else "16")
    assert code == 0, said
    assert "failed=0" in said
