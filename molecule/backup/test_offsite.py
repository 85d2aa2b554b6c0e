"""Backups at a real SFTP and a real S3 server: they arrive, come back, and are missed.

A problem at a destination is reported with its cause, and the data on the server is unchanged.
"""

from __future__ import annotations

import base64
import json
import shlex
from typing import TYPE_CHECKING, Any

import again
import pytest
import units

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from testinfra.host import Host

    from molecule.backup.conftest import Payments

UNITS = ["bedstone-copy.service", "bedstone-destinations.service", "bedstone-uploads.service"]

HOME = "/var/backups/bedstone/payments"
LOCAL = "/var/backups/bedstone/.restic"
KEYS = "/etc/bedstone/destinations/offsite"
DECLARED = "/etc/bedstone/destinations.json"
COPIES = "/run/bedstone-test-copies"
TOLD = "/run/bedstone-test-told.json"
MEDIA = "/srv/bedstone/payments/media"
PROGRAM = """
import sys
sys.path.insert(0, "/usr/local/bin/bedstone")
from bedstone.backup import settings
from bedstone.core.errors import BedstoneError
from bedstone.ledger import database
from bedstone.offsite import copies
from bedstone.rebuild import files
from bedstone.storage import destinations
from bedstone.storage.restic import Repository
"""


class Offsite:
    """A server with a backup that has arrived at both destinations."""

    def __init__(self, payments: Payments, peer: Host, name: str) -> None:
        self.payments = payments
        self.host = payments.host
        self.peer = peer
        self.repository = f"/srv/bedstone/{name}/restic"
        self.name = ""

    def begin(self) -> None:
        """Make a backup, and let systemd copy it as each night."""
        self.payments.begin()
        self.host.check_output(f"touch {COPIES}; rm -rf {TOLD} /root/back")
        self.payments.upload("an invoice in the clear")
        self.name = self.payments.backup().rpartition("/")[2]
        self.host.check_output("systemctl start bedstone-copy.service")
        # Each test damages a fresh copy.
        self.peer.check_output(f"rm -rf {self.repository}.whole")
        self.peer.check_output(f"cp -a {self.repository} {self.repository}.whole")
        for path in (DECLARED, "/etc/bedstone/backup.key", KEYS):
            self.host.check_output(f"rm -rf {path}.whole; cp -a {path} {path}.whole")

    def put_right(self) -> None:
        """Undo what a test has damaged."""
        self.peer.check_output(
            f"rm -rf {self.repository} && cp -a {self.repository}.whole {self.repository};"
            " rm -rf /srv/small/*"
        )
        self.host.check_output("rm -rf /root/back")
        for path in (DECLARED, "/etc/bedstone/backup.key", KEYS):
            self.host.check_output(f"rm -rf {path} && cp -a {path}.whole {path}")

    def copy(self, arguments: str = "") -> Any:
        """Copy the backups of payments to the SFTP server."""
        return self.payments.bedstone(f"copy payments --destination offsite {arguments}")

    def listed(self) -> list[dict[str, Any]]:
        """Return the observations of the destinations, measured now."""
        shown = json.loads(self.payments.bedstone("destinations --check --json").stdout)
        items: list[dict[str, Any]] = shown["items"]
        return items

    def newest(self) -> dict[tuple[str, str], str]:
        """Return the newest backup of payments at each destination, by kind."""
        return {
            (item["destination"], item["kind"]): item["newest"]
            for item in self.listed()
            if item["app"] == "payments"
        }

    def fetch(self, destination: str, kind: str = "dump", app: str = "payments") -> Any:
        """Bring the newest backup back into /root/back."""
        script = (
            "import sys; sys.path.insert(0, '/usr/local/bin/bedstone')\n"
            "from pathlib import Path\n"
            "from bedstone.core.errors import BedstoneError\n"
            "from bedstone.offsite import copies\n"
            "from bedstone.storage import destinations\n"
            f"place, into = destinations.load().get({destination!r}), Path('/root/back')\n"
            "try:\n"
            f"    print(copies.fetch(place, {app!r}, 'latest', into, kind={kind!r}))\n"
            "except BedstoneError as error:\n"
            "    sys.exit(error.text())\n"
        )
        return self.host.run(f"python3 -c {shlex.quote(script)}")

    def program(self, script: str) -> str:
        """Run Python on the server with the host program's modules."""
        return str(self.host.check_output("python3 -c %s", PROGRAM + script)).strip()

    def copied(self, destination: str) -> int:
        """Return how many copies of uploads between backups are there."""
        place = f"Repository(destinations.load().get({destination!r}))"
        return int(self.program(f"print(len({place}.snapshots({{'kind': 'uploads'}})))"))

    def make_due(self) -> None:
        """Let the interval of the uploads be over."""
        change = "UPDATE arrivals SET newest_at = NULL WHERE kind = 'uploads'"
        self.program(f"with database.opened() as ledger:\n    ledger.execute({change!r})")

    def copy_due(self) -> None:
        """Let systemd copy the uploads as their timer does."""
        self.make_due()
        self.host.check_output("systemctl start bedstone-uploads.service")

    def declare(self, **changes: object) -> None:
        """Change how the SFTP server is declared."""
        document = json.loads(self.host.file(DECLARED).content_string)
        for entry in document["destinations"]:
            if entry["name"] == "offsite":
                entry.update(changes)
        text = base64.b64encode(json.dumps(document).encode()).decode()
        self.host.check_output(f"echo {text} | base64 -d > {DECLARED}")


@pytest.fixture(scope="module")
def arrived(app: Payments, peer: Host) -> Offsite:
    """A backup at both destinations."""
    made = Offsite(app, peer, str(app.host.backend.get_hostname()))
    made.begin()
    return made


@pytest.fixture
def offsite(arrived: Offsite) -> Iterator[Offsite]:
    """The same, repaired after the test."""
    yield arrived
    arrived.put_right()


# --- It arrives, and comes back -----------------------------------------------------------------


def test_a_backup_arrives_at_sftp_and_s3_by_the_unit_of_each_night(arrived: Offsite) -> None:
    found = arrived.listed()

    there = {(i["destination"], i["app"], i["kind"]): i for i in found}
    for destination in ("offsite", "bucket"):
        for kind in ("dump", "media"):
            item = there[destination, "payments", kind]
            assert (item["newest"], item["problem"]) == (arrived.name, None)
        assert there[destination, "", "configuration"]["newest"]


def test_nothing_leaves_the_server_in_the_clear(arrived: Offsite) -> None:
    arrived.peer.run_expect([1], f"grep -rqaF 'an invoice in the clear' {arrived.repository}")
    assert arrived.host.file("/etc/bedstone/backup.key").mode == 0o600
    assert arrived.host.file(f"{KEYS}/id").mode == 0o600
    assert arrived.host.file("/etc/bedstone/destinations").mode == 0o700


@pytest.mark.parametrize("destination", ["offsite", "bucket"])
def test_a_lost_disk_is_restored_from_a_destination(arrived: Offsite, destination: str) -> None:
    for path in (LOCAL, HOME):
        arrived.host.check_output(f"mv {path} {path}.lost")
    arrived.payments.sql("DELETE FROM audit.entry; DELETE FROM payment", "payments_migrate")
    arrived.payments.upload("overwritten")
    try:
        arrived.payments.restored(f"{arrived.name} --destination {destination}")
    finally:
        for path in (LOCAL, HOME):
            arrived.host.check_output(f"rm -rf {path}; mv {path}.lost {path}")

    assert arrived.payments.rows() == 500
    assert arrived.payments.uploaded() == "an invoice in the clear"
    # What was brought here is gone again.
    assert arrived.host.run("ls -A /var/cache/bedstone-restore/payments | grep .").rc != 0


def test_the_configuration_comes_back_with_the_ledger(arrived: Offsite) -> None:
    brought = arrived.fetch("bucket", "configuration", app="")

    assert brought.rc == 0, brought.stderr
    directory = str(brought.stdout).strip()
    assert arrived.host.file(f"{directory}/etc/backup.json").exists
    assert not arrived.host.file(f"{directory}/etc/backup.key").exists
    assert arrived.host.file(f"{directory}/ledger.sqlite").size > 0
    arrived.host.check_output("rm -rf /root/back")


def test_uploads_take_their_room_once(arrived: Offsite) -> None:
    arrived.host.check_output(
        "head -c 4000000 /dev/urandom > /srv/bedstone/payments/media/large.bin"
    )
    try:
        arrived.payments.backup()
        before = int(arrived.host.check_output(f"du -sk {LOCAL}").split()[0])

        arrived.payments.backup()
    finally:
        arrived.host.check_output("rm /srv/bedstone/payments/media/large.bin")

    after = int(arrived.host.check_output(f"du -sk {LOCAL}").split()[0])
    assert after - before < 200


# --- Uploads between the backups ------------------------------------------------------------------


def test_uploads_written_after_the_backup_come_back(offsite: Offsite) -> None:
    offsite.payments.upload("written after the backup")

    offsite.copy_due()

    assert offsite.newest()["offsite", "dump"] == offsite.name
    assert offsite.newest()["offsite", "uploads"].startswith("uploads_")
    for destination in ("offsite", "bucket"):
        offsite.host.check_output(f"rm -rf {MEDIA}")
        # What a rebuild does once the databases are there.
        script = f"files.uploads(settings.load(), destinations.load().get({destination!r}), print)"
        assert "payments: brought back 1 uploaded files" in offsite.program(script)
        assert offsite.payments.uploaded() == "written after the backup"
    offsite.peer.run_expect([1], f"grep -rqaF 'written after the backup' {offsite.repository}")


def test_unchanged_uploads_add_no_snapshot(offsite: Offsite) -> None:
    # Another one than that of the backup, which is compared as well.
    offsite.payments.upload("written once")
    offsite.copy_due()
    before = offsite.copied("offsite"), offsite.copied("bucket")

    offsite.copy_due()
    said = offsite.payments.bedstone("copy payments --uploads")

    assert said.rc == 0, said.stderr
    assert "offsite: has payments: no new uploads" in said.stdout
    assert (offsite.copied("offsite"), offsite.copied("bucket")) == before
    assert [i for i in offsite.listed() if i["kind"] == "uploads" and i["problem"]] == []


def test_uploads_of_the_backup_are_not_sent_again(offsite: Offsite) -> None:
    offsite.payments.backup()
    assert offsite.copy().rc == 0
    before = offsite.copied("offsite")
    assert offsite.payments.bedstone("copy payments --uploads --destination offsite").rc == 0
    assert offsite.copied("offsite") == before


def test_uploads_reach_the_other_destination_when_one_is_away(offsite: Offsite) -> None:
    offsite.payments.upload("written while one is away")
    offsite.declare(port=9)
    before = offsite.copied("bucket")

    ended = offsite.payments.bedstone("copy payments --uploads")

    assert ended.rc == 1
    assert "offsite" in ended.stderr
    assert "can't be reached" in ended.stderr
    assert offsite.copied("bucket") == before + 1
    # Its turn comes every few minutes: it isn't the unit that has failed.
    offsite.copy_due()


def test_uploads_leave_the_turn_to_a_copy_that_is_running(offsite: Offsite) -> None:
    offsite.make_due()
    before = offsite.copied("offsite")
    offsite.payments.upload("written during a copy")
    lock = "/run/bedstone/locks/copies.run.lock"

    ended = offsite.host.run(f"flock {lock} /usr/local/bin/bedstone copy --uploads --due")

    assert ended.rc == 0
    assert "have their turn in five minutes" in ended.stderr
    assert offsite.copied("offsite") == before


# --- Damage -------------------------------------------------------------------------------------

EACH_PACK = "find {repository}/data -type f -exec chmod u+w {{}} + -exec {harm} \\;"


def _truncated(offsite: Offsite) -> Any:
    harm = "truncate -s 100 {}"
    offsite.peer.check_output(EACH_PACK.format(repository=offsite.repository, harm=harm))
    return offsite.fetch("offsite")


def _flipped(offsite: Offsite) -> Any:
    harm = "sh -c 'printf UU | dd of=$0 bs=1 seek=64 conv=notrunc status=none' {}"
    offsite.peer.check_output(EACH_PACK.format(repository=offsite.repository, harm=harm))
    return offsite.fetch("offsite")


def _wrong_key(offsite: Offsite) -> Any:
    offsite.host.check_output("echo another-key-than-before > /etc/bedstone/backup.key")
    return offsite.copy()


def _gone(offsite: Offsite) -> Any:
    offsite.peer.check_output(f"rm -rf {offsite.repository}")
    return offsite.copy()


def _unknown_host_key(offsite: Offsite) -> Any:
    offsite.host.check_output(
        "rm -f /root/other*; ssh-keygen -q -t ed25519 -N '' -f /root/other;"
        f" echo offsite $(cut -d' ' -f1,2 /root/other.pub) > {KEYS}/known_hosts"
    )
    return offsite.copy()


def _refused(offsite: Offsite) -> Any:
    offsite.host.check_output(
        f"rm -f {KEYS}/id {KEYS}/id.pub; ssh-keygen -q -t ed25519 -N '' -f {KEYS}/id"
    )
    return offsite.copy()


def _unreachable(offsite: Offsite) -> Any:
    offsite.declare(port=9)
    return offsite.copy()


def _full(offsite: Offsite) -> Any:
    offsite.declare(path="/srv/small")
    offsite.peer.check_output(
        "install -d -o bedstone -m 700 /srv/small/restic;"
        " head -c 20000000 /dev/zero > /srv/small/filler 2>/dev/null || true"
    )
    return offsite.copy("--new-repository")


DAMAGES: dict[str, tuple[Callable[[Offsite], Any], str]] = {
    "truncated pack": (_truncated, "The repository at offsite is damaged"),
    "flipped bytes": (_flipped, "The repository at offsite is damaged"),
    "wrong key": (_wrong_key, "The backup key doesn't open the repository at offsite"),
    "repository gone": (_gone, "is gone: the last copy arrived there"),
    "unknown host key": (_unknown_host_key, "The host key of offsite"),
    "key refused": (_refused, "refuses this server's key"),
    "out of reach": (_unreachable, "can't be reached"),
    "disk full": (_full, "has no room left"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_at_a_destination_is_told_and_harms_nothing_here(
    offsite: Offsite, damage: str
) -> None:
    before = offsite.host.check_output(f"find {HOME} -type f -exec sha256sum {{}} + | sort")
    harm, words = DAMAGES[damage]

    ended = harm(offsite)

    assert ended.rc in {1, 3}, ended.stdout
    assert words in ended.stderr
    assert offsite.host.check_output(f"find {HOME} -type f -exec sha256sum {{}} + | sort") == before
    assert offsite.host.run("ls -A /root/back 2>/dev/null").stdout == ""
    assert "intact" in offsite.payments.bedstone("backups payments --check").stdout or (
        damage == "wrong key"
    )


def test_a_killed_copy_leaves_nothing_that_counts_and_the_next_one_sends_it(
    offsite: Offsite, wait_until: Callable[..., None]
) -> None:
    host = offsite.host
    host.check_output("head -c 60000000 /dev/urandom > /srv/bedstone/payments/media/large.bin")
    try:
        name = offsite.payments.backup().rpartition("/")[2]
        units.run_until(
            host,
            "systemctl start --no-block bedstone-copy.service",
            "pgrep -f '^restic.* copy '",
            "systemctl kill --signal=KILL bedstone-copy.service",
        )
        wait_until(
            lambda: host.run("systemctl is-failed bedstone-copy.service").rc == 0, seconds=60
        )
        # The hook gets it; the next test must not see that.
        units.settle(host)

        found = offsite.newest()
        assert found["local", "dump"] == name
        assert found["offsite", "dump"] != name

        done = offsite.copy()
        assert done.rc == 0, done.stderr
        found = offsite.newest()
        assert found["offsite", "media"] == name
    finally:
        host.check_output("rm -f /srv/bedstone/payments/media/large.bin")


def test_second_copy_waits_for_the_first(offsite: Offsite, wait_until: Callable[..., None]) -> None:
    host = offsite.host
    lock = "/run/bedstone/locks/copies.run.lock"
    host.check_output(
        "systemd-run --quiet --collect --unit bedstone-test-first"
        f" flock --no-fork {lock} sleep infinity"
    )
    wait_until(lambda: host.run(f"flock --nonblock {lock} true").rc != 0, seconds=60)

    second = host.run(
        "/usr/local/bin/bedstone copy payments --destination offsite & pid=$!;"
        f" asks() {{ find /proc/$pid/fd -lname {lock} | grep -q .; }};"
        " until asks || ! kill -0 $pid; do :; done; begun=$(ps -o etimes= -p $pid);"
        # Who doesn't wait gives up within an instant.
        " while asks && [ $(ps -o etimes= -p $pid) -lt $((begun + 3)) ]; do :; done;"
        " asks && echo 'it still waits';"
        " systemctl stop bedstone-test-first; wait $pid"
    )

    assert second.rc == 0, second.stderr
    assert second.stdout.startswith("it still waits"), second.stdout


# --- Freshness ----------------------------------------------------------------------------------


def test_a_timer_that_was_stopped_for_a_day_turns_red_and_is_told_once(
    offsite: Offsite, wait_until: Callable[..., None]
) -> None:
    host = offsite.host
    units.settle(host)
    host.check_output(f"rm -f {TOLD}; touch -d '3 days ago' {DECLARED}")
    older = "timedelta(hours=27)"
    for name in offsite.payments.names():
        offsite.payments.rewrite(
            f"{HOME}/{name}", f"started=found.started - {older}, finished=found.finished - {older}"
        )

    host.check_output("systemctl start bedstone-destinations.service")

    wait_until(
        lambda: host.file(TOLD).exists and host.file(TOLD).content_string.endswith("}"),
        seconds=60,
        what="the hook is told",
    )
    told = json.loads(host.file(TOLD).content_string)
    assert told["event"] == "failure"
    assert "dump of payments at local: the newest there is 1 day old" in told["details"]
    host.check_output(f"rm {TOLD}; systemctl start bedstone-destinations.service")
    assert not host.file(TOLD).exists


# --- The role -----------------------------------------------------------------------------------


def test_destinations_without_a_key_are_refused(server_name: str) -> None:
    said = again.refused(server_name, backup_key="")

    assert "There is no key to encrypt what goes to offsite" in said
