"""A throw-away PostgreSQL on a socket of its own, of Debian's programs."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from bedstone.postgres.server import SETTINGS, USER, Server

START_LIMIT_SECONDS = 120
PORT = 5432
ADMINISTRATOR = "administrator"


def server_programs() -> Path:
    """Return the folder of the newest of Debian's PostgreSQL servers, or of PATH's."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3])
    )
    if found:
        return found[-1].parent
    initdb = shutil.which("initdb")
    if initdb:
        return Path(initdb).parent
    raise FileNotFoundError(
        "These tests need PostgreSQL's server programs; `make setup` installs them."
    )


class Cluster:
    """One PostgreSQL server whose superuser is `postgres`, as on a server.

    It listens on nothing but a socket in a temporary folder and asks for no password.
    """

    def __init__(self) -> None:
        self.programs = server_programs()
        self.folder = Path(tempfile.mkdtemp(prefix="bedstone-pg-"))
        self.server = Server(str(self.folder), PORT)
        # Makes what the tests need, with a search path as people have it.
        self.administrator = replace(self.server, role=ADMINISTRATOR, options=SETTINGS)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Make the cluster and wait until it answers."""
        # PostgreSQL refuses to run as root.
        if os.geteuid() == 0:
            shutil.chown(self.folder, USER)
        self.folder.chmod(0o755)
        data = self.folder / "data"
        made = subprocess.run(
            [
                *(self.programs / "initdb", "--pgdata", data, f"--username={USER}"),
                *("--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"),
            ],
            check=False,
            capture_output=True,
            text=True,
            cwd=self.folder,
            **_identity(),
        )
        assert made.returncode == 0, made.stderr
        options = {
            "port": PORT,
            "listen_addresses": "",
            "unix_socket_directories": self.folder,
            "fsync": "off",  # nothing here has to survive a power cut
            "synchronous_commit": "off",
            "full_page_writes": "off",
        }
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(self.programs / "postgres", "-D", data),
                    *(f"--{name}={value}" for name, value in options.items()),
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                **_identity(),
            )
        self._wait()

    def stop(self) -> None:
        """Stop the server and remove everything."""
        if self._process is not None:
            # At once: no test needs what is in it.
            self._process.send_signal(signal.SIGQUIT)
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def create(self, database: str, template: str = "template0") -> None:
        """Make a database, an empty one or a copy."""
        self.server.execute(f"CREATE DATABASE {database} TEMPLATE {template}")

    def _wait(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_LIMIT_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            if self._answers():
                self.server.execute(
                    f"SELECT 'CREATE ROLE {ADMINISTRATOR} LOGIN SUPERUSER' WHERE NOT EXISTS"
                    f" (SELECT FROM pg_roles WHERE rolname = '{ADMINISTRATOR}') \\gexec"
                )
                return
            # Ends at once when the server does; else it is the pause between two looks.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.05)
        raise RuntimeError(f"PostgreSQL did not start: {(self.folder / 'log').read_text()}")

    def _answers(self) -> bool:
        ready: list[str | Path] = [
            self.programs / "pg_isready",
            "-q",
            "-h",
            self.folder,
            "-p",
            str(PORT),
        ]
        return subprocess.run(ready, check=False).returncode == 0


def _identity() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    return {"user": USER, "group": pwd.getpwnam(USER).pw_gid, "extra_groups": []}
