"""Read which server follows which: /etc/bedstone/replication.json."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bedstone.core import paths
from bedstone.core.errors import ConfigError, RefusedError
from bedstone.postgres.debian_cluster import Cluster
from bedstone.postgres.server import Server

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Primary:
    """The server that this one follows.

    Attributes:
        name: its host in the inventory.
        address: its IP address.
        port: its port.
        slot: the slot there that keeps WAL for this server.
        conninfo: how this server logs in there; holds no secret.

    """

    name: str
    address: str
    port: int
    slot: str
    conninfo: str


@dataclass(frozen=True)
class Replica:
    """A server that follows this one: its host in the inventory, and its slot."""

    name: str
    slot: str


@dataclass(frozen=True)
class Settings:
    """The settings of the replication; ``primary`` is None on the primary."""

    major: int
    port: int
    primary: Primary | None
    replicas: tuple[Replica, ...]

    @property
    def cluster(self) -> Cluster:
        """Return this host's cluster."""
        return Cluster(self.major)

    @property
    def server(self) -> Server:
        """Return this host's server."""
        return Server("/var/run/postgresql", self.port)


def path() -> Path:
    """Return the settings' file."""
    return paths.host("/etc/bedstone/replication.json")


def find() -> Settings | None:
    """Return the settings of this server, or None where nothing is replicated.

    Raises:
        ConfigError: the file is wrong.

    """
    try:
        data = json.loads(path().read_text(encoding="utf-8"))
        return Settings(
            major=int(data["major"]),
            port=int(data["port"]),
            primary=Primary(**data["primary"]) if data["primary"] else None,
            replicas=tuple(Replica(**entry) for entry in data["replicas"]),
        )
    except FileNotFoundError:
        return None
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{path()} isn't what the role `postgresql` writes: {error}.",
            hint="Run the playbook `provision.yml`, which writes it.",
        ) from error


def load() -> Settings:
    """Return the settings of this server.

    Raises:
        ConfigError: the file is wrong.
        RefusedError: nothing is replicated here.

    """
    found = find()
    if found is None:
        raise RefusedError(
            "This server's PostgreSQL neither follows another one nor is followed.",
            hint="Put a second host into the inventory's group `postgresql_replica`, and run"
            " `site.yml`.",
        )
    return found


def standby() -> tuple[Settings, Primary]:
    """Return the settings of a server that follows another one.

    Raises:
        ConfigError: the file is wrong.
        RefusedError: it follows none.

    """
    found = load()
    if found.primary is None:
        raise RefusedError(
            "By the inventory, this server is the primary.",
            hint="Run it on a host of the group `postgresql_replica`.",
        )
    return found, found.primary
