"""List what a host needs to verify the backups of others: destinations, keys, expectations.

Each origin has directories of its own there, which the host program finds by its name
(`paths.of_origin` in src/bedstone). Nothing leads to the origin itself.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bedstone.core import names as host_names
from bedstone_control.roles import backup, pgbackrest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

HOME = "/etc/bedstone/verify"
PGBACKREST = "/etc/pgbackrest/verify"

# Of PostgreSQL's user, who fetches the log and has to read the keys for it.
_POSTGRES = {"group": "postgres", "mode": "0750"}


def packages(origins: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what is needed to fetch the backups of all origins."""
    found = ["restic", "openssh-client", "zstd"]
    return [*found, "pgbackrest"] if any(_repositories(origin) for origin in origins) else found


def directories(origins: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the directories of all origins, in the form of converge's `directories`."""
    result = []
    for origin in origins:
        home = f"{HOME}/{origin['name']}"
        keys = [f"destinations/{there['name']}" for there in origin["destinations"]]
        below = ("", "/destinations", *(f"/{path}" for path in keys))
        result += [{"path": home + path, "mode": "0700"} for path in below]
        if repositories := _repositories(origin):
            place = f"{PGBACKREST}/{origin['name']}"
            keys = [f"{place}/destinations/{there['name']}" for there in repositories]
            below = (PGBACKREST, place, f"{place}/destinations", *keys)
            result += [{"path": path, **_POSTGRES} for path in below]
    return list({entry["path"]: entry for entry in result}.values())


def files(
    origins: Iterable[Mapping[str, Any]],
    *,
    host: str,
    verify: Mapping[str, Any],
    reserve_mb: int,
    jobs: int,
    processes: int,
) -> list[dict[str, Any]]:
    """Return the files of all origins, in the form of converge's `files`.

    Args:
        origins: the role's `backup_origins`.
        host: the host that verifies.
        verify: `directory` and `limit_minutes` of the verifications.
        reserve_mb: what stays free on the disk.
        jobs: parallel processes of a restore; 0 for as many as processors.
        processes: likewise, of pgBackRest.

    """
    result = []
    for origin in origins:
        home = f"{HOME}/{origin['name']}"
        settings = {
            "schema": 1,
            # There is none: what an origin keeps itself is out of reach here.
            "directory": f"{home}/backups",
            "keep_days": 1,
            "keep_at_least": 1,
            "reserve_mb": reserve_mb,
            "jobs": jobs,
            "socket": "/nonexistent",
            "port": 5432,
            "databases": list(origin["databases"]),
            "media": list(origin["media"]),
            "verify": {
                **verify,
                "checks": dict(origin["checks"]),
                "host": host,
                "origin": origin["name"],
            },
        }
        result += [
            _json(f"{home}/backup.json", settings),
            _json(f"{home}/destinations.json", _destinations(origin, home)),
            {
                "path": f"{home}/backup.key",
                "content": f"{origin['key']}\n",
                "mode": "0600",
                "sensitive": True,
            },
            *_keys(origin, home),
            *_pgbackrest(origin, processes),
        ]
    return result


def units(origins: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the timers of all origins, in the form of converge's `units`."""
    return [
        {"name": name, "enabled": True, "state": "started", "restart_on": [path]}
        for origin in origins
        for name, path in [_timer(origin)]
    ]


def timers(origins: Iterable[Mapping[str, Any]], template: str) -> list[dict[str, Any]]:
    """Return the files of these timers, made of a template of the role."""
    return [{"path": _timer(origin)[1], "template": template} for origin in origins]


def _timer(origin: Mapping[str, Any]) -> tuple[str, str]:
    # A file of its own for each: it is stopped and goes when its origin does.
    name = host_names.verify_timer(origin["name"])
    return name, f"/etc/systemd/system/{name}"


def _json(path: str, content: Any) -> dict[str, Any]:
    return {"path": path, "content": json.dumps(content, indent=4) + "\n", "mode": "0600"}


def _repositories(origin: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the destinations with the log of an origin's database."""
    if not origin["point_in_time"]:
        return []
    return pgbackrest.pgbackrest_repositories(origin["destinations"])


def _destinations(origin: Mapping[str, Any], home: str) -> dict[str, Any]:
    """Return what src/bedstone/storage/destinations.py reads."""
    places = backup.backup_destinations(
        origin["destinations"],
        _repositories(origin),
        directory=f"{home}/backups",
        point_in_time=origin["point_in_time"],
    )
    places[0]["pgbackrest"] = None
    point = {
        "stanza": origin["stanza"],
        # Nothing is archived and nothing removed here.
        "keep_days": 1,
        "keep_full": 1,
        "archive_timeout_seconds": 60,
    }
    return {
        "schema": 1,
        "point_in_time": point if _repositories(origin) else None,
        "destinations": places,
    }


def _keys(origin: Mapping[str, Any], home: str) -> list[dict[str, Any]]:
    """Return the keys of the destinations, for root."""
    everywhere = [{**entry, "wal": True} for entry in origin["destinations"]]
    ssh = pgbackrest.pgbackrest_files(
        pgbackrest.pgbackrest_repositories(everywhere, own_keys=False)
    )
    return _below(
        backup.backup_files(origin["destinations"], ssh),
        backup.DIRECTORY,
        f"{home}/destinations",
    )


def _pgbackrest(origin: Mapping[str, Any], processes: int) -> list[dict[str, Any]]:
    """Return pgBackRest's settings and keys, for PostgreSQL's user."""
    repositories = _repositories(origin)
    if not repositories:
        return []
    place = f"{PGBACKREST}/{origin['name']}"
    keys = f"{place}/destinations"
    lines = [
        "# Made by Bedstone's role backup; reads what another server has archived.",
        "[global]",
        f"process-max={processes}",
        "io-timeout=30",
        "archive-async=n",
        "log-level-console=warn",
        "log-level-file=off",
    ]
    for repository in repositories:
        there = {**repository, "directory": f"{keys}/{repository['name']}"}
        lines += ["", f"# {repository['name']}", *_repository(there, str(origin["key"]))]
    # pgBackRest requires the path of a cluster; a restore names the directory that it goes to.
    lines += ["", f"[{origin['stanza']}]", "pg1-path=/nonexistent", ""]
    return [
        {
            "path": f"{place}/pgbackrest.conf",
            "content": "\n".join(lines),
            "group": "postgres",
            "mode": "0640",
            "sensitive": True,
        },
        *_below(pgbackrest.pgbackrest_files(repositories), pgbackrest.DIRECTORY, keys),
    ]


def _repository(there: Mapping[str, Any], key: str) -> list[str]:
    given = {
        "type": there["type"],
        "path": there["path"],
        "cipher-type": "aes-256-cbc",
        "cipher-pass": key,
    }
    if there["type"] == "s3":
        given |= {
            "s3-endpoint": there["endpoint"],
            "s3-bucket": there["bucket"],
            "s3-region": there["region"],
            "s3-uri-style": "path" if there["path_style"] else "host",
            "s3-key": there["access_key"],
            "s3-key-secret": there["secret_key"],
        }
    else:
        given |= {
            "sftp-host": there["host"],
            "sftp-host-port": there["port"],
            "sftp-host-user": there["user"],
            "sftp-host-key-hash-type": "sha256",
            "sftp-host-key-check-type": "strict",
            "sftp-known-host": f"{there['directory']}/known_hosts",
            "sftp-private-key-file": f"{there['directory']}/id",
        }
    return [f"repo{there['number']}-{name}={value}" for name, value in given.items()]


def _below(entries: Iterable[Mapping[str, Any]], usual: str, place: str) -> list[dict[str, Any]]:
    """Return files that lie in another directory than usual."""
    return [{**entry, "path": place + str(entry["path"]).removeprefix(usual)} for entry in entries]
