"""A PostgreSQL cluster as Debian names it, and programs run as its superuser."""

from __future__ import annotations

import dataclasses
import json
import os
import pwd
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bedstone_postgresql_tls import ServerError

SUPERUSER = "postgres"
# As of all sessions of the superuser; see bedstone_postgresql_declared.
SESSION_OPTIONS = "-c search_path= -c role=none -c default_transaction_read_only=off"
LIMIT_SECONDS = 60


@dataclasses.dataclass(frozen=True)
class Instance:
    """A cluster: version and name, as in postgresql@17-main.service."""

    version: str
    cluster: str

    @classmethod
    def parse(cls, text: str) -> Instance:
        """Return the instance of a unit's name.

        Raises:
            ServerError: the text isn't like 17-main.

        """
        version, _, cluster = text.partition("-")
        if not (version.isdigit() and cluster):
            raise ServerError(f"{text!r} names no cluster; a name is like 17-main")
        return cls(version, cluster)

    @property
    def configuration(self) -> Path:
        """Return the directory of postgresql.conf."""
        return Path("/etc/postgresql") / self.version / self.cluster

    @property
    def programs(self) -> Path:
        """Return the directory of this version's programs."""
        return Path("/usr/lib/postgresql") / self.version / "bin"

    def ask(self, query: str) -> Any:
        """Return the JSON value of a query, asked over the local socket.

        Raises:
            ServerError: the server doesn't answer or refuses the query.

        """
        command = ["psql", "--cluster", f"{self.version}/{self.cluster}", "--dbname", "postgres"]
        command += ["-XAtq", "--no-password", "--set", "ON_ERROR_STOP=1", "--file", "-"]
        ended = as_superuser(command, query)
        if ended.returncode != 0:
            raise ServerError(f"PostgreSQL {self.version}/{self.cluster}: {ended.stderr.strip()}")
        return json.loads(ended.stdout)


def as_superuser(command: Sequence[str | Path], text: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program as the system user postgres (who may be the caller) and return how it ended.

    Args:
        command: the program and its arguments.
        text: its standard input.

    """
    account = pwd.getpwnam(SUPERUSER)
    become: dict[str, Any] = {}
    if os.geteuid() == 0:
        groups = os.getgrouplist(account.pw_name, account.pw_gid)
        become = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": groups}
    return subprocess.run(
        [str(part) for part in command],
        input=text,
        check=False,
        capture_output=True,
        text=True,
        cwd="/",
        env={
            "PATH": os.environ.get("PATH", os.defpath),
            "LC_ALL": "C.UTF-8",
            "PGOPTIONS": SESSION_OPTIONS,
        },
        timeout=LIMIT_SECONDS,
        **become,
    )
