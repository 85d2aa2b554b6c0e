"""The cluster as its apps change it, its destinations, and what can be done to them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import units

if TYPE_CHECKING:
    from testinfra.host import Host

ADMIN = "runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1"
CONF = "/etc/pgbackrest/pgbackrest.conf"
DESTINATIONS = "/etc/bedstone/destinations.json"
RESTORED = "/var/lib/postgresql/restored"
# The port of a cluster that a test restored; no other cluster uses it.
PORT = 5499

Told = dict[str, Any]

# What is harmed comes after what is whole: a gap in the archive stays one until its chain goes.
ORDER = (
    "test_timers",
    "test_wal",
    "test_past",
    "test_elsewhere",
    "test_immutable",
    "test_damage",
    "test_outage",
)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the modules in their order; each leaves the archive as the next one needs it."""
    items.sort(key=lambda item: ORDER.index(item.path.stem))


class Cluster:
    """PostgreSQL on a server, and the host program as an operator calls it."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def sql(self, sql: str, database: str = "payments", extra: str = "") -> str:
        """Run SQL as the superuser and return what it printed."""
        command = f"cd / && printf %s {shlex.quote(sql)} | {ADMIN} {extra} -d {database}"
        return str(self.host.check_output(command)).strip()

    def pay(self, title: str) -> None:
        """Commit a row, as an app does."""
        self.sql(f"INSERT INTO payment (title) VALUES ('{title}')")

    def switch(self) -> str:
        """End the present segment and return its name."""
        return self.sql(
            "SELECT pg_create_restore_point('test') \\g /dev/null\n"
            "SELECT pg_walfile_name(pg_switch_wal())"
        )

    def run(self, arguments: str) -> Any:
        """Call the host program."""
        return self.host.run(f"/usr/local/bin/bedstone {arguments}")

    def bedstone(self, arguments: str) -> str:
        """Call the host program, which has to succeed."""
        done = self.run(arguments)
        assert done.rc == 0, done.stdout + done.stderr
        return str(done.stdout)

    def backup(self, kind: str, destination: str = "") -> list[Told]:
        """Make a backup and return what is said of each destination."""
        only = f"--destination {destination}" if destination else ""
        made: list[Told] = json.loads(self.bedstone(f"wal {kind} --json {only}"))["destinations"]
        return made

    def listed(self, destination: str) -> Told:
        """Return what lies at a destination."""
        shown: list[Told] = json.loads(
            self.run(f"wal list --json --destination {destination}").stdout
        )
        return shown[0]

    def status(self) -> Told:
        """Return the whole picture."""
        picture: Told = json.loads(self.run("status --json").stdout)
        return picture

    def problems(self) -> str:
        """Return what status calls wrong with the WAL."""
        said = self.status()["problems"]
        return "\n".join(line for line in said if line.startswith("WAL"))

    def is_well(self) -> None:
        """Wait until status calls nothing wrong with the WAL.

        A segment is at its destination before PostgreSQL records that it was archived.
        """
        units.wait(lambda: self.problems() == "", "status calls nothing wrong with the WAL")

    def ready_files(self) -> int:
        """Return how many segments wait to be archived."""
        return int(
            self.sql("SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'")
        )

    def repositories(self) -> list[str]:
        """Return the names of the destinations."""
        known = json.loads(self.host.check_output(f"cat {DESTINATIONS}"))
        return [entry["name"] for entry in known["destinations"] if entry["pgbackrest"]]

    def number(self, destination: str) -> int:
        """Return the number of a destination's repository."""
        return self.repositories().index(destination) + 1

    def python(self, script: str) -> Any:
        """Run a script that imports the host program."""
        script = "import sys; sys.path.insert(0, '/usr/local/bin/bedstone')\n" + script
        return self.host.run(f"python3 -c {shlex.quote(script)}")

    def restore(self, destination: str, arguments: str = "") -> Any:
        """Restore the cluster's files from a destination, without starting it."""
        self.host.run(f"{self.control()} stop -m immediate; rm -rf {RESTORED}")
        self.host.check_output(f"install -d -o postgres -g postgres -m 700 {RESTORED}")
        return self.python(
            "from pathlib import Path\n"
            "from datetime import datetime\n"
            "from bedstone.core.errors import BedstoneError\n"
            "from bedstone.storage import destinations\n"
            "from bedstone.wal.stanza import Stanza\n"
            "stanza = Stanza(destinations.load())\n"
            f"place = stanza.destinations.get('{destination}')\n"
            "try:\n"
            f"    print(stanza.restore(place, Path('{RESTORED}'), {arguments}))\n"
            "except BedstoneError as error:\n"
            "    sys.exit(error.text())\n"
        )

    def control(self) -> str:
        """Return the beginning of the command that starts and stops the restored cluster."""
        major = self.sql("SHOW server_version_num", "postgres")[:2]
        return (
            f"cd / && runuser -u postgres -- /usr/lib/postgresql/{major}/bin/pg_ctl -D {RESTORED}"
        )

    def recover(self) -> None:
        """Start the restored cluster and return once it was promoted."""
        settings = (
            f"port = {PORT}\nlisten_addresses = ''\nunix_socket_directories = '/tmp'\n"
            "max_connections = 200\nautovacuum = off\n"
        )
        self.host.check_output(
            f"printf %s {shlex.quote(settings)} > {RESTORED}/postgresql.conf;"
            f" echo 'local all all peer' > {RESTORED}/pg_hba.conf;"
            f" chown postgres: {RESTORED}/*.conf"
        )
        done = self.host.run(
            f"{self.control()} start -w -t {units.LIMIT_SECONDS} -l /tmp/restored.log"
        )
        assert done.rc == 0, self.host.run("tail -30 /tmp/restored.log").stdout
        recovers, there = "SELECT pg_is_in_recovery()", f"-h /tmp -p {PORT}"
        units.wait(lambda: self.sql(recovers, "postgres", there) == "f", "it is promoted")

    def rows_restored(self) -> list[str]:
        """Return the rows of the restored cluster."""
        return self.sql(
            "SELECT title FROM payment ORDER BY id", extra=f"-h /tmp -p {PORT}"
        ).splitlines()


@pytest.fixture(scope="module", autouse=True)
def quiet(without_timers: None) -> None:
    """No backup and no look at the destinations but those of the tests."""


@pytest.fixture(scope="session")
def offsite(server: Callable[[str], Host]) -> Host:
    """The server elsewhere."""
    return server("offsite")


@pytest.fixture(scope="module")
def cluster(host: Host) -> Cluster:
    """The server's cluster, with the app's table."""
    found = Cluster(host)
    found.sql(
        "CREATE TABLE IF NOT EXISTS payment (id bigserial PRIMARY KEY, title text NOT NULL);"
        "DELETE FROM payment"
    )
    return found


@pytest.fixture
def configuration(cluster: Cluster) -> Iterator[Callable[[str], None]]:
    """A function that changes pgbackrest.conf by sed, until the end of the test."""
    files = (CONF, DESTINATIONS)
    for path in files:
        cluster.host.check_output(f"cp -p {path} {path}.before")

    def change(script: str, path: str = CONF) -> None:
        cluster.host.check_output(f"sed -i {shlex.quote(script)} {path}")

    try:
        yield change
    finally:
        for path in files:
            cluster.host.check_output(f"mv {path}.before {path}")


@pytest.fixture(autouse=True)
def swept(cluster: Cluster) -> Iterator[None]:
    """Leave no restored cluster behind."""
    yield
    cluster.host.run(f"{cluster.control()} stop -m immediate; rm -rf {RESTORED} {RESTORED}.*")
