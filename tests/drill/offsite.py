"""The server elsewhere that keeps the backups: one that speaks SFTP, or one that speaks S3."""

from __future__ import annotations

import html
import re
import shlex
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

import yaml

from testbed.errors import TestbedError
from testbed.paths import write
from testbed.shell import run
from tests.drill import world

if TYPE_CHECKING:
    from pathlib import Path

USER = "bedstone"
PATH = "/srv/bedstone"
# pgBackRest keeps each file of a restore open: see docs/operations.md.
FILES = 16384
BUCKET = "backups"
PREFIX = "drill"


class Offsite(Protocol):
    """Where backups go."""

    def settings(self) -> dict[str, Any]:
        """Return its part of the settings: how it is reached."""

    def secrets(self) -> dict[str, str]:
        """Return its part of the vault."""

    def authorities(self) -> list[Path]:
        """Return the certificate authorities that a server has to trust for it."""

    def archived(self) -> list[str]:
        """Return the names of the files in its archive of the write-ahead log, as of now."""


class Sftp:
    """A server with an account that can do nothing but SFTP."""

    def __init__(self) -> None:
        """Boot it."""
        self.server = world.boot(world.DESTINATION)
        world.WORK.mkdir(parents=True, exist_ok=True)
        key = world.WORK / "offsite-key"
        public = key.with_name(f"{key.name}.pub")
        for path in (key, public):
            path.unlink(missing_ok=True)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "drill", "-f", str(key)])
        self._key = key.read_text()
        script = f"""
            set -eu
            useradd --create-home --shell /usr/sbin/nologin {USER}
            install -d -o {USER} -g {USER} -m 0700 /home/{USER}/.ssh {PATH}
            printf '%s\\n' {shlex.quote(public.read_text().strip())} \
                > /home/{USER}/.ssh/authorized_keys
            printf 'Match User {USER}\\n  ForceCommand internal-sftp\\n  AllowTcpForwarding no\\n' \
                > /etc/ssh/sshd_config.d/50-{USER}.conf
            mkdir -p /etc/systemd/system/ssh.service.d
            printf '[Service]\\nLimitNOFILE={FILES}\\n' \
                > /etc/systemd/system/ssh.service.d/10-files.conf
            systemctl daemon-reload
            systemctl restart ssh.service
        """
        world.ssh(self.server, script)

    def settings(self) -> dict[str, Any]:
        """Return how it is reached."""
        # All of its keys: pgBackRest and ssh prefer different types.
        lines = world.ssh(self.server, "cat /etc/ssh/ssh_host_*_key.pub").splitlines()
        keys = [" ".join(line.split()[:2]) for line in lines]
        return {
            "sftp": {"host": self.server.name, "user": USER, "path": PATH, "host_keys": keys},
        }

    def secrets(self) -> dict[str, str]:
        """Return the key to it."""
        return {"private_key": self._key}

    def authorities(self) -> list[Path]:
        """Return none."""
        return []

    def archived(self) -> list[str]:
        """Return what is in its archive; nothing where there is none."""
        find = f"find {PATH}/pgbackrest/archive -type f -printf '%f\\n' || true"
        return world.ssh(self.server, find).split()


class S3:
    """A server that speaks S3 with a certificate of its own authority, as the scenarios' one."""

    def __init__(self) -> None:
        """Boot it, and let the scenarios' playbook make it."""
        self.server = world.boot(world.DESTINATION, aliases=("offsite",))
        self._directory = world.WORK / "offsite"
        inventory = world.WORK / "offsite.yml"
        hosts = {"molecule-drill-offsite": self.server.inventory()}
        groups: dict[str, Any] = {"servers": {"hosts": {}}}
        write(inventory, yaml.safe_dump({"all": {"hosts": hosts, "children": groups}}))
        world.ansible(
            "molecule/shared/offsite.yml",
            "-i",
            str(inventory),
            environment={"MOLECULE_EPHEMERAL_DIRECTORY": str(world.WORK)},
        )

    def settings(self) -> dict[str, Any]:
        """Return how it is reached."""
        return {
            "s3": {
                "endpoint": "https://offsite",
                "bucket": BUCKET,
                "region": "eu-central-1",
                "path": f"/{PREFIX}",
                "path_style": True,
            }
        }

    def secrets(self) -> dict[str, str]:
        """Return the key to it."""
        return {"access_key": "key-of-a-drill", "secret_key": "secret-of-a-drill"}

    def authorities(self) -> list[Path]:
        """Return that of its certificate."""
        return [self._directory / "ca.crt"]

    def archived(self) -> list[str]:
        """Return what is in its archive."""
        found: list[str] = []
        query = f"list-type=2&prefix={PREFIX}/pgbackrest/archive/"
        page = query
        while True:
            said = world.ssh(
                self.server,
                f"curl --fail --silent --show-error 'http://127.0.0.1:5000/{BUCKET}?{page}'",
            )
            keys = [html.unescape(key) for key in re.findall("<Key>([^<]*)</Key>", said)]
            found += [key.rpartition("/")[2] for key in keys]
            more = re.search("<NextContinuationToken>([^<]*)</", said)
            if more is None:
                return found
            page = f"{query}&continuation-token={quote(html.unescape(more[1]), safe='')}"


KINDS: dict[str, type[Sftp | S3]] = {"sftp": Sftp, "s3": S3}


def make(kind: str) -> Offsite:
    """Boot the server of a kind.

    Raises:
        TestbedError: there is no such kind, or it can't be made.

    """
    if kind not in KINDS:
        raise TestbedError(f"There is no destination {kind!r}.", f"There are: {', '.join(KINDS)}.")
    return KINDS[kind]()
