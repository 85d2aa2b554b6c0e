"""Role backup: databases and uploads, when and how long, destinations and their files of keys."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from bedstone_control import names
from bedstone_control.roles import pgbackrest, postgresql
from bedstone_control.roles.groups import POSTGRESQL
from bedstone_control.roles.role import SSH_KEY, Role, Rotation, Secret, Stage, ssh_key
from bedstone_control.settings import calendar
from bedstone_control.vault import backup_key, content

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from bedstone_control.roles.site import Site
    from bedstone_control.settings.root import Settings

DIRECTORY = "/etc/bedstone/destinations"

_FIELDS = {
    "sftp": ("host", "port", "user", "path", "immutable"),
    "s3": ("endpoint", "bucket", "region", "path", "path_style", "immutable"),
}
_DEFAULTS = {
    "port": 22,
    "path": "",
    "region": "us-east-1",
    "path_style": True,
    "immutable": False,
}


def backup_destinations(
    destinations: Iterable[Mapping[str, Any]],
    repositories: Iterable[Mapping[str, Any]],
    *,
    directory: str,
    point_in_time: bool,
) -> list[dict[str, Any]]:
    """Return the destinations as ``bedstone.storage.destinations`` reads them, without secrets.

    Args:
        destinations: the role's `backup_destinations`.
        repositories: those of them that get WAL, with the numbers of their repositories
            (the filter `pgbackrest_repositories`).
        directory: the role's `backup_directory`.
        point_in_time: whether WAL is archived at all.

    """
    numbers = {entry["name"]: entry["number"] for entry in repositories} if point_in_time else {}
    local = {
        "name": "local",
        "type": "local",
        "restic": f"{directory.rstrip('/')}/.restic",
        "pgbackrest": 1 if point_in_time else None,
    }
    return [
        local,
        *(
            {
                "name": entry["name"],
                "type": entry["type"],
                **{name: _value(entry, name) for name in _FIELDS[entry["type"]]},
                "pgbackrest": numbers.get(entry["name"]),
            }
            for entry in destinations
        ),
    ]


def backup_files(
    destinations: Iterable[Mapping[str, Any]], ssh_files: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the files of keys of all destinations, in the form of converge's `files`.

    Args:
        destinations: the role's `backup_destinations`.
        ssh_files: those of SFTP destinations for another program (the filter `pgbackrest_files`).

    """
    files = []
    for entry in ssh_files:
        path = PurePosixPath(entry["path"])
        files.append(
            {
                **entry,
                "path": f"{DIRECTORY}/{path.parent.name}/{path.name}",
                "owner": "root",
                "group": "root",
            }
        )
    for entry in destinations:
        if entry["type"] == "s3":
            files.append(_s3_keys(entry, "s3.json", ""))
            if entry.get("wal_access_key"):
                # Root tries with PostgreSQL's key, too, to delete at an immutable destination.
                files.append(_s3_keys(entry, "s3-wal.json", "wal_"))
    return files


def _s3_keys(entry: Mapping[str, Any], name: str, prefix: str) -> dict[str, Any]:
    keys = {key: entry[f"{prefix}{key}"] for key in ("access_key", "secret_key")}
    return {
        "path": f"{DIRECTORY}/{entry['name']}/{name}",
        "content": json.dumps(keys) + "\n",
        "sensitive": True,
        "mode": "0600",
    }


def backup_key_directories(
    files: Iterable[Mapping[str, Any]], **attributes: str
) -> list[dict[str, Any]]:
    """Return the directories of a destination's files of keys, as converge's `directories`.

    Made by themselves, they would be everybody's to look into.

    Args:
        files: those of keys, of whatever program.
        attributes: of the directories, like `mode`.

    """
    parents = {PurePosixPath(entry["path"]).parent for entry in files}
    return [
        {"path": str(path), **attributes}
        for path in sorted(parents)
        if path.parent.name == PurePosixPath(DIRECTORY).name
    ]


def _value(entry: Mapping[str, Any], name: str) -> Any:
    value = entry.get(name)
    return _DEFAULTS.get(name) if value is None else value


def databases(site: Site) -> list[dict[str, Any]]:
    """Return role backup's databases on this host, each with its app and its owner."""
    if not site.has("postgresql"):
        return []
    return [
        {"app": app.name, **found}
        for app in site.settings.apps
        if (found := postgresql.database(app)) is not None
    ]


def media(site: Site) -> list[dict[str, Any]]:
    """Return role backup's directories of uploads on this host, each with its app."""
    if not site.has("app"):
        return []
    return [
        {
            "app": app.name,
            "directory": f"{names.CONTENT_DIRECTORY}/{app.name}/media",
            **app.media.model_dump(include={"copy_every_minutes"}, exclude_none=True),
        }
        for app in site.settings.apps
        if app.media and app.media.backup
    ]


def verify_schedule(site: Site) -> str:
    """Return when backups are verified: as said, else on Sundays two hours after the backup."""
    if site.settings.backup.verify_schedule is not None:
        return site.settings.backup.verify_schedule
    days, later = calendar.shifted(site.settings.timezone, site.settings.backup.time, hours=2)
    return f"{'Mon' if days else 'Sun'} *-*-* {later}:00"


def checks(site: Site) -> dict[str, list[str]]:
    """Return the SQL of each app that is true in a backup that is whole."""
    if not site.has("postgresql"):
        return {}
    return {
        app.name: app.backup_checks
        for app in site.settings.apps
        if app.database is not None and app.backup_checks
    }


def verify_host(site: Site) -> str:
    """Return the host that verifies this one's backups, empty when it does so itself."""
    hosts = site.groups.get("verify", [])
    return hosts[0] if hosts and site.has("postgresql") else ""


def origins(site: Site) -> list[dict[str, Any]]:
    """Return the hosts whose backups this one verifies, with the ways to their destinations."""
    if not site.has("verify"):
        return []
    return [
        {
            "name": origin.host,
            "databases": databases(origin),
            "media": media(origin),
            "checks": checks(origin),
            "destinations": pgbackrest.destinations_of(origin),
            "key": pgbackrest.key(origin),
            "point_in_time": pgbackrest.point_in_time(origin),
            "stanza": pgbackrest.STANZA,
        }
        for host in site.groups.get("postgresql", [])
        for origin in [replace(site, host=host)]
    ]


_KEY = Rotation("backup", overlap="each destination gets a new directory; the old ones stay")


def _secrets(settings: Settings) -> Iterator[Secret]:
    purpose = "encrypts all that leaves the servers; make backup-key"
    yield Secret(
        ("backup", "key"),
        purpose,
        lambda _inventory: backup_key.make(),
        rotation=_KEY,
        keeps_previous=True,
    )
    for there in settings.backup.destinations:
        for name in content.secrets_of(there):
            place = ("backup", "destinations", there.name, name)
            if name.endswith("private_key"):
                yield Secret(place, "of an SFTP server: an ssh key", ssh_key, rotation=SSH_KEY)
            else:
                yield Secret(place, "of an S3 bucket")


ROLE = Role(
    name="backup",
    group=POSTGRESQL,
    stage=Stage.DATA,
    arguments={
        "backup_databases": databases,
        "backup_media": media,
        "backup_schedule": lambda site: f"*-*-* {site.settings.backup.time}:00",
        "backup_keep_days": lambda site: site.settings.backup.keep_days,
        "backup_keep_weeks": lambda site: site.settings.backup.keep_weeks,
        "backup_keep_months": lambda site: site.settings.backup.keep_months,
        "backup_directory": lambda site: site.settings.backup.directory,
        "backup_verify_schedule": verify_schedule,
        "backup_checks": checks,
        "backup_verify_host": verify_host,
        "backup_origins": origins,
        "backup_destinations": pgbackrest.destinations_of,
        "backup_key": pgbackrest.key,
        "backup_point_in_time": pgbackrest.point_in_time,
        "backup_keep_point_in_time_days": pgbackrest.keep_days,
    },
    expressions={
        "backup_postgresql_version": "pgbackrest_postgresql_version",
        "backup_postgresql_packages": "postgresql_extra_packages | default([])",
    },
    secrets=_secrets,
)
