"""Kinds of wrong destinations: each is reported with its file and line and a right value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from bedstone_control.checks.problems import report
from bedstone_control.roles.destinations import directory
from bedstone_control.settings.backup import Destination
from bedstone_control.vault import ssh_keys
from tests.unit.bedstone_control.checks.test_check_settings import Case, both, put
from tests.unit.bedstone_control.checks.test_check_settings import (
    test_mistake_is_told_alone_with_place_and_example as told_alone,
)
from tests.unit.fixtures import destinations
from tests.unit.fixtures.destinations import BUCKET, OFFSITE

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.fixtures.sites import Site

OTHER_KEY = "k7qm2-9xwv3-0tz5h-bbyyn-5vpke-qgcbe-dhasf-eq9jy"
ALL = "bedstone_backup.destinations"
SECRETS = "bedstone_secrets.backup.destinations"


def backup(*path: Any) -> Callable[[Site], object]:
    """Return a change of the backups' settings: keys and indexes, then the value."""
    return put("bedstone_backup", *path)


def sftp(*path: Any) -> Callable[[Site], object]:
    """Return a change of the SFTP server."""
    return backup("destinations", 0, "sftp", *path)


def s3(*path: Any) -> Callable[[Site], object]:
    """Return a change of the bucket."""
    return backup("destinations", 1, "s3", *path)


def secret(destination: str, name: str, value: Any) -> Callable[[Site], object]:
    """Return a change of a destination's secret."""
    return lambda site: destinations.secrets_of(site)[destination].__setitem__(name, value)


def key(value: Any) -> Callable[[Site], object]:
    """Return a change of the backup key."""
    return lambda site: site.secrets["bedstone_secrets"]["backup"].update(key=value)


def renamed(index: int, name: str) -> Callable[[Site], object]:
    """Return a change that renames a destination, its secrets included."""

    def change(site: Site) -> None:
        there = site.settings["bedstone_backup"]["destinations"][index]
        kept = destinations.secrets_of(site)
        kept[name] = kept.pop(there["name"])
        there["name"] = name

    return change


CASES = [
    # --- names and kinds
    Case(
        "unknown key of a destination", backup("destinations", 0, "stfp", {}),
        f"{ALL}[offsite].stfp", "Unknown key `stfp`. Did you mean `sftp`?", "sftp:", line="stfp:",
    ),
    Case(
        "unknown key of an SFTP server", sftp("hostkeys", []), f"{ALL}[offsite].sftp.hostkeys",
        "Did you mean `host_keys`?", "host_keys:", line="hostkeys:",
    ),
    Case(
        "unknown key of a bucket", s3("pathstyle", True), f"{ALL}[bucket].s3.pathstyle",
        "Did you mean `path_style`?", "path_style: true", line="pathstyle:",
    ),
    Case(
        "destination with a bad name", renamed(0, "Off_Site"), f"{ALL}[Off_Site].name",
        "lower-case letters, digits and dashes", "name: offsite", line="name: Off_Site",
    ),
    Case(
        "destination called local", renamed(0, "local"), f"{ALL}[local].name",
        "the server itself, which always keeps backups", "name: offsite", line="name: local",
    ),
    Case(
        "two destinations of one name",
        backup("destinations", [OFFSITE, OFFSITE | {"sftp": OFFSITE["sftp"] | {"path": "/b"}}]),
        f"{ALL}[offsite].name", "Two destinations are called `offsite`.", "name: offsite-two",
        problems=2,  # and the secrets of the bucket are left
    ),
    Case(
        "destination of both kinds", backup("destinations", 0, "s3", BUCKET["s3"]),
        f"{ALL}[offsite]", "one of `sftp` and `s3`, and here are both", "sftp:",
        line="- name: offsite",
    ),
    Case(
        "destination of no kind", lambda site: site.settings["bedstone_backup"]["destinations"][0]
        .pop("sftp"),
        f"{ALL}[offsite]", "one of `sftp` and `s3`, and here is neither", "sftp:",
        line="- name: offsite",
    ),
    Case(
        "no host", lambda site: site.settings["bedstone_backup"]["destinations"][0]["sftp"]
        .pop("host"),
        f"{ALL}[offsite].sftp.host", "The key is missing.", "host: backup.example.com",
    ),
    Case(
        "user with a host", sftp("user", "a@b"), f"{ALL}[offsite].sftp.user",
        "does not have the right form", "user: bedstone", line="user: a@b",
    ),
    Case(
        "port out of range", sftp("port", 0), f"{ALL}[offsite].sftp.port", "0 is out of range",
        "port: 22", line="port: 0",
    ),
    Case(
        "bucket with a URL", s3("bucket", "s3://backups"), f"{ALL}[bucket].s3.bucket",
        "does not have the right form", "bucket: example-backups", line="bucket: s3:",
    ),
    Case(
        "uploads copied that are in no backup",
        put("bedstone_apps", 0, "media", {
            "path": "/app/media", "url": "/media/", "backup": False, "copy_every_minutes": 15,
        }),
        "bedstone_apps[payments].media.copy_every_minutes",
        "`backup: false` keeps these uploads out of every copy", "backup: true",
        line="copy_every_minutes:",
    ),
    # --- places
    *(
        Case(
            f"path {path}", sftp("path", path), f"{ALL}[offsite].sftp.path", message,
            "path: /srv/bedstone", line="path:",
        )
        for path, message in (
            ("backups", "does not begin with a slash"),
            ("/srv/../etc", "holds something else than"),
            ("/srv/a b", "holds something else than"),
            ("/", "The root directory is no place"),
            ("/srv/${app}", "Unknown placeholder ${app}. Known is only `host`."),
        )
    ),
    Case(
        "path in the bucket", s3("path", "payments"), f"{ALL}[bucket].s3.path",
        "does not begin with a slash", "path: /payments", line="path: payments",
    ),
    *(
        Case(
            f"endpoint {address}", s3("endpoint", address), f"{ALL}[bucket].s3.endpoint", message,
            "endpoint: https://s3.eu-central-1.example.com", line="endpoint:",
        )
        for address, message in (
            ("http://s3.example.com", "Without TLS"),
            ("https://s3.example.com/backups", "Bucket and path have keys of their own"),
            ("s3://example", "is no address of a service"),
        )
    ),
    *(
        Case(
            f"host key: {message}", sftp("host_keys", [text]), f"{ALL}[offsite].sftp.host_keys[1]",
            message, "ssh-ed25519 AAAA", line=line,
        )
        for text, message, line in (
            ("SHA256:47DEQpj8HBSa", "is no public ssh key", "- SHA256:"),
            ("ssh-ed25519 AAAAC3NzaC1lZDI1", "is damaged", "- ssh-ed25519"),
            (f"@cert-authority * {destinations.HOST_KEY}", "is no line with a key", "cert-"),
            ("# backup.example.com:22 SSH-2.0", "is no line with a key", "- '#"),
            (f"{destinations.HOST_KEY}\n{destinations.HOST_KEY}", "several lines", None),
        )
    ),
    Case(
        "no host key", sftp("host_keys", []), f"{ALL}[offsite].sftp.host_keys",
        "At least one entry", "ssh-ed25519", line="host_keys:",
    ),
    Case(
        "directory of the previous backup key",
        lambda site: site.secrets["bedstone_secrets"].update(
            previous={
                "backup": {
                    "directories": [directory(Destination.model_validate(OFFSITE)), "s3://x/y"]
                }
            }
        ),
        f"{ALL}[offsite].sftp.path", "encrypted with the previous backup key",
        "path:", line="path:",
    ),
    Case(
        "two destinations in one directory",
        both(
            backup("destinations", [OFFSITE, OFFSITE | {"name": "second"}]),
            lambda site: destinations.secrets_of(site).update(
                second=destinations.secrets_of(site)["offsite"]
            ),
            lambda site: destinations.secrets_of(site).pop("bucket"),
        ),
        f"{ALL}[second].sftp.path", "`offsite` and `second` are one and the same directory",
        "path: /srv/bedstone/two", line="path:",
    ),
    Case(
        "two servers in one directory",
        both(
            lambda site: site.groups.update(
                {name: ["web1", "web2"] for name in ("all", "app", "proxy", "postgresql")}
            ),
            s3("path", "/payments/${host}"),
        ),
        f"{ALL}[offsite].sftp.path", "web1 and web2 would write into one directory",
        "path: /srv/bedstone/${host}", line="path:",
    ),
    # --- immutable, and keys of PostgreSQL's own
    Case(
        "immutable SFTP server with WAL", backup("destinations", 0, "immutable", True),
        f"{ALL}[offsite].immutable", "can't be immutable and keep WAL", "wal: false",
        line="immutable:",
    ),
    Case(
        "key for WAL where none goes", s3("wal_key", True), f"{ALL}[bucket].s3.wal_key",
        "`wal: false` keeps none there", "wal: true", line="wal_key:",
    ),
    Case(
        "account for WAL that is the other one",
        both(
            sftp("wal_user", "bedstone"),
            secret("offsite", "wal_private_key", ssh_keys.make_private_key()),
        ),
        f"{ALL}[offsite].sftp.wal_user", "nothing is separated", "wal_user: bedstone-wal",
        line="wal_user:",
    ),
    Case(
        "immutable bucket without keys for WAL",
        both(backup("destinations", 1, "immutable", True), backup("destinations", 1, "wal", True)),
        f"{SECRETS}.bucket", "lacks `wal_access_key` and `wal_secret_key`", "wal_secret_key: …",
        file="vault.yml", line="",
    ),
    Case(
        "key for WAL that is the other one",
        both(
            backup("destinations", 1, "wal", True),
            s3("wal_key", True),
            secret("bucket", "wal_access_key", "another"),
            secret("bucket", "wal_secret_key", "sk/+="),
        ),
        f"{SECRETS}.bucket.wal_secret_key", "PostgreSQL's user could reach them", "wal_secret_key:",
        file="vault.yml", line="",
    ),
    # --- secrets
    Case(
        "no private key", lambda site: destinations.secrets_of(site).pop("offsite"),
        f"{SECRETS}.offsite", "lacks `private_key` of the destination `offsite`",
        "secrets production", file="vault.yml", line="",
    ),
    Case(
        "no keys of the bucket", lambda site: destinations.secrets_of(site).pop("bucket"),
        f"{SECRETS}.bucket", "lacks `access_key` and `secret_key`", "secret_key: …",
        file="vault.yml", line="",
    ),
    Case(
        "secret that the destination has no use for", secret("bucket", "acces_key", "x"),
        f"{SECRETS}.bucket.acces_key", "needs no `acces_key`. Did you mean `access_key`?",
        "access_key: …", file="vault.yml", line="",
    ),
    Case(
        "secrets of a destination that is not declared",
        lambda site: destinations.secrets_of(site).update(bucke={"access_key": "x"}),
        f"{SECRETS}.bucke", "no destination `bucke` in the settings. Did you mean `bucket`?",
        "take `bucke` out", file="vault.yml", line="",
    ),
    Case(
        "secrets of destinations when there are none",
        both(backup("destinations", []), lambda site: destinations.secrets_of(site).pop("bucket")),
        f"{SECRETS}.offsite", "There is none at all.", "take `offsite` out", file="vault.yml",
        line="",
    ),
    Case(
        "private key with an end missing",
        secret("offsite", "private_key", ssh_keys.make_private_key()[:200]),
        f"{SECRETS}.offsite.private_key", "no private key as OpenSSH writes it",
        "-----BEGIN OPENSSH PRIVATE KEY-----", file="vault.yml", line="",
    ),
    Case(
        "secret of a bucket that is a number", secret("bucket", "secret_key", 123456),
        f"{SECRETS}.bucket.secret_key", "not one word of text; put it in quotes",
        'secret_key: "…"', file="vault.yml", line="",
    ),
    # --- the backup key
    Case(
        "no backup key", lambda site: site.secrets["bedstone_secrets"]["backup"].pop("key"),
        "bedstone_secrets.backup.key", "The vault lacks the backup key", "secrets production",
        file="vault.yml", line="",
    ),
    *(
        Case(
            f"backup key that {message}", key(value), "bedstone_secrets.backup.key", message,
            "secrets production", file="vault.yml", line="",
        )
        for value, message in (("Sw0rdfish", "is too short"), (12345678, "is not a text"))
    ),
    Case(
        "key that nobody has shown to hold",
        lambda site: site.settings["bedstone_backup"].pop("key_held"),
        "bedstone_backup.key_held", "kept in a second place", "make backup-key NAME=production",
    ),
    Case(
        "proof of another key", backup("key_held", "q7wx-1mn5-pr8t-v2yb"),
        "bedstone_backup.key_held", "is not the fingerprint of the backup key in the vault",
        "make backup-key NAME=production", line="key_held:",
    ),
    Case(
        "key in place of its fingerprint", lambda site: site.settings["bedstone_backup"].update(
            key_held=site.secrets["bedstone_secrets"]["backup"]["key"].upper()
        ),
        "bedstone_backup.key_held", "This is the key itself, in plain text",
        "make backup-key NAME=production", line="key_held:",
    ),
    # --- how long
    *(
        Case(
            f"point in time for {days} days", backup("keep_point_in_time_days", days),
            "bedstone_backup.keep_point_in_time_days", message, "keep_point_in_time_days: 7",
            line="keep_point_in_time_days:",
        )
        for days, message in ((1, "greater than or equal to 2"), (91, "less than or equal to 90"))
    ),
    Case(
        "point in time that is no yes or no", backup("point_in_time", "always"),
        "bedstone_backup.point_in_time", "must be true or false", "point_in_time: true",
        line="point_in_time:",
    ),
]  # fmt: skip


@pytest.fixture
def offsite(site: Site) -> Site:
    """An inventory with two destinations and without any problem."""
    destinations.declare(site)
    return site


def test_good_destinations_have_no_problem(offsite: Site) -> None:
    assert offsite.check() == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_mistake_is_told_alone(offsite: Site, case: Case) -> None:
    told_alone(offsite, case)


@pytest.mark.parametrize(
    "change",
    [
        sftp("host_keys", [f"[backup.example.com]:2222 {destinations.HOST_KEY}"]),
        sftp("host_keys", [f"{destinations.HOST_KEY} root@backup"]),
        sftp("host", "2001:db8::1"),
        s3("endpoint", "s3.example.com"),
        s3("path", "/"),
        sftp("path", "/srv/${host}/b"),
        backup("point_in_time", False),
    ],
)
def test_other_right_forms_are_taken(offsite: Site, change: Callable[[Site], object]) -> None:
    change(offsite)
    assert offsite.check() == []


def test_without_destinations_nothing_is_asked_of_the_key(site: Site) -> None:
    assert "destinations" not in site.secrets["bedstone_secrets"]["backup"]
    assert site.check() == []
    del site.secrets["bedstone_secrets"]["backup"]  # a vault from before there was one
    assert site.check() == []


def test_no_report_shows_a_secret_of_a_destination(offsite: Site) -> None:
    kept = destinations.secrets_of(offsite)
    kept["offsite"]["private_key"] = kept["offsite"]["private_key"].replace("BEGIN", "BEGUN")
    kept["bucket"] = {"access_key": "AK 1", "secret_key": "sk 2", "another": "kR7-plain"}
    key(OTHER_KEY)(offsite)
    offsite.settings["bedstone_backup"]["key_held"] = OTHER_KEY
    assert OTHER_KEY not in report(offsite.check(), "the settings")
    key("Sw0rdfish")(offsite)
    text = report(offsite.check(), "the settings")
    for shown in ("BEGUN", "AK 1", "sk 2", "kR7-plain", "Sw0rdfish", OTHER_KEY):
        assert shown not in text
