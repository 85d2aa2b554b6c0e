"""A temporary PostgreSQL for the tests; conftest.py above gives the modules their plain names."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Cluster:
    """A server of our own, reached over a socket in its directory."""

    programs: Path
    directory: Path
    become: dict[str, Any]

    def psql(self, script: str, database: str = "postgres") -> str:
        """Run a script as the superuser and return what it printed."""
        ended = self.run(
            "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", str(self.directory), "-U", "postgres",
            "-d", database, "-f", "-", text=script,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def run(
        self, program: str, *arguments: str, text: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run one of this version's programs as the server's system user."""
        return subprocess.run(
            [str(self.programs / program), *arguments],
            input=text,
            check=False,
            capture_output=True,
            text=True,
            cwd="/",
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
            timeout=60,
            **self.become,
        )


def newest_programs() -> Path:
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3])
    )
    assert found, "PostgreSQL's server is missing on this machine: scripts/setup.sh installs it"
    return found[-1].parent


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    become: dict[str, Any] = {}
    directory = Path(tempfile.mkdtemp(prefix="bedstone-test-pg-"))
    if os.geteuid() == 0:  # the server refuses to run as root
        account = pwd.getpwnam("postgres")
        become = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        os.chown(directory, account.pw_uid, account.pw_gid)
    server = Cluster(newest_programs(), directory, become)
    data = str(directory / "data")
    made = server.run(
        "initdb", "--no-sync", "--auth=trust", "-U", "postgres", "--locale=C.UTF-8", "-E", "UTF8",
        "-D", data,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    options = f"-c listen_addresses='' -c unix_socket_directories={directory} -c fsync=off"
    log = str(directory / "log")
    started = server.run("pg_ctl", "start", "-w", "-s", "-D", data, "-l", log, "-o", options)
    assert started.returncode == 0, Path(log).read_text()
    yield server
    server.run("pg_ctl", "stop", "-s", "-m", "immediate", "-D", data)
    shutil.rmtree(directory)
