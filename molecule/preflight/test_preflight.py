"""A good server passes; bad settings and bad servers are refused, and nothing has changed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
UNITS: list[str] = []

Play = Callable[..., subprocess.CompletedProcess[str]]

# Files that a server writes by itself, or at a login.
OWN_WRITES = (
    r"^/(proc|sys|run|dev|tmp|var/log|var/lib/systemd|var/tmp|var/cache/apt|root/\.ansible)"
)


@pytest.fixture
def play(server_name: str) -> Play:
    """A function that runs a playbook of this scenario on the server under test."""

    def run(
        playbook: str | Path = "converge.yml",
        *,
        everywhere: bool = False,
        options: tuple[str, ...] = (),
        **variables: Any,
    ) -> subprocess.CompletedProcess[str]:
        inventory = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "inventory"
        limit = [] if everywhere else ["--limit", f"localhost,{server_name}"]
        arguments = ("-e", json.dumps(variables), *options)
        program = Path(sys.executable).with_name("ansible-playbook")
        return subprocess.run(
            [program, "-i", inventory, HERE / playbook, *limit, *arguments],
            capture_output=True,
            check=False,
            text=True,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"},
        )

    return run


def said(result: subprocess.CompletedProcess[str]) -> str:
    """Return what a run said, without its line breaks: reports are wrapped."""
    return " ".join((result.stdout + result.stderr).split())


@pytest.fixture
def unchanged(host: Host) -> Iterator[None]:
    """Fail a test after which a file of the server is another one."""
    # What the clock starts writes files, too.
    host.check_output("systemctl stop '*.timer' && systemctl stop apt-daily apt-daily-upgrade")
    host.check_output("touch /root/before")
    yield
    found = host.check_output(
        "find / -xdev -type f -newer /root/before -not -path '/root/before' 2>/dev/null; true"
    )
    assert [line for line in found.splitlines() if not re.match(OWN_WRITES, line)] == []


@pytest.mark.usefixtures("unchanged")
def test_good_server_passes(play: Play) -> None:
    result = play()
    assert result.returncode == 0, said(result)
    assert "changed=0" in said(result)


@pytest.mark.usefixtures("unchanged")
def test_bad_settings_are_refused_before_the_first_connection(play: Play) -> None:
    # No host answers at this address: a connection would end as "unreachable".
    result = play(
        ansible_host="192.0.2.1",
        ansible_ssh_timeout=1,
        bedstone_timezone="Mars",
        bedstone_app=[],
    )
    assert result.returncode != 0
    assert "2 problems with the settings. Nothing on the servers has been changed." in said(result)
    assert "'Mars' is no time zone" in said(result)
    assert "Did you mean `bedstone_apps`?" in said(result)
    assert "unreachable=0" in said(result)
    assert "Check the server" not in said(result)


@pytest.mark.usefixtures("unchanged")
def test_too_small_a_server_is_refused(play: Play) -> None:
    result = play(preflight_min_memory_mb=999_999_999, preflight_min_free_disk_mb=999_999_999)
    assert result.returncode != 0
    assert "2 problems with the server molecule-preflight" in said(result)
    assert "MiB of memory; 999999999 are the least" in said(result)


@pytest.mark.usefixtures("unchanged")
def test_server_without_a_usable_python_is_refused(play: Play) -> None:
    result = play(ansible_python_interpreter="/usr/bin/python2.7")
    assert result.returncode != 0
    assert "Its python3 could not be run." in said(result)
    assert "apt-get install -y python3" in said(result)


def test_foreign_program_on_a_port_of_ours_is_named(host: Host, play: Play) -> None:
    host.check_output(
        "systemd-run --collect --unit=squatter --property=Type=notify "
        "python3 -c 'import os, signal, socket\n"
        's = socket.create_server(("", 80))\n'
        "n = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        'n.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])\n'
        "signal.pause()'"
    )
    try:
        result = play()
    finally:
        host.check_output("systemctl stop squatter")
    assert result.returncode != 0
    assert "The program `python3` listens on port 80 already." in said(result)


def test_one_bad_server_stops_all(host: Host, peer: Host, play: Play) -> None:
    result = play("one_bad_server.yml", everywhere=True)
    assert result.returncode != 0
    assert "MiB of memory; 999999999 are the least" in said(result)
    assert not host.file("/root/changed").exists
    assert not peer.file("/root/changed").exists


def test_facts_are_those_that_ansible_gathers(play: Play) -> None:
    result = play("facts.yml")
    assert result.returncode == 0, said(result)


def test_server_with_another_key_than_the_pinned_one_is_sent_nothing(
    host: Host, play: Play, server_name: str, tmp_path: Path
) -> None:
    groups = {name: {"hosts": {server_name: {}}} for name in ("proxy", "app", "postgresql")}
    (tmp_path / "groups.yml").write_text(json.dumps({"all": {"children": groups}}))
    options = ("-i", str(tmp_path / "groups.yml"), "--tags", "always")
    provision = ROOT / "playbooks" / "provision.yml"
    host.check_output("ssh-keygen -q -t ed25519 -N '' -f /root/other")
    other = host.check_output("cut -d' ' -f1,2 /root/other.pub")
    own = host.check_output("cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub")
    # A connection of its own, by a user that nothing else here connects as.
    new = {"ansible_user": "debian", "ansible_become": True, "ansible_control_path": "none"}
    refused = play(provision, options=options, host_keys=[other], **new)
    accepted = "journalctl -u ssh --grep 'Accepted publickey for debian' -q"
    assert refused.returncode != 0
    assert f"has none of the `host_keys` of {server_name}" in said(refused)
    assert "It was sent nothing." in said(refused)
    assert host.run(accepted).stdout == ""
    passed = play(provision, options=options, host_keys=[other, own], **new)
    assert passed.returncode == 0, said(passed)
    assert host.run(accepted).stdout != ""
