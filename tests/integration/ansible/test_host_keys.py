"""What ssh is told of pinned host keys, and what a wrong one ends."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from bedstone_control.inventory import host_keys
from tests.unit.fixtures.checkout import ROOT
from tests.unit.fixtures.destinations import HOST_KEY


def play(place: Path, keys: list[str] | None, environment: dict[str, str]) -> str:
    """Return the command line of ssh when a play with the playbooks' variables connects."""
    shutil.copytree(ROOT / "playbooks/group_vars", place / "group_vars")
    (place / "ssh").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {place}/said\nexit 255\n')
    (place / "ssh").chmod(0o755)
    host: dict[str, Any] = {
        "ansible_host": "192.0.2.1",
        "ansible_ssh_executable": str(place / "ssh"),
        "ansible_ssh_common_args": "-o ProxyJump=bastion",
    }
    if keys is not None:
        host["host_keys"] = keys
    (place / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": {"web1": host}}}))
    tasks = [{"ansible.builtin.raw": "true"}]
    plays = [{"hosts": "all", "gather_facts": False, "tasks": tasks}]
    (place / "play.yml").write_text(json.dumps(plays))
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            f"--inventory={place / 'hosts.yml'}",
            str(place / "play.yml"),
        ],
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), **environment},
        cwd=ROOT,
    )
    said = place / "said"
    return said.read_text() if said.exists() else done.stdout + done.stderr


def test_playbooks_tell_ssh_of_the_keys_before_anything_else(tmp_path: Path) -> None:
    lines = play(tmp_path, [HOST_KEY], {"ANSIBLE_HOST_KEY_CHECKING": "False"}).splitlines()
    # The first value of an option is the one that counts (ssh_config(5)).
    first = next(line for line in lines if line.startswith("StrictHostKeyChecking="))
    assert first == "StrictHostKeyChecking=yes"
    command = next(line for line in lines if line.startswith("KnownHostsCommand="))
    assert HOST_KEY in command
    assert "UserKnownHostsFile=/dev/null" in lines
    assert "ProxyJump=bastion" in lines
    assert any(host_keys.fingerprint([HOST_KEY]) in line for line in lines)


def test_playbooks_leave_ssh_as_configured_without_keys(tmp_path: Path) -> None:
    lines = play(tmp_path, None, {"ANSIBLE_SSH_ARGS": "-o Compression=yes"}).splitlines()
    assert "Compression=yes" in lines
    assert not [line for line in lines if line.startswith("KnownHostsCommand=")]


def test_wrong_key_ends_a_play_before_it_connects(tmp_path: Path) -> None:
    said = " ".join(play(tmp_path, ["ssh-ed25519 AAAA"], {}).split())
    assert "of the host web1: The data of this ssh key is damaged" in said
    assert "Nothing was sent" in said
