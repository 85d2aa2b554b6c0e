"""Two of Debian's clusters on this machine, each below a root of its own."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bedstone.postgres.server import USER, Server
from tests.integration.cluster import server_programs

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAMS = server_programs()
MAJOR = int(PROGRAMS.parent.name)
LOGIN = "bedstone_replication"
WAIT_SECONDS = 60


class Side:
    """One host: its PostgreSQL, and bedstone's functions as they act there."""

    def __init__(self, name: str, root: Path, certificates: Path) -> None:
        self.name = name
        self.root = root
        self.certificates = certificates
        self.port = _free_port()
        self.server = Server(str(root / "run"), self.port)
        self.settings = root / f"etc/postgresql/{MAJOR}/main"
        self.data = root / f"var/lib/postgresql/{MAJOR}/main"

    def make(self, **settings: str) -> None:
        """Make an empty cluster, as Debian's package does."""
        programs = self.root / f"usr/lib/postgresql/{MAJOR}/bin"
        programs.parent.mkdir(parents=True)
        programs.symlink_to(PROGRAMS)
        for directory in (self.settings / "conf.d", self.data.parent, self.root / "run"):
            directory.mkdir(parents=True)
        values = {
            "data_directory": str(self.data),
            "hba_file": str(self.settings / "pg_hba.conf"),
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.root / "run"),
            "ssl": "on",
            "ssl_cert_file": str(self.certificates / "postgres.crt"),
            "ssl_key_file": str(self.certificates / "postgres.key"),
            "ssl_ca_file": str(self.certificates / "ca.crt"),
            "max_slot_wal_keep_size": "32MB",
            "fsync": "off",
            **settings,
        }
        text = "".join(f"{name} = '{value}'\n" for name, value in values.items())
        (self.settings / "postgresql.conf").write_text(f"{text}include_dir = 'conf.d'\n")
        (self.settings / "conf.d/20-bedstone-standby.conf").touch()
        rules = f"local all postgres peer\nhostssl replication {LOGIN} 127.0.0.1/32 cert\n"
        (self.settings / "pg_hba.conf").write_text(rules)
        for path in (self.root, *self.root.rglob("*")):
            if not path.is_symlink():
                shutil.chown(path, USER)
        run(str(PROGRAMS / "initdb"), f"--pgdata={self.data}", "--auth=peer", "--no-sync")

    def start(self) -> None:
        """Start PostgreSQL, and wait until it takes sessions."""
        run(
            str(PROGRAMS / "pg_ctl"), "start", "--wait", "--silent", f"--pgdata={self.data}",
            f"--log={self.root / 'run/log'}",
            "--options", f"-c config_file={self.settings / 'postgresql.conf'}",
        )  # fmt: skip

    def stop(self) -> None:
        """Stop it cleanly."""
        subprocess.run(
            as_user(str(PROGRAMS / "pg_ctl"), "stop", "--mode=fast", f"--pgdata={self.data}"),
            check=False, capture_output=True, cwd="/",
        )  # fmt: skip

    def conninfo(self, **changed: str) -> str:
        """Return how another host logs in here."""
        options = {
            "host": "postgres",
            "hostaddr": "127.0.0.1",
            "port": str(self.port),
            "user": LOGIN,
            "application_name": LOGIN,
            "sslmode": "verify-full",
            "sslrootcert": str(self.certificates / "ca.crt"),
            "sslcert": str(self.certificates / f"{LOGIN}.crt"),
            "sslkey": str(self.certificates / f"{LOGIN}.key"),
            **changed,
        }
        return " ".join(f"{name}={value}" for name, value in options.items())

    def configure(self, primary: Side | None, replicas: tuple[str, ...] = ()) -> None:
        """Write what role postgresql writes for this host."""
        followed: dict[str, Any] | None = None
        standby = ""
        if primary:
            followed = {
                "name": primary.name,
                "address": "127.0.0.1",
                "port": primary.port,
                "slot": f"bedstone_{self.name}",
                "conninfo": primary.conninfo(),
            }
            standby = f"primary_conninfo = '{primary.conninfo()}'\n"
            standby += f"primary_slot_name = 'bedstone_{self.name}'\n"
        (self.settings / "conf.d/20-bedstone-standby.conf").write_text(standby)
        path = self.root / "etc/bedstone/replication.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "schema": 1,
            "major": MAJOR,
            "port": self.port,
            "primary": followed,
            "replicas": [{"name": name, "slot": f"bedstone_{name}"} for name in replicas],
        }
        path.write_text(json.dumps(content))

    @contextmanager
    def here(self) -> Iterator[None]:
        """Let bedstone act on this host in a block."""
        before = os.environ.get("BEDSTONE_ROOT")
        os.environ["BEDSTONE_ROOT"] = str(self.root)
        try:
            yield
        finally:
            os.environ.pop("BEDSTONE_ROOT")
            if before is not None:
                os.environ["BEDSTONE_ROOT"] = before


def certificates() -> Path:
    """Make an authority, the servers' certificate and the standbys', in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="bedstone-tls-"))
    folder.chmod(0o755)
    new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    make = [*new, "-x509", "-days", "2", "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.crt"]
    subprocess.run(make, check=True, capture_output=True, cwd=folder)
    for name in ("postgres", LOGIN):
        ask = [*new, "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
        ask += ["-keyout", f"{name}.key", "-out", f"{name}.csr"]
        sign = [
            "openssl",
            "x509",
            "-req",
            "-in",
            f"{name}.csr",
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
        ]
        sign += ["-CAcreateserial", "-copy_extensions", "copy", "-days", "2", "-out", f"{name}.crt"]
        for command in (ask, sign):
            subprocess.run(command, check=True, capture_output=True, cwd=folder)
        # As role ca leaves it: PostgreSQL's user reads it by its group.
        (folder / f"{name}.key").chmod(0o640)
        os.chown(folder / f"{name}.key", 0, pwd.getpwnam(USER).pw_gid)
    return folder


def as_user(*command: str) -> list[str]:
    return ["setpriv", "--reuid", USER, "--regid", USER, "--init-groups", "--", *command]


def run(*command: str) -> None:
    done = subprocess.run(as_user(*command), check=False, capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
