"""A throw-away PostgreSQL with TLS, and the three roles that a server gives the app.

payments_owner    owns the database and can't log in
payments_migrate  logs in for migrations and acts as the owner
payments_app      SELECT, INSERT, UPDATE, DELETE and nothing else
"""

from __future__ import annotations

import contextlib
import getpass
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg
import trustme
from psycopg import sql

START_LIMIT_SECONDS = 30

ROLES = """
CREATE ROLE payments_owner NOLOGIN;
CREATE ROLE payments_migrate LOGIN PASSWORD {password} IN ROLE payments_owner;
CREATE ROLE payments_app LOGIN PASSWORD {password};
CREATE ROLE payments_certificate LOGIN IN ROLE payments_app;
ALTER ROLE payments_migrate SET role = 'payments_owner';
"""
GRANTS = """
REVOKE ALL ON SCHEMA public FROM PUBLIC;
ALTER SCHEMA public OWNER TO payments_owner;
GRANT USAGE ON SCHEMA public TO payments_app;
ALTER DEFAULT PRIVILEGES FOR ROLE payments_owner IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO payments_app;
ALTER DEFAULT PRIVILEGES FOR ROLE payments_owner IN SCHEMA public
    GRANT USAGE, SELECT ON SEQUENCES TO payments_app;
"""
# Plain text is open on purpose: so a test sees what the client did, not what it had to do.
ACCESS = """
local   all  all                               scram-sha-256
hostssl all  payments_certificate localhost    cert
host    all  all                  localhost    scram-sha-256
"""


def server_programs() -> Path:
    """Return the folder of PostgreSQL's server programs: the newest of Debian's, or PATH's."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3])
    )
    initdb = shutil.which("initdb")
    if found:
        return found[-1].parent
    if initdb:
        return Path(initdb).parent
    raise FileNotFoundError(
        "The tests need PostgreSQL's server programs: apt-get install postgresql"
    )


class Cluster:
    """One PostgreSQL server on localhost, in a temporary folder."""

    def __init__(self, *, port: int, password: str) -> None:
        self.port = port
        self.password = password
        self.programs = server_programs()
        # PostgreSQL refuses to run as root.
        self.user = _unprivileged() if os.geteuid() == 0 else getpass.getuser()
        self.folder = Path(tempfile.mkdtemp(prefix="payments-test-"))
        self.ca = self.folder / "ca.crt"
        self.other_ca = self.folder / "other-ca.crt"
        self.client_certificate = self.folder / "client.crt"
        self.client_key = self.folder / "client.key"
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Make the cluster and wait until it answers."""
        data = self.folder / "data"
        self._make_certificates()
        password_file = self.folder / "password"
        password_file.write_text(self.password)
        self._give_away(self.folder)
        self._run(
            *("initdb", "--pgdata", data, "--username=superuser", f"--pwfile={password_file}"),
            *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"),
        )
        (data / "pg_hba.conf").write_text(ACCESS)
        options = {
            "port": self.port,
            "listen_addresses": "localhost",
            "unix_socket_directories": self.folder,
            "ssl": "on",
            "ssl_cert_file": self.folder / "server.crt",
            "ssl_key_file": self.folder / "server.key",
            "ssl_ca_file": self.ca,
            "fsync": "off",  # nothing here has to survive a power cut
            "synchronous_commit": "off",
            "full_page_writes": "off",
        }
        arguments = [f"--{name}={value}" for name, value in options.items()]
        with (self.folder / "log").open("wb") as log:
            self._server = subprocess.Popen(
                [self.programs / "postgres", "-D", data, *arguments],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                **self._identity(),
            )
        self._wait()
        self.execute(ROLES)

    def stop(self) -> None:
        """Stop the server and remove everything."""
        if self._server is not None:
            self._server.terminate()
            try:
                self._server.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def create_database(self, name: str, *, template: str = "template0") -> None:
        """Make a database as a server would for the app: owned, with default privileges."""
        self.execute(f"CREATE DATABASE {name} OWNER payments_owner TEMPLATE {template}")
        self.execute(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC")
        self.execute(f"GRANT CONNECT ON DATABASE {name} TO payments_app, payments_migrate")
        if template == "template0":
            self.execute(GRANTS, database=name)

    def drop_database(self, name: str) -> None:
        """Remove a database, whoever is still connected."""
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def connect(
        self, user: str = "superuser", database: str = "postgres"
    ) -> psycopg.Connection[tuple[Any, ...]]:
        """Connect over TCP; the caller closes."""
        return psycopg.connect(
            host="localhost",
            port=self.port,
            user=user,
            password=self.password,
            dbname=database,
            autocommit=True,
        )

    def execute(self, statements: str, *, database: str = "postgres") -> None:
        """Run statements as the superuser; `{password}` in them is the roles' password."""
        with contextlib.closing(self.connect(database=database)) as connection:
            composed = sql.SQL(statements).format(password=sql.Literal(self.password))
            connection.execute(composed)

    def _make_certificates(self) -> None:
        authority, other = trustme.CA(), trustme.CA()
        authority.cert_pem.write_to_path(self.ca)
        other.cert_pem.write_to_path(self.other_ca)
        server = authority.issue_cert("localhost")
        server.private_key_pem.write_to_path(self.folder / "server.key")
        server.cert_chain_pems[0].write_to_path(self.folder / "server.crt")
        client = authority.issue_cert("client.invalid", common_name="payments_certificate")
        client.private_key_pem.write_to_path(self.client_key)
        client.cert_chain_pems[0].write_to_path(self.client_certificate)
        (self.folder / "server.key").chmod(0o600)
        self.client_key.chmod(0o600)

    def _give_away(self, folder: Path) -> None:
        if os.geteuid() == 0:
            # The client's key stays ours: libpq refuses a key that somebody else owns.
            for path in [folder, *folder.rglob("*")]:
                if path != self.client_key:
                    shutil.chown(path, self.user)

    def _identity(self) -> dict[str, Any]:
        if os.geteuid() != 0:
            return {}
        return {"user": self.user, "group": pwd.getpwnam(self.user).pw_gid, "extra_groups": []}

    def _run(self, program: str, *arguments: object) -> None:
        done = subprocess.run(
            [self.programs / program, *map(str, arguments)],
            check=False,
            capture_output=True,
            text=True,
            cwd=self.folder,
            **self._identity(),
        )
        assert done.returncode == 0, done.stderr

    def _wait(self) -> None:
        assert self._server is not None
        deadline = time.monotonic() + START_LIMIT_SECONDS
        while True:
            try:
                self.connect().close()
            except psycopg.OperationalError as error:
                if self._server.poll() is not None or time.monotonic() > deadline:
                    log = (self.folder / "log").read_text()
                    raise RuntimeError(f"PostgreSQL did not start: {log}") from error
                time.sleep(0.05)  # between two looks, with the limit above
            else:
                return


def _unprivileged() -> str:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise RuntimeError("There is no user postgres or nobody to run PostgreSQL as.")
