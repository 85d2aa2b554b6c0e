"""The playbooks back up and restore from the operator's machine."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from testinfra.host import Host

    from molecule.backup.conftest import Payments

ROOT = Path(__file__).resolve().parents[2]


def play(host: Host, playbook: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a playbook on the server under test, which plays the group `postgresql`."""
    servers = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "inventory/servers.yml"
    return subprocess.run(
        [
            "ansible-playbook",
            f"--inventory={servers}",
            f"--inventory={Path(__file__).with_name('groups.yml')}",
            f"--limit={host.backend.get_hostname()}",
            str(ROOT / "playbooks" / playbook),
            *arguments,
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


def test_backup_playbook_names_the_backup(payments: Payments) -> None:
    done = play(payments.host, "backup.yml", "-e", "app=payments")
    assert done.returncode == 0, done.stdout + done.stderr
    (name,) = payments.names()
    assert f"/var/backups/bedstone/payments/{name}" in done.stdout


def test_restore_playbook_puts_it_back_when_confirmed(payments: Payments) -> None:
    payments.backup()
    payments.sql("INSERT INTO payment (title, amount) VALUES ('later', 1)")
    wrong = play(payments.host, "restore.yml", "-e", "app=payments", "-e", "confirm=yes")
    assert wrong.returncode != 0
    assert "Nothing was touched" in wrong.stdout
    assert payments.rows() == 501
    done = play(payments.host, "restore.yml", "-e", "app=payments", "-e", "confirm=payments")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "dropdb" in done.stdout
    assert payments.rows() == 500


def test_failed_restore_says_why(payments: Payments) -> None:
    arguments = [
        "-e",
        "app=payments",
        "-e",
        "confirm=payments",
        "-e",
        "backup=backup_20200101_000000",
    ]
    done = play(payments.host, "restore.yml", *arguments)
    assert done.returncode != 0
    assert "There is no backup" in done.stdout
