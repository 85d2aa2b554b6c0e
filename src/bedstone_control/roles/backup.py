"""Shape role backup's destinations: the host program's file, and the files of keys."""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DIRECTORY = "/etc/bedstone/destinations"

_FIELDS = {
    "sftp": ("host", "port", "user", "path"),
    "s3": ("endpoint", "bucket", "region", "path", "path_style"),
}
_DEFAULTS = {"port": 22, "path": "", "region": "us-east-1", "path_style": True}


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
            keys = {name: entry[name] for name in ("access_key", "secret_key")}
            files.append(
                {
                    "path": f"{DIRECTORY}/{entry['name']}/s3.json",
                    "content": json.dumps(keys) + "\n",
                    "sensitive": True,
                    "mode": "0600",
                }
            )
    return files


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
