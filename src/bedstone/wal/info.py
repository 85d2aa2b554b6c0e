"""Parse pgBackRest's description of a repository: backups, end of the WAL, and problems."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from bedstone.core.errors import BedstoneError

if TYPE_CHECKING:
    from collections.abc import Mapping

FULL = "full"

# pgBackRest's own numbers of a stanza's state.
_OK = 0
_MISSING = 1
_NO_BACKUP = 2


@dataclass(frozen=True)
class Backup:
    """One backup in a repository.

    Attributes:
        label: pgBackRest's name of it; it begins with the label of its full backup.
        type: ``full``, ``diff`` or ``incr``.
        started_at: when it began, in UTC.
        finished_at: from this moment on the cluster can be brought to any other, in UTC.
        bytes: what it adds to the repository.
        original_bytes: size of the cluster.
        wal: first and last segment of WAL that it can't do without.
        prior: the backup it builds upon; None for a full one.
        damaged: pages whose checksum was wrong when it was made.
        database: number of the cluster in the repository (it changes with PostgreSQL's major).

    """

    label: str
    type: str
    started_at: datetime
    finished_at: datetime
    bytes: int
    original_bytes: int
    wal: tuple[str, str]
    prior: str | None
    damaged: bool
    database: int

    @property
    def full(self) -> str:
        """Label of the full backup that its chain begins with."""
        return self.label.partition("_")[0]


@dataclass(frozen=True)
class Info:
    """The contents of a repository.

    Attributes:
        exists: whether there is a stanza at all.
        backups: from the oldest to the newest, those of clusters before an upgrade too.
        oldest_wal: first archived segment of the present cluster, or None.
        newest_wal: the last one.
        archive: name of the archive of the present cluster ("17-1"), or None.
        system: identity of the cluster that the stanza belongs to.
        version: its PostgreSQL's major version.
        problem: what is wrong with the stanza in pgBackRest's words, or None.
        database: number of the present cluster, as backups have it; None when it isn't known.

    """

    exists: bool
    backups: tuple[Backup, ...] = ()
    oldest_wal: str | None = None
    newest_wal: str | None = None
    archive: str | None = None
    system: int | None = None
    version: str | None = None
    problem: str | None = None
    database: int | None = None

    @property
    def own(self) -> tuple[Backup, ...]:
        """Those of the present cluster: its WAL goes on from them, and from no others."""
        return tuple(found for found in self.backups if self.is_own(found))

    def is_own(self, backup: Backup) -> bool:
        """Return whether a backup is of the present cluster, and not of one before an upgrade."""
        return self.database in {None, backup.database}

    @property
    def newest(self) -> Backup | None:
        """The newest backup of the present cluster."""
        return self.own[-1] if self.own else None

    def backup(self, label: str) -> Backup | None:
        """Return the backup of a label."""
        return next((found for found in self.backups if found.label == label), None)

    def for_moment(self, target: datetime) -> Backup | None:
        """Return the newest backup that had ended by a moment: the one to recover it from."""
        fitting = [found for found in self.backups if found.finished_at <= target]
        return fitting[-1] if fitting else None


def parse(output: str, number: int) -> Info:
    """Return what `pgbackrest info --output=json` says of one repository.

    Args:
        output: what it printed.
        number: the repository.

    Raises:
        BedstoneError: it isn't what pgBackRest prints.

    """
    try:
        # Its strings may hold what it read from a broken file, as it is.
        stanzas = json.loads(output, strict=False)
        return _info(stanzas[0], number) if stanzas else Info(exists=False)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise BedstoneError(
            f"What pgBackRest says of its repository can't be read: {error!r}.", details=output
        ) from error


def _info(stanza: Mapping[str, Any], number: int) -> Info:
    status = next(
        (entry["status"] for entry in stanza.get("repo", []) if entry["key"] == number),
        stanza["status"],
    )
    if status["code"] == _MISSING:
        return Info(exists=False)
    problem = None if status["code"] in {_OK, _NO_BACKUP} else str(status["message"])
    present = stanza["db"][-1] if stanza["db"] else None
    archives = [
        entry
        for entry in stanza["archive"]
        if present is not None and entry["database"]["id"] == present["id"]
    ]
    return Info(
        exists=present is not None,
        backups=tuple(
            sorted((_backup(entry) for entry in stanza["backup"]), key=lambda found: found.label)
        ),
        oldest_wal=archives[-1]["min"] if archives else None,
        newest_wal=archives[-1]["max"] if archives else None,
        archive=archives[-1]["id"] if archives else None,
        system=int(present["system-id"]) if present else None,
        version=str(present["version"]) if present else None,
        problem=problem,
        database=int(present["id"]) if present else None,
    )


def _backup(entry: Mapping[str, Any]) -> Backup:
    return Backup(
        label=str(entry["label"]),
        type=str(entry["type"]),
        started_at=datetime.fromtimestamp(entry["timestamp"]["start"], UTC),
        finished_at=datetime.fromtimestamp(entry["timestamp"]["stop"], UTC),
        bytes=int(entry["info"]["repository"]["delta"]),
        original_bytes=int(entry["info"]["size"]),
        wal=(str(entry["archive"]["start"]), str(entry["archive"]["stop"])),
        prior=entry.get("prior"),
        damaged=bool(entry.get("error")),
        database=int(entry["database"]["id"]),
    )
