from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Login = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def login(address: str, tmp_path: Path) -> Login:
    """A function that opens a new login from this machine: login(user, command, key=, options=)."""
    testbed_key = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"]) / ".cache/testbed/ssh/id_ed25519"

    def run(
        user: str, command: str = "true", *, key: Path = testbed_key, options: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        settings = [
            "ControlPath=none",
            "BatchMode=yes",
            "IdentitiesOnly=yes",
            "StrictHostKeyChecking=no",
            f"UserKnownHostsFile={tmp_path}/known_hosts",
            "LogLevel=ERROR",
            "ConnectTimeout=10",
            *options,
        ]
        return subprocess.run(
            [
                "ssh",
                "-F",
                "none",
                "-i",
                key,
                *(f"-o{s}" for s in settings),
                f"{user}@{address}",
                command,
            ],
            stdin=subprocess.DEVNULL,  # ssh may leave it non-blocking, which Ansible refuses
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def strange_key(tmp_path: Path) -> Path:
    """A key that no server accepts; its public half is next to it."""
    key = tmp_path / "strange"
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "strange", "-f", str(key)]
    subprocess.run(command, check=True)
    return key
