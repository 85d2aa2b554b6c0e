"""The app's data as its users change it, and the host program as an operator calls it."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testinfra.host import Host

HOME = "/var/backups/bedstone/payments"
MEDIA = "/srv/bedstone/payments/media"
# The copying unit runs while this is there.
COPIES = "/run/bedstone-test-copies"
ADMIN = "runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1"

SCHEMA = """
DROP SCHEMA IF EXISTS audit CASCADE; DROP TABLE IF EXISTS payment; DROP TABLE IF EXISTS note;
CREATE TABLE payment (id bigserial PRIMARY KEY, title text NOT NULL, amount numeric(12, 2) NOT NULL
    CHECK (amount > 0));
CREATE INDEX ON payment USING gin (title gin_trgm_ops);
CREATE SCHEMA audit; GRANT USAGE ON SCHEMA audit TO payments_app;
CREATE TABLE audit.entry (id bigserial PRIMARY KEY, payment bigint REFERENCES payment);
REVOKE UPDATE, DELETE ON audit.entry FROM payments_app;
INSERT INTO payment (title, amount) SELECT 'payment ' || i, i FROM generate_series(1, 500) i;
INSERT INTO audit.entry (payment) SELECT id FROM payment;
"""


class Payments:
    """The app `payments` on a server."""

    def __init__(self, host: Host, passwords: dict[str, str]) -> None:
        self.host = host
        self._passwords = passwords

    def sql(self, sql: str, role: str = "payments_app", database: str = "payments") -> Any:
        """Run SQL over TLS with a password, as the app and its migrations do."""
        return self._psql(sql, self._login(role, database))

    def admin(self, sql: str, database: str = "postgres") -> Any:
        """Run SQL as the superuser."""
        return self._psql(sql, f"{ADMIN} -d {database}")

    def _login(self, role: str, database: str) -> str:
        return (
            f"PGPASSWORD={self._passwords[role]} psql -XAtq -v ON_ERROR_STOP=1 "
            f"'host=127.0.0.1 sslmode=verify-full sslrootcert=/etc/bedstone/tls/ca.crt "
            f"user={role} dbname={database}'"
        )

    def _psql(self, sql: str, command: str) -> Any:
        return self.host.run(f"cd / && printf %s {shlex.quote(sql)} | {command}")

    def rows(self, table: str = "payment") -> int:
        """Return the rows that the app sees."""
        return int(self._checked(self.sql(f"SELECT count(*) FROM {table}")))

    def databases(self) -> list[str]:
        """Return the names of the databases."""
        found = self._checked(self.admin("SELECT datname FROM pg_database ORDER BY 1"))
        return [name for name in found.split() if not name.startswith("template")]

    def state(self) -> str:
        """Return what a refused restore must leave alone: identity, rows, databases."""
        return self._checked(
            self.admin(
                "SELECT oid, (SELECT count(*) FROM payment) FROM pg_database"
                " WHERE datname = current_database();"
                "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database",
                "payments",
            )
        )

    def oid(self) -> str:
        """Return the identity of the app's database."""
        return self._checked(self.admin("SELECT oid FROM pg_database WHERE datname = 'payments'"))

    def begin(self) -> None:
        """Start afresh in one call: no backups, 500 payments, one upload."""
        drop = (
            "SELECT format('DROP DATABASE %I WITH (FORCE)', datname) FROM pg_database"
            " WHERE datname LIKE 'payments\\_%' \\gexec"
        )
        done = self.host.run(
            # Copies to other destinations have tests of their own, and take their time.
            f"rm -f {COPIES}; systemctl stop bedstone-backup.service bedstone-copy.service;"
            f" rm -rf {HOME} {MEDIA}_before_* /srv/bedstone/payments/.media* && mkdir -p {MEDIA}"
            f" && echo 'the first invoice' > {MEDIA}/invoice.txt && cd /"
            f" && printf '%s\\n' {shlex.quote(drop)} | {ADMIN} -d postgres"
            f" && printf %s {shlex.quote(SCHEMA)} | {self._login('payments_migrate', 'payments')}"
        )
        self._checked(done)

    def upload(self, text: str) -> None:
        """Write the uploaded file."""
        self.host.check_output(f"mkdir -p {MEDIA} && echo '{text}' > {MEDIA}/invoice.txt")

    def uploaded(self) -> str:
        """Return what is in the uploaded file."""
        return str(self.host.check_output(f"cat {MEDIA}/invoice.txt"))

    def bedstone(self, arguments: str) -> Any:
        """Call the host program."""
        return self.host.run(f"/usr/local/bin/bedstone {arguments}")

    def backup(self, arguments: str = "") -> str:
        """Make a backup and return its path."""
        made = json.loads(self._checked(self.bedstone(f"backup payments --json {arguments}")))
        return str(made["backups"][0]["path"])

    def restored(self, arguments: str) -> dict[str, Any]:
        """Restore and return what it says."""
        result: dict[str, Any] = json.loads(
            self._checked(self.bedstone(f"restore payments {arguments} --yes --json"))
        )
        return result

    def names(self) -> list[str]:
        """Return everything in the directory of backups."""
        return sorted(self.host.check_output(f"ls -A {HOME} 2>/dev/null || true").split())

    def rewrite(self, path: str, changes: str) -> None:
        """Change fields of a manifest as another server would have written them."""
        script = (
            "import sys; sys.path.insert(0, '/usr/local/bin/bedstone')\n"
            "from dataclasses import replace\n"
            "from datetime import timedelta\n"
            "from pathlib import Path\n"
            "from bedstone.backup import manifest\n"
            f"path = Path({path!r}); found = manifest.read(path)\n"
            f"manifest.write(path, replace(found, {changes}))\n"
        )
        self.host.check_output(f"python3 -c {shlex.quote(script)}")

    @staticmethod
    def _checked(done: Any) -> str:
        assert done.rc == 0, done.stderr
        return str(done.stdout).strip()


@pytest.fixture(scope="module", autouse=True)
def quiet(without_timers: None) -> None:
    """No backup and no look at the destinations but those of the tests."""


@pytest.fixture(scope="module", autouse=True)
def without_copies(host: Host) -> Iterator[None]:
    """Let the nightly unit start no copy, unless a test asks for them."""
    # It can't be masked until the next start: its file is below /etc, which comes before /run.
    directory = "/run/systemd/system/bedstone-copy.service.d"
    asked = f"[Unit]\\nConditionPathExists={COPIES}\\n"
    host.check_output(
        f"mkdir -p {directory} && printf '{asked}' > {directory}/asked.conf"
        " && systemctl daemon-reload"
    )
    yield
    host.check_output(f"rm -rf {directory} {COPIES} && systemctl daemon-reload")


@pytest.fixture(scope="module")
def app(host: Host, variables: dict[str, Any]) -> Payments:
    """The app, as the test before has left it."""
    passwords = {}
    for database in variables["postgresql_databases"]:
        for kind in ("migrate", "app"):
            passwords[database[f"{kind}_role"]] = database[f"{kind}_password"]
    return Payments(host, passwords)


@pytest.fixture
def payments(app: Payments) -> Payments:
    """The app with 500 payments and no backups."""
    app.begin()
    return app


@pytest.fixture(scope="module")
def whole(app: Payments) -> str:
    """The path of a good backup that no test changes."""
    app.begin()
    app.host.check_output("rm -rf /root/whole /root/damaged")
    # Elsewhere, so that its uploads are in it.
    app.host.check_output(f"mv {app.backup('--directory /root/made')} /root/whole")
    return "/root/whole"
