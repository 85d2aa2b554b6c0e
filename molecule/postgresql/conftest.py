"""How the tests talk to PostgreSQL: over the network from the peer, or as its superuser."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from again import applied
from testinfra.backend.base import CommandResult
from testinfra.host import Host

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def passwords(variables: dict[str, Any]) -> dict[str, str]:
    """The password of every role."""
    found = {}
    for database in variables["postgresql_databases"]:
        found[database["migrate_role"]] = database["migrate_password"]
        found[database.get("app_login", database["app_role"])] = database["app_password"]
    return found


@pytest.fixture
def connection(server_name: str) -> Callable[..., str]:
    """A function that returns libpq's connection string: verify-full by default."""

    def string(**options: str) -> str:
        values = {
            "host": server_name,
            "dbname": "payments",
            "user": "payments_app",
            "sslmode": "verify-full",
            "sslrootcert": "/root/ca.crt",
            "connect_timeout": "5",
            **options,
        }
        return " ".join(f"{name}='{value}'" for name, value in values.items())

    return string


@pytest.fixture
def query(
    peer: Host, connection: Callable[..., str], passwords: dict[str, str]
) -> Callable[..., CommandResult]:
    """A function that runs a statement from the peer."""

    def run(sql: str, **options: str) -> CommandResult:
        role = options.get("user", "payments_app")
        password = options.pop("password", passwords.get(role, "none"))
        return peer.run(
            "PGPASSWORD=%s psql -XAtq -v ON_ERROR_STOP=1 %s -c %s",
            password,
            connection(**options),
            sql,
        )

    return run


@pytest.fixture
def migrate(query: Callable[..., CommandResult]) -> Callable[[str], CommandResult]:
    """A function that runs a statement as the migration role; it has to work."""

    def run(sql: str) -> CommandResult:
        ended = query(sql, user="payments_migrate")
        assert ended.rc == 0, ended.stderr
        return ended

    return run


@pytest.fixture
def superuser(host: Host) -> Callable[..., str]:
    """A function that runs a statement as the superuser, on the server."""

    def run(sql: str, database: str = "payments") -> str:
        command = "cd /; runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1 -d %s -c %s"
        return str(host.check_output(command, database, sql))

    return run


@pytest.fixture
def major(host: Host) -> str:
    """PostgreSQL's major version on the server."""
    return str(host.check_output("ls /etc/postgresql"))


@pytest.fixture
def unit(major: str) -> str:
    """The cluster's unit."""
    return f"postgresql@{major}-main.service"


@pytest.fixture
def issue() -> Callable[..., tuple[str, str]]:
    """A function that makes a certificate of the authority: its text and its key's."""
    directory = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "tls"

    def make(file: str, *names: str) -> tuple[str, str]:
        command = [HERE / "files/certificates.sh", directory, "issue", "ca", file, *names]
        subprocess.run(command, check=True, capture_output=True)
        certificate, key = (directory / f"{file}.{kind}" for kind in ("crt", "key"))
        return certificate.read_text(), key.read_text()

    return make


@pytest.fixture
def place(host: Host) -> Callable[[str, str], None]:
    """A function that puts a text into a file next to the server's certificate, by rename."""

    def put(name: str, text: str) -> None:
        path = f"/etc/bedstone/tls/{name}"
        host.check_output(
            "printf %%s %s > %s.new && chown root:ssl-cert %s.new && chmod 0640 %s.new && "
            "mv %s.new %s",
            text,
            *[path] * 5,
        )

    return put


@pytest.fixture
def served_serial(peer: Host, server_name: str) -> Callable[[], str]:
    """A function that gives the serial number of the certificate that clients are served."""

    def serial() -> str:
        shown = peer.check_output(
            "openssl s_client -starttls postgres -connect %s:5432 </dev/null 2>/dev/null "
            "| openssl x509 -noout -serial",
            server_name,
        )
        return str(shown)

    return serial


@pytest.fixture
def reboot(wait_until: Callable[..., None]) -> Callable[[Host, str], None]:
    """A function that restarts a server and waits until it can be reached."""

    def restart(host: Host, name: str) -> None:
        project = os.environ["MOLECULE_PROJECT_DIRECTORY"]
        # A previous shared connection would hang until it is found dead.
        shared = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "ssh_config"
        end = ["ssh", "-F", str(shared), "-O", "exit", name]
        subprocess.run(end, check=False, capture_output=True)
        command = [sys.executable, "-m", "testbed", "restart", name]
        subprocess.run(command, check=True, cwd=project, capture_output=True)
        wait_until(lambda: host.run("true").rc == 0, seconds=180, what=f"{name} is up")

    return restart


@pytest.fixture(scope="module")
def restored(host: Host) -> Iterator[None]:
    """Apply the scenario's own arguments again when a module's tests are through.

    Each run of the role declares everything, so a test undoes what the one before it declared.
    """
    yield
    applied(host.backend.get_hostname())
