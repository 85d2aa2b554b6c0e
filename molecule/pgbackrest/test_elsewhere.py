"""Another host verifies this one's backups, from the destinations alone, and reports back."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import units

if TYPE_CHECKING:
    from testinfra.host import Host

    from molecule.pgbackrest.conftest import Cluster

MEDIA = "/srv/bedstone/payments/media"
PLACE = "/var/cache/bedstone-verify"
TOLD = "/run/bedstone-test-told.json"
KEYS = "/etc/bedstone/verify"
REPOSITORY = "/srv/bedstone/trixie/restic"
EVERYTHING = {(kind, place) for kind in ("dump", "media", "wal") for place in ("offsite", "bucket")}


class Elsewhere:
    """The server, and the host that verifies its backups."""

    def __init__(self, cluster: Cluster, verifier: Host) -> None:
        self.cluster = cluster
        self.host = cluster.host
        self.verifier = verifier
        self.name = str(cluster.host.backend.get_hostname())
        self.unit = f"bedstone-verify@{self.name}"

    def verify(self, arguments: str) -> Any:
        """Verify the server's backups, as an operator on the other host does."""
        return self.verifier.run(f"bedstone verify --of {self.name} {arguments}")

    def look(self) -> None:
        """Let the server look at its destinations, as each hour."""
        self.host.check_output(f"rm -f {TOLD} && systemctl start bedstone-destinations.service")

    def told(self) -> dict[str, Any] | None:
        """Return what the server's hook got since it looked."""
        said = self.host.run(f"cat {TOLD}").stdout
        found: dict[str, Any] | None = json.loads(said) if said else None
        return found

    def metric(self, name: str) -> dict[tuple[str, str], float]:
        """Return a metric of the server, by kind and destination."""
        text = self.cluster.bedstone("metrics")
        values = {}
        line = re.compile(rf"^bedstone_backup_{name}{{(.*)}} (\S+)$", re.MULTILINE)
        for labels, value in line.findall(text):
            given = dict(re.findall(r'(\w+)="([^"]*)"', labels))
            values[given["kind"], given["destination"]] = float(value)
        return values

    def left(self) -> list[str]:
        """Return what is left of temporary clusters on either host."""
        found = [host.run(f"ls -A {PLACE}").stdout for host in (self.host, self.verifier)]
        return "".join(found).split()


@pytest.fixture(scope="module")
def elsewhere(cluster: Cluster, server: Callable[[str], Host]) -> Iterator[Elsewhere]:
    """A backup with uploads and WAL that have arrived at both destinations."""
    verifier = server("verifier")
    found = Elsewhere(cluster, verifier)
    timer = verifier.service(f"{found.unit}.timer")
    assert timer.is_enabled
    assert timer.is_running
    # Those of the server itself are stopped (conftest.py).
    verifier.check_output(f"systemctl stop {found.unit}.timer")
    found.host.check_output(f"mkdir -p {MEDIA} && echo 'the first invoice' > {MEDIA}/invoice.txt")
    cluster.pay("before the backup")
    cluster.bedstone("backup payments")
    cluster.bedstone("copy")
    for name in ("offsite", "bucket"):
        if not cluster.listed(name)["backups"]:
            cluster.backup("full", name)
    cluster.pay("after the backup")
    cluster.bedstone("wal ready")
    yield found
    verifier.check_output(f"systemctl start {found.unit}.timer")


def test_every_kind_is_proved_where_production_is_out_of_reach(elsewhere: Elsewhere) -> None:
    verifier, host = elsewhere.verifier, elsewhere.host
    address = host.check_output("hostname -I").split()[0]
    serving = elsewhere.cluster.sql("SELECT pg_postmaster_start_time()", "postgres")
    here = units.Journal(host, "bedstone-verify.service")
    there = units.Journal(verifier, elsewhere.unit)
    verifier.check_output(f"ip route add blackhole {address}")
    try:
        assert verifier.run(f"timeout 2 bash -c '</dev/tcp/{address}/22'").rc != 0
        done = verifier.run(f"systemctl start {elsewhere.unit}.service")
    finally:
        verifier.check_output(f"ip route del blackhole {address}")
    assert done.rc == 0, there.text()
    for place in ("offsite", "bucket"):
        there.says(f"the WAL at {place} is verified")
        for kind in ("dump", "media"):
            said = re.compile(rf"the {kind} of backup_\d+_\d+ at {place} is verified")
            units.wait(lambda said=said: said.search(there.text()), said.pattern)
    there.says("each of `backup_checks` (1) is true", "are sound (amcheck)", "files (1, 18 B)")
    assert elsewhere.left() == []
    assert verifier.run("pgrep -f '[v]erify-[0-9a-f]{12}'").rc != 0
    # PostgreSQL's programs are there, and no cluster but those that are gone.
    assert verifier.check_output("pg_lsclusters --no-header") == ""
    assert here.text() == ""
    assert elsewhere.cluster.sql("SELECT pg_postmaster_start_time()", "postgres") == serving


def test_server_says_when_and_where_its_backups_were_proved(elsewhere: Elsewhere) -> None:
    elsewhere.look()
    assert elsewhere.told() is None
    shown = {
        entry["destination"]: entry["host"]
        for entry in elsewhere.cluster.status()["wal_verifications"]
        if entry["ok"] and entry["verified_at"]
    }
    assert shown == dict.fromkeys(("offsite", "bucket"), "molecule-pgbackrest-verifier")
    assert set(elsewhere.metric("verified_timestamp_seconds")) == EVERYTHING
    assert set(elsewhere.metric("verification_failed").values()) == {0}
    listed = json.loads(elsewhere.cluster.bedstone("backups --json"))
    assert listed[0]["verification"] == "succeeded"
    assert not elsewhere.host.service("bedstone-verify.timer").is_enabled


def test_damage_at_a_destination_turns_the_server_red(elsewhere: Elsewhere, offsite: Host) -> None:
    cache = "rm -rf /var/cache/bedstone-restic/*"
    offsite.check_output(f"cp -a {REPOSITORY} {REPOSITORY}.whole")
    try:
        offsite.check_output(
            f"find {REPOSITORY}/data -type f -exec chmod u+w {{}} + -exec truncate -s 100 {{}} +"
        )
        elsewhere.verifier.check_output(cache)
        done = elsewhere.verify("payments --destination offsite")
        assert done.rc == 1, done.stdout + done.stderr
        assert "FAILED" in done.stderr
        assert elsewhere.left() == []
        elsewhere.look()
        told = elsewhere.told()
        assert told is not None
        assert "aren't proved as they should be: payments: the verification of" in told["title"]
        assert "molecule-pgbackrest-verifier proves them" in told["hint"]
        failed = elsewhere.metric("verification_failed")
        assert (failed["dump", "offsite"], failed["dump", "bucket"]) == (1, 0)
    finally:
        offsite.check_output(f"rm -rf {REPOSITORY} && mv {REPOSITORY}.whole {REPOSITORY}")
        elsewhere.verifier.check_output(cache)
    again = elsewhere.verify("payments --destination offsite")
    assert again.rc == 0, again.stderr
    elsewhere.look()
    assert elsewhere.told() is None
    assert set(elsewhere.metric("verification_failed").values()) == {0}


def test_failed_run_tells_the_hooks_of_the_host_that_proves(elsewhere: Elsewhere) -> None:
    shown = elsewhere.verifier.check_output(
        f"systemctl show -p OnFailure,Nice,CPUWeight,IOWeight {elsewhere.unit}.service"
    )
    failed = f"OnFailure=bedstone-failed@{elsewhere.unit}.service.service"
    assert {failed, "Nice=19", "CPUWeight=1", "IOWeight=1"} <= set(shown.split())


def test_keys_are_for_root_and_for_who_fetches_the_log(elsewhere: Elsewhere) -> None:
    verifier = elsewhere.verifier
    for home in (KEYS, "/etc/pgbackrest/verify"):
        assert verifier.check_output(f"find {home} -perm /o=rwx") == ""
    owners = verifier.check_output(f"find {KEYS} -printf '%u:%g %m\\n' | sort -u").splitlines()
    assert owners == ["root:root 600", "root:root 700"]
    keys = verifier.check_output(
        "find /etc/pgbackrest/verify -name id -printf '%u %m\\n' | sort -u"
    )
    assert keys == "postgres 600"
    for path in (f"{KEYS}/{elsewhere.name}/backup.key", "/etc/pgbackrest/verify"):
        assert verifier.run(f"runuser -u nobody -- ls {path}").rc != 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--of molecule-pgbackrest-trixi", "Those of: molecule-pgbackrest-trixie."),
        ("--of molecule-pgbackrest-trixie --destination local", "offsite, bucket."),
    ],
)
def test_what_this_host_has_no_way_to_is_refused(
    elsewhere: Elsewhere, arguments: str, said: str
) -> None:
    done = elsewhere.verifier.run(f"bedstone verify {arguments}")
    assert done.rc == 3
    assert said in done.stderr
