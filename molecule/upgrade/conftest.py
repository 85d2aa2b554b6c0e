"""A server whose PostgreSQL 15 holds an app's data, and Debian's own 17 next to it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from testinfra.host import Host

ROOT = Path(__file__).resolve().parents[2]
PLAYBOOK_SECONDS = 900
FULL_BACKUP = "bedstone-wal-full.service"
# What begins by itself at some hours, and holds locks that the tests need: Bedstone's and apt's.
TIMERS = (
    "$(systemctl list-unit-files --type=timer --no-legend 'bedstone-*' 'apt-*' | cut -d' ' -f1)"
)

ADMIN = "runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1"

SCHEMA = """
SET ROLE payments_owner;
CREATE TABLE payment (id bigserial PRIMARY KEY, title text NOT NULL, amount numeric(12, 2) NOT NULL
    CHECK (amount > 0));
CREATE INDEX ON payment USING gin (title gin_trgm_ops);
CREATE SCHEMA audit; GRANT USAGE ON SCHEMA audit TO payments_app;
CREATE TABLE audit.entry (id bigserial PRIMARY KEY, payment bigint REFERENCES payment);
REVOKE UPDATE, DELETE ON audit.entry FROM payments_app;
CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO audit.entry (payment) VALUES (NEW.id); RETURN NEW; END';
CREATE TRIGGER noted AFTER INSERT ON payment FOR EACH ROW EXECUTE FUNCTION noted();
INSERT INTO payment (title, amount) SELECT 'payment ' || i, i FROM generate_series(1, 5000) i;
"""

# What an operator installs before an upgrade.
NEXT_MAJOR = """
set -e
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -o Dpkg::Options::=--force-confold \
    postgresql-17 > /tmp/apt.log 2>&1 || { tail -30 /tmp/apt.log; exit 1; }
"""


# An app that does nothing but write, and notes what was acknowledged. It has a site, so visitors
# get the maintenance page.
APP: dict[str, Any] = {
    "schema": 1,
    "name": "payments",
    "domains": ["pay.example.com"],
    "image": {
        "kind": "build", "archive": "/nowhere", "dockerfile": "Dockerfile", "args": {},
        "target": None, "default_dockerfile": False,
    },
    "services": {"web": {"command": ["serve"], "port": 8000, "route": "/", "health": None}},
    "commands": {"check": [], "migrate": [], "static": []},
    "environment_file": "/nowhere", "migrate_environment_file": "/nowhere",
    "network": "bedstone-payments", "hosts": {}, "mounts": [], "static": None, "media": None,
    "user": None, "read_only": True, "tmpfs": [], "database": None,
}  # fmt: skip
WRITER = "bedstone-payments-web@blue.service"
ACKNOWLEDGED = "/var/lib/acknowledged"
PAGE = "/etc/nginx/bedstone/maintenance/payments.html"
WRITES = f"""#!/bin/sh
export PGPASSWORD=app-password-of-a-test
while psql -XAtq -v ON_ERROR_STOP=1 "host=127.0.0.1 sslmode=verify-full \
        sslrootcert=/etc/bedstone/tls/ca.crt user=payments_app dbname=payments" \
        -c "INSERT INTO payment (title, amount) VALUES ('tick', 1)"
do
    echo >> {ACKNOWLEDGED}
    sleep 0.2
done
exit 1
"""
UNIT = """[Unit]
StartLimitIntervalSec=0
[Service]
ExecStart=/usr/local/bin/test-writer
Restart=always
RestartSec=1
"""
DECLARE = f"""
set -e
mkdir -p /etc/bedstone/apps/payments /etc/nginx/bedstone/sites /etc/nginx/bedstone/maintenance
echo {shlex.quote(json.dumps(APP))} > /etc/bedstone/apps/payments/app.json
touch /etc/nginx/bedstone/sites/payments.conf {ACKNOWLEDGED}
echo {shlex.quote(WRITES)} > /usr/local/bin/test-writer
chmod 755 /usr/local/bin/test-writer
echo {shlex.quote(UNIT)} > /etc/systemd/system/{WRITER}
systemctl daemon-reload
systemctl start {WRITER}
"""


class Server:
    """The server, as its operator and its app see it."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def hold_timers(self) -> None:
        """Let nothing begin by itself; the roles start the timers again."""
        self.host.check_output(f"systemctl stop {TIMERS}")

    def sql(self, sql: str, role: str = "payments_app") -> Any:
        """Run SQL over TLS with a password, as the app and its migrations do."""
        password = role.removeprefix("payments_") + "-password-of-a-test"
        where = (
            "host=127.0.0.1 sslmode=verify-full sslrootcert=/etc/bedstone/tls/ca.crt"
            f" user={role} dbname=payments"
        )
        return self._psql(sql, f"PGPASSWORD={password} psql -XAtq -v ON_ERROR_STOP=1 '{where}'")

    def admin(self, sql: str, database: str = "postgres") -> str:
        """Run SQL as the superuser, and return what it says."""
        done = self._psql(sql, f"{ADMIN} -d {database}")
        assert done.rc == 0, done.stderr
        return str(done.stdout.strip())

    def _psql(self, sql: str, command: str) -> Any:
        return self.host.run(f"cd / && printf %s {shlex.quote(sql)} | {command}")

    def payments(self) -> int:
        """Return the rows that the app sees."""
        done = self.sql("SELECT count(*) FROM payment")
        assert done.rc == 0, done.stderr
        return int(done.stdout)

    def lost(self) -> int:
        """Return how many of the app's writes were acknowledged and aren't there.

        The app is ended for that, and goes on afterwards.
        """
        self.host.check_output(f"systemctl stop {WRITER}")
        acknowledged = int(self.host.check_output(f"wc -l < {ACKNOWLEDGED}"))
        there = int(self.sql("SELECT count(*) FROM payment WHERE title = 'tick'").stdout)
        self.host.check_output(f"systemctl start {WRITER}")
        assert acknowledged, "the app has written"
        return max(acknowledged - there, 0)

    def open(self) -> bool:
        """Return whether the app runs and visitors get to it."""
        return bool(self.host.service(WRITER).is_running and not self.host.file(PAGE).exists)

    def pay(self, title: str) -> None:
        """Write as the app does."""
        done = self.sql(f"INSERT INTO payment (title, amount) VALUES ('{title}', 1)")
        assert done.rc == 0, done.stderr

    def version(self) -> int:
        """Return the major version that answers the app."""
        done = self.sql("SHOW server_version_num")
        assert done.rc == 0, done.stderr
        return int(done.stdout) // 10_000

    def starts(self) -> dict[str, str]:
        """Return which cluster starts at boot."""
        said = self.host.check_output("tail -qn1 -v /etc/postgresql/*/main/start.conf")
        words = said.split()
        files = [word.split("/")[3] for word in words if word.startswith("/etc/postgresql")]
        return dict(zip(files, [word for word in words if word in {"auto", "manual"}], strict=True))

    def upgrade(self, *arguments: str) -> Any:
        """Call the command."""
        return self.host.run("bedstone upgrade postgresql " + shlex.join(arguments))

    def playbook(self, *extra: str) -> subprocess.CompletedProcess[str]:
        """Run playbooks/upgrade.yml from the operator's machine."""
        servers = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "inventory/servers.yml"
        return subprocess.run(
            [
                Path(sys.executable).with_name("ansible-playbook"),
                f"--inventory={servers}",
                f"--inventory={Path(__file__).with_name('groups.yml')}",
                f"--limit={self.host.backend.get_hostname()}",
                ROOT / "playbooks/upgrade.yml",
                *(f"--extra-vars={argument}" for argument in extra),
            ],
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=PLAYBOOK_SECONDS,
            # Molecule turns colours on, which split the words.
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_FORCE_COLOR": "0",
            },
            cwd=ROOT,
        )

    def played(self, *extra: str) -> str:
        """Run playbooks/upgrade.yml, which has to work, and return its words on one line."""
        done = self.playbook(*extra)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return " ".join(done.stdout.split())

    def upgraded(self, *arguments: str) -> str:
        """Call the command, which has to work."""
        done = self.upgrade(*arguments)
        assert done.rc == 0, f"{done.stdout}\n{done.stderr}"
        return str(done.stdout)

    def refused(self, *arguments: str) -> str:
        """Call the command, which has to refuse, and return what it says."""
        done = self.upgrade(*arguments)
        assert done.rc == 3, f"{done.rc}: {done.stdout}\n{done.stderr}"
        return str(done.stderr)

    def chain(self) -> list[dict[str, Any]]:
        """Return the backups of the whole cluster, the oldest first."""
        listed = self.host.check_output("bedstone wal list --json")
        found: list[dict[str, Any]] = json.loads(listed)[0]["backups"]
        return found

    def archives(self) -> bool:
        """Return whether the write-ahead log arrives in the archive of what serves."""
        return bool(self.host.run("bedstone wal ready").rc == 0)

    def backs_up(self) -> bool:
        """Return whether the full backup runs that begins by itself after a change."""
        state = self.host.run(f"systemctl is-active {FULL_BACKUP}").stdout.strip()
        return bool(state == "activating")

    def at(self, moment: str) -> Any:
        """Restore the database of a moment into a new one, `payments_then`."""
        return self.host.run(
            f"bedstone restore payments --time {shlex.quote(moment)} --into payments_then --yes"
        )

    def titles_at(self, moment: str) -> set[str]:
        """Return the titles of a moment's payments."""
        done = self.at(moment)
        assert done.rc == 0, f"{done.stdout}\n{done.stderr}"
        found = self.admin("SELECT DISTINCT title FROM payment", "payments_then")
        self.admin("DROP DATABASE payments_then")
        return set(found.splitlines())

    def problems(self) -> list[str]:
        """Return what the status complains about."""
        found = self.status()["problems"]
        return [problem for problem in found if problem.startswith("PostgreSQL")]

    def status(self) -> dict[str, Any]:
        """Return what the status says; the app of this test isn't released, so that it fails."""
        found: dict[str, Any] = json.loads(self.host.run("bedstone status --json").stdout)
        return found


@pytest.fixture(scope="module")
def _prepared(request: pytest.FixtureRequest) -> None:
    host = request.getfixturevalue("host")
    server = Server(host)
    server.hold_timers()
    present = server.admin("SELECT to_regclass('payment') IS NOT NULL", "payments")
    if present == "f":
        server.admin(SCHEMA, "payments")
        assert host.run("bedstone backup").rc == 0
        host.check_output(f"systemctl start {FULL_BACKUP}")
    if not host.file("/usr/lib/postgresql/17/bin/postgres").exists:
        done = host.run(NEXT_MAJOR)
        assert done.rc == 0, done.stdout + done.stderr
    if not host.file("/usr/local/bin/test-writer").exists:
        host.check_output(DECLARE)


@pytest.fixture
def db(host: Host, _prepared: None) -> Server:
    """The server with its data, PostgreSQL 15 serving and 17 installed."""
    return Server(host)
