"""Role pgbackrest: the WAL's destinations as numbered repositories, files of keys, errors."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from bedstone_control.roles.destinations import entries as destination_entries
from bedstone_control.roles.groups import POSTGRESQL
from bedstone_control.roles.role import Role, Stage
from bedstone_control.settings import calendar
from bedstone_control.vault import content

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bedstone_control.roles.site import Site

DIRECTORY = "/etc/pgbackrest/destinations"
# 1 is the server itself.
FIRST_NUMBER = 2
SSH_PORT = 22
STANZA = "main"

_KEY_TYPE = re.compile(r"^(ssh|ecdsa|sk)-\S+$")
_OWN = ("user", "private_key", "access_key", "secret_key")
_NEEDED = {
    "sftp": ("host", "user", "path", "host_keys", "private_key"),
    "s3": ("endpoint", "bucket", "access_key", "secret_key"),
}


def pgbackrest_repositories(
    destinations: Iterable[Mapping[str, Any]], *, own_keys: bool = True
) -> list[dict[str, Any]]:
    """Return the destinations that get WAL, each with the number of its repository.

    Args:
        destinations: the role's `pgbackrest_destinations`, in their order.
        own_keys: with the account and the keys that are PostgreSQL's own where it has some, not
            with those that root has for the other backups.

    """
    found = [
        {**entry, **(_own(entry) if own_keys else {})}
        for entry in destinations
        if entry.get("wal", True)
    ]
    return [
        {
            "port": SSH_PORT,
            "region": "us-east-1",
            "path_style": True,
            **{name: value for name, value in entry.items() if value is not None},
            "number": number,
            "path": f"{(entry.get('path') or '').rstrip('/')}/pgbackrest",
            "directory": f"{DIRECTORY}/{entry['name']}",
        }
        for number, entry in enumerate(found, start=FIRST_NUMBER)
    ]


def _own(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the account and the keys at a destination that are PostgreSQL's own."""
    return {name: entry[f"wal_{name}"] for name in _OWN if entry.get(f"wal_{name}")}


def pgbackrest_files(repositories: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the files of keys of all SFTP repositories, in the form of converge's `files`."""
    common = {"owner": "postgres", "group": "postgres", "mode": "0600"}
    return [
        {"path": f"{entry['directory']}/{name}", "content": content, "sensitive": secret, **common}
        for entry in repositories
        if entry["type"] == "sftp"
        for name, content, secret in (
            ("id", entry["private_key"].rstrip("\n") + "\n", True),
            ("known_hosts", known_hosts(entry["host"], entry["port"], entry["host_keys"]), False),
        )
    ]


def known_hosts(host: str, port: int, keys: Iterable[str]) -> str:
    """Return a known_hosts file of a server's keys.

    Args:
        host: the server, as it is connected to.
        port: its port.
        keys: lines with or without a host's name in front.

    """
    name = host if port == SSH_PORT else f"[{host}]:{port}"
    lines = []
    for key in keys:
        words = key.split()
        # ssh-keyscan puts a name in front, a server's own file doesn't.
        place = next((i for i, word in enumerate(words) if _KEY_TYPE.match(word)), None)
        if place is not None and len(words) > place + 1:
            lines.append(f"{name} {words[place]} {words[place + 1]}\n")
    return "".join(lines)


def pgbackrest_checks(
    destinations: Iterable[Mapping[str, Any]], *, has_key: bool, every: bool = False
) -> list[dict[str, Any]]:
    """Return for each destination whether it can be used, and if not, why.

    Args:
        destinations: the role's `pgbackrest_destinations`.
        has_key: whether there is a key to encrypt with.
        every: those without WAL, too.

    """
    return [
        {"name": entry["name"], "ok": message is None, "message": message or ""}
        for entry in destinations
        for message in [_problem(entry, has_key=has_key, every=every)]
    ]


def _problem(entry: Mapping[str, Any], *, has_key: bool, every: bool) -> str | None:
    name, kind, wal = entry["name"], entry["type"], entry.get("wal", True)
    if not wal and not every:
        return None
    if not has_key:
        return (
            f"There is no key to encrypt what goes to {name}: `bedstone_secrets.backup.key` in the"
            " vault (`make backup-key` makes one). Nothing was changed."
        )
    if wal and entry.get("immutable") and kind == "sftp":
        return (
            f"The destination {name} can't be immutable and keep WAL: pgBackRest replaces files,"
            " which an account that only appends refuses. Nothing was changed."
        )
    needed = list(_NEEDED[kind])
    if wal and (entry.get("immutable") or entry.get("wal_user")):
        needed += [f"wal_{field}" for field in needed if field in _OWN]
    missing = [field for field in needed if not entry.get(field)]
    if missing:
        return f"The destination {name} lacks {', '.join(missing)}. Nothing was changed."
    if kind == "sftp" and not known_hosts(entry["host"], SSH_PORT, entry["host_keys"]):
        return (
            f"`host_keys` of {name} holds no ssh key: give the lines that `ssh-keyscan"
            f" {entry['host']}` prints, compared with those on the server. Nothing was changed."
        )
    return None


def point_in_time(site: Site) -> bool:
    """Return whether this host has a database of which any moment can be restored."""
    return site.has("postgresql") and site.settings.backup.point_in_time


def keep_days(site: Site) -> int:
    """Return of how many days any moment can be restored."""
    return site.settings.backup.keep_point_in_time_days


def archive_command(site: Site) -> str:
    """Return what archives PostgreSQL's WAL, empty when nothing does."""
    return f"/usr/bin/pgbackrest --stanza={STANZA} archive-push %p" if point_in_time(site) else ""


def destinations_of(site: Site) -> list[dict[str, Any]]:
    """Return the destinations other than the host, secrets included."""
    return destination_entries(site) if site.has("postgresql") else []


def key(site: Site) -> str:
    """Return what encrypts all that leaves the host, empty when it backs nothing up."""
    found = content.backup_key({"bedstone_secrets": dict(site.secrets)})
    return str(found) if found is not None and site.has("postgresql") else ""


def _hour_before(site: Site) -> str:
    """Return the time an hour before the nightly backup: both at once would slow each other."""
    return calendar.shifted(site.settings.timezone, site.settings.backup.time, hours=-1)[1]


ROLE = Role(
    name="pgbackrest",
    group=POSTGRESQL,
    stage=Stage.DATA,
    arguments={
        "pgbackrest_point_in_time": point_in_time,
        "pgbackrest_keep_days": keep_days,
        "pgbackrest_full_schedule": lambda site: f"Sun *-*-* {_hour_before(site)}:00",
        "pgbackrest_incremental_schedule": lambda site: f"Mon..Sat *-*-* {_hour_before(site)}:00",
        "pgbackrest_destinations": destinations_of,
        "pgbackrest_key": key,
    },
    expressions={
        # The version that an inventory gives to role postgresql.
        "pgbackrest_postgresql_version": "postgresql_version"
        " | default(ansible_facts.distribution_release | debian_postgresql_major)",
    },
    filters=(pgbackrest_checks, pgbackrest_files, pgbackrest_repositories),
)
