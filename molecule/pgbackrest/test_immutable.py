"""A server that is broken into can't destroy its backups: attacked with all the keys it has."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import again
import pytest

if TYPE_CHECKING:
    from testinfra.host import Host

    from molecule.pgbackrest.conftest import Cluster

UNITS = ["bedstone-alarms.service", "bedstone-copy.service", "postgresql@*"]
MEDIA = "/srv/bedstone/payments/media"
ACCOUNT = "/home/archive/.ssh/authorized_keys"
LOCK = """<ObjectLockConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
<ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>COMPLIANCE</Mode>
<Days>30</Days></DefaultRetention></Rule></ObjectLockConfiguration>"""
# The service's own way, on its own machine: moto takes any key.
BUCKET = f"""
set -e
call() {{ curl -fsS --user a:b --aws-sigv4 aws:amz:us-east-1:s3 -X PUT "$@"; }}
call -H 'x-amz-bucket-object-lock-enabled: true' http://127.0.0.1:5000/vault
call -H 'content-type: application/xml' -d '{LOCK}' 'http://127.0.0.1:5000/vault?object-lock'
"""
APPENDS = "rclone serve restic --stdio --append-only --config /dev/null /srv/archive"
DELETES = APPENDS.replace(" --append-only", "")
IMMUTABLE: list[dict[str, Any]] = [
    {
        "name": "vault",
        "type": "s3",
        "immutable": True,
        "endpoint": "offsite",
        "bucket": "vault",
        "region": "eu-central-1",
        "path": "/trixie",
        "access_key": "roots-key",
        "secret_key": "roots-secret",
        "wal_access_key": "postgresqls-key",
        "wal_secret_key": "postgresqls-secret",
    },
    {
        "name": "archive",
        "type": "sftp",
        "immutable": True,
        "wal": False,
        "host": "offsite",
        "user": "archive",
        "path": "/srv/archive",
        "host_keys": "{{ lookup('file', offsite_files ~ '/host_keys').splitlines() }}",
        "private_key": "{{ lookup('file', offsite_files ~ '/id') }}",
    },
]
# With each key of the bucket: every version, then every object, overwritten and deleted.
ATTACK = """
from pathlib import Path
from bedstone.storage import destinations, s3
place = destinations.load().get("vault")
refused = gone = 0
for file in (s3.FILE, s3.WAL_FILE):
    bucket = s3.Bucket(place, s3.read_keys(place.secrets / file))
    found = list(bucket.versions("trixie/"))
    for version in (version for version in found if not version.deleted):
        try:
            bucket.delete(version.key, version.id)
            gone += 1
        except s3.S3Error as error:
            refused += error.is_refusal
for key in {version.key for version in found}:
    bucket.put(key, b"pay us")
    bucket.delete(key)
print(refused, gone)
"""
# As `bedstone` calls restic, and what else an ssh account might do.
ATTACK_SSH = """
set +e
login='ssh -F none -l archive -i /etc/bedstone/destinations/archive/id -o BatchMode=yes
  -o UserKnownHostsFile=/etc/bedstone/destinations/archive/known_hosts offsite'
login=$(echo $login)
restic() { timeout 100 /usr/bin/restic -r rclone:archive: -o rclone.program="$login" --no-cache \\
  --password-file=/etc/bedstone/backup.key "$@"; }
restic forget --unsafe-allow-remove-all --prune --tag app=payments
restic key remove $(restic key list --json | grep -o '"id":"[0-9a-f]*' | cut -c7-)
timeout 20 $login rm -rf /srv/archive < /dev/null
echo 'rm /srv/archive/config' | timeout 20 sftp -b - -oBatchMode=yes -oUser=archive \\
  -i /etc/bedstone/destinations/archive/id \\
  -oUserKnownHostsFile=/etc/bedstone/destinations/archive/known_hosts offsite
true
"""


@dataclass(frozen=True)
class Attacked:
    """The server after the attack.

    Attributes:
        cluster: its PostgreSQL.
        moment: before the last payment.
        before: before the attack, when that payment had been archived.
        refused: how many versions the bucket kept.
        gone: how many it gave up.

    """

    cluster: Cluster
    moment: str
    before: str
    refused: int
    gone: int

    def restored(self, arguments: str) -> Any:
        """Restore the app's database next to what serves, and return its payments."""
        self.cluster.sql("DROP DATABASE IF EXISTS payments_then WITH (FORCE)", "postgres")
        done = self.cluster.run(f"restore payments --into payments_then --yes {arguments}")
        if done.rc != 0:
            return done.stderr
        return self.cluster.sql("SELECT title FROM payment ORDER BY id", "payments_then")


def account(offsite: Host, command: str) -> None:
    """Let the server run one command at the other side."""
    offsite.check_output(
        f"sed 's#^#restrict,command=\"{command}\" #' /home/bedstone/.ssh/authorized_keys"
        f" > {ACCOUNT}"
    )


@pytest.fixture(scope="module")
def immutable(cluster: Cluster, offsite: Host) -> Iterator[Cluster]:
    """The server with a bucket with an object lock, and an account that only appends."""
    offsite.check_output(
        "apt-get install -qq --no-install-recommends rclone > /dev/null"
        " && { id archive || useradd --create-home --password '*' archive; } > /dev/null"
        f" && install -d -o archive -m 700 /srv/archive && install -d -o archive {ACCOUNT[:-16]}"
    )
    account(offsite, APPENDS)
    offsite.check_output(BUCKET)
    server_name = str(cluster.host.backend.get_hostname())
    again.applied(
        server_name, pgbackrest_destinations="{{ sftp + s3 + immutable }}", immutable=IMMUTABLE
    )
    yield cluster
    again.applied(server_name)


@pytest.fixture(scope="module")
def attacked(immutable: Cluster) -> Attacked:
    """Payments and uploads that were backed up, and then the attack."""
    immutable.host.check_output(f"mkdir -p {MEDIA} && echo 'an invoice' > {MEDIA}/invoice.txt")
    immutable.pay("in the dump")
    immutable.bedstone("backup payments")
    for name in ("vault", "archive"):
        immutable.bedstone(f"copy --destination {name}")
    immutable.backup("full", "vault")
    immutable.pay("in the WAL alone")
    # Buckets count in seconds.
    now = "sleep 1; date -u '+%Y-%m-%d %H:%M:%S+00:00'; sleep 2"
    moment = immutable.host.check_output(now)
    # A moment is only reached when a later payment is in the WAL.
    immutable.pay("after the moment")
    immutable.bedstone("wal ready")
    before = immutable.host.check_output(now)
    done = immutable.python(ATTACK)
    assert done.rc == 0, done.stderr
    refused, gone = map(int, done.stdout.split())
    immutable.host.run(f"cat > /run/attack.sh <<'END'\n{ATTACK_SSH}\nEND\nbash /run/attack.sh")
    return Attacked(immutable, moment.strip(), before.strip(), refused, gone)


def alarms(cluster: Cluster) -> dict[str, tuple[str, str]]:
    """Look for alarms now, and return those about immutable destinations."""
    found = json.loads(cluster.run("alarms --json").stdout)
    assert "immutable" not in found["unjudged"]
    return {
        alarm["name"]: (alarm["severity"], alarm["words"])
        for alarm in found["alarms"]
        if alarm["name"].startswith("immutable/")
    }


def test_keys_of_the_log_and_of_the_backups_are_apart(immutable: Cluster) -> None:
    host = immutable.host
    conf = host.check_output("cat /etc/pgbackrest/pgbackrest.conf")
    assert "s3-key=postgresqls-key" in conf
    assert "roots-" not in conf
    for path in ("/etc/bedstone/destinations/vault/s3.json", "/etc/bedstone/destinations"):
        assert host.run(f"runuser -u postgres -- ls {path}/").rc != 0
        assert host.run(f"runuser -u postgres -- cat {path}").rc != 0


def test_refused_deletion_is_not_red(immutable: Cluster) -> None:
    immutable.bedstone("copy")
    # moto knows no rights: the lock alone refuses, and that is told.
    ((name, (severity, words)),) = alarms(immutable).items()
    assert (name, severity) == ("immutable/vault", "warning")
    assert "backups and WAL at vault can be deleted for good once their lock has ended" in words


def test_bucket_keeps_every_version(attacked: Attacked) -> None:
    assert attacked.refused > 0
    assert attacked.gone == 0


def test_attack_has_destroyed_what_is_seen_at_present(attacked: Attacked) -> None:
    assert "There is no" in attacked.restored("latest --destination vault")


def test_dump_comes_back_as_of_before_the_attack(attacked: Attacked) -> None:
    rows = attacked.restored(f"latest --destination vault --as-of '{attacked.before}'")
    assert rows.splitlines()[-1] == "in the dump"


def test_log_comes_back_as_of_before_the_attack(attacked: Attacked) -> None:
    wanted = f"--time '{attacked.moment}' --destination vault --as-of '{attacked.before}'"
    rows = attacked.restored(wanted)
    assert rows.splitlines()[-1] == "in the WAL alone"


def test_account_that_only_appends_has_all_that_it_had(attacked: Attacked) -> None:
    rows = attacked.restored("latest --destination archive")
    assert rows.splitlines()[-1] == "in the dump"


def test_account_can_only_be_read_as_it_is(attacked: Attacked) -> None:
    said = attacked.restored(f"latest --destination archive --as-of '{attacked.before}'")
    assert "a versioned S3 bucket" in said


@pytest.mark.usefixtures("attacked")
def test_bucket_without_a_lock_is_red(
    immutable: Cluster, configuration: Callable[..., None]
) -> None:
    path = "/etc/bedstone/destinations.json"
    configuration('s/"bucket": "vault"/"bucket": "backups"/', path)
    severity, words = alarms(immutable)["immutable/vault"]
    assert severity == "red"
    assert "backups and WAL at vault can be deleted for good" in words
    # It was put back, and is deleted again.
    assert alarms(immutable)["immutable/vault"][0] == "red"


@pytest.mark.usefixtures("attacked")
def test_account_that_deletes_is_red(immutable: Cluster, offsite: Host) -> None:
    account(offsite, DELETES)
    try:
        severity, words = alarms(immutable)["immutable/archive"]
    finally:
        account(offsite, APPENDS)
    assert severity == "red"
    assert "snapshots at archive can be deleted for good" in words
    assert set(alarms(immutable)) == {"immutable/vault"}
