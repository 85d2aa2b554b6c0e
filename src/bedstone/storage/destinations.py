"""Read the destinations of backups: /etc/bedstone/destinations.json, written by role `backup`.

The first destination is always this server itself. The others are declared; what goes there is
encrypted with the backup key before it leaves.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from bedstone.core import clock, paths
from bedstone.core.errors import ConfigError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SCHEMA = 1

LOCAL = "local"
SFTP = "sftp"
S3 = "s3"
TYPES = (LOCAL, SFTP, S3)

DEFAULT_RESTIC = "/var/backups/bedstone/.restic"


@dataclass(frozen=True)
class Destination:
    """One place where backups are kept.

    Attributes:
        name: as the settings call it; ``local`` is this server.
        type: ``local``, ``sftp`` or ``s3``.
        pgbackrest: number of its repository in pgbackrest.conf; None: no WAL goes there.
        restic: of ``local``, the directory of restic's repository.
        host: of ``sftp``, the server.
        port: likewise, its port.
        user: likewise, the account.
        path: of ``sftp`` and ``s3``, the directory (prefix) of all that Bedstone keeps there.
        endpoint: of ``s3``, host name (and port), spoken to by https.
        bucket: likewise.
        region: likewise.
        path_style: likewise: the bucket is in the path, not in the host name.
        immutable: what is there can't be deleted from here, and isn't: retention is the other
            side's. Of ``sftp``, the account is one of ssh that runs `rclone serve restic
            --append-only` and nothing else.
        as_of: read it as it was at this moment, which a versioned bucket alone can; None: as it is.

    """

    name: str
    type: str
    pgbackrest: int | None = None
    restic: Path | None = None
    host: str = ""
    port: int = 22
    user: str = ""
    path: str = ""
    endpoint: str = ""
    bucket: str = ""
    region: str = ""
    path_style: bool = True
    immutable: bool = False
    as_of: datetime | None = None

    def at(self, moment: datetime | None) -> Destination:
        """Return the same destination, to be read as it was at a moment; None: as it is.

        Raises:
            RefusedError: it keeps no versions, or the moment is yet to come.

        """
        if moment is None:
            return self
        if clock.is_ahead(moment):
            raise RefusedError(
                f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC is yet to come:"
                f" {self.name} would be read as it is now.",
                hint="Take a moment before what deleted or changed the backups.",
            )
        if self.type != S3:
            raise RefusedError(
                f"{self.name} ({self.words()}) can only be read as it is now: a versioned S3 bucket"
                " keeps what was there before.",
                hint="Leave --as-of away, or take another destination: `bedstone destinations`.",
            )
        # Like pgBackRest's, and the buckets' own: whole seconds.
        return replace(self, as_of=moment.astimezone(UTC).replace(microsecond=0))

    @property
    def is_local(self) -> bool:
        """Return whether it is this server."""
        return self.type == LOCAL

    @property
    def secrets(self) -> Path:
        """The directory of its keys: ``id`` and ``known_hosts`` (sftp) or ``s3.json`` (s3)."""
        return paths.backups_config() / "destinations" / self.name

    def words(self) -> str:
        """Return where it is, as text."""
        if self.type == SFTP:
            port = "" if self.port == 22 else f":{self.port}"  # noqa: PLR2004
            return f"sftp {self.user}@{self.host}{port}:{self.path}"
        if self.type == S3:
            then = f" as of {self.as_of:%Y-%m-%d %H:%M:%S} UTC" if self.as_of else ""
            return f"s3 {self.endpoint}/{self.bucket}{self.path}{then}"
        return "this server"


@dataclass(frozen=True)
class PointInTime:
    """The recovery window of this server's PostgreSQL.

    Attributes:
        stanza: pgBackRest's name of the cluster.
        keep_days: so many days.
        keep_full: so many chains, each of a full backup and what follows it, are kept.
        archive_timeout_seconds: an idle server archives its WAL after so many seconds.

    """

    stanza: str
    keep_days: int
    keep_full: int
    archive_timeout_seconds: int


@dataclass(frozen=True)
class Destinations:
    """All places where backups are kept.

    Attributes:
        all: local first, then as declared.
        point_in_time: None when no WAL is kept.

    """

    all: tuple[Destination, ...]
    point_in_time: PointInTime | None = None

    @property
    def local(self) -> Destination:
        """The server itself."""
        return self.all[0]

    @property
    def remote(self) -> tuple[Destination, ...]:
        """The others."""
        return self.all[1:]

    def get(self, name: str) -> Destination:
        """Return the destination of a name.

        Raises:
            RefusedError: there is none; names those that there are.

        """
        for destination in self.all:
            if destination.name == name:
                return destination
        names = [destination.name for destination in self.all]
        close = get_close_matches(name, names, n=1)
        raise RefusedError(
            f"There is no destination {name!r}.",
            hint=(f"Did you mean {close[0]!r}? " if close else "")
            + f"The destinations in {path()}: {', '.join(names)}.",
        )


def path() -> Path:
    """Return the file of destinations."""
    return paths.backups_config() / "destinations.json"


def key_path() -> Path:
    """Return the file of the backup key; it is missing when there is no key."""
    return paths.backups_config() / "backup.key"


def has_key() -> bool:
    """Return whether there is a key to encrypt with: without it, no restic repository."""
    return key_path().exists()


def load() -> Destinations:
    """Return this server's destinations; a missing file means local alone.

    Raises:
        ConfigError: the file is no JSON, or not what the role writes.

    """
    source = path()
    try:
        data = json.loads(source.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Destinations((Destination(LOCAL, LOCAL, restic=paths.host(DEFAULT_RESTIC)),))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{source} can't be read: {error}.") from error
    try:
        return parse(data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"{source} isn't what the role `backup` writes: {error}.",
            hint="Run the playbook `provision.yml`, which writes it anew.",
        ) from error


def parse(data: Mapping[str, Any]) -> Destinations:
    """Return destinations from the file's parsed JSON.

    Raises:
        KeyError: a key is missing.
        ValueError: a value is wrong.

    """
    if data["schema"] != SCHEMA:
        raise ValueError(f"its schema is {data['schema']}, this program knows {SCHEMA}")
    found = tuple(_destination(entry) for entry in data["destinations"])
    if [entry.name for entry in found if entry.is_local] != [LOCAL] or found[0].name != LOCAL:
        raise ValueError("its first destination, and no other, has to be `local`")
    names = [entry.name for entry in found]
    if len(set(names)) != len(names):
        raise ValueError("two destinations have the same name")
    point = data["point_in_time"]
    return Destinations(found, _point_in_time(point) if point else None)


def _point_in_time(data: Mapping[str, Any]) -> PointInTime:
    return PointInTime(
        stanza=str(data["stanza"]),
        keep_days=int(data["keep_days"]),
        keep_full=int(data["keep_full"]),
        archive_timeout_seconds=int(data["archive_timeout_seconds"]),
    )


def _destination(entry: Mapping[str, Any]) -> Destination:
    kind, name = str(entry["type"]), str(entry["name"])
    immutable = bool(entry.get("immutable", False))
    number = entry.get("pgbackrest")
    repository = int(number) if number is not None else None
    if kind == LOCAL:
        return Destination(name, kind, repository, restic=paths.host(entry["restic"]))
    if kind == SFTP:
        return Destination(
            name,
            kind,
            repository,
            host=str(entry["host"]),
            port=int(entry["port"]),
            user=str(entry["user"]),
            path=str(entry["path"]),
            immutable=immutable,
        )
    if kind == S3:
        return Destination(
            name,
            kind,
            repository,
            endpoint=str(entry["endpoint"]),
            bucket=str(entry["bucket"]),
            region=str(entry["region"]),
            path=str(entry["path"]),
            path_style=bool(entry["path_style"]),
            immutable=immutable,
        )
    raise ValueError(f"the destination {name} has the type {kind!r}, not {', '.join(TYPES)}")
