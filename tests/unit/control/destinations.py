"""Destinations that are right in everything, and their secrets."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from bedstone_control.vault import backup_key, content

if TYPE_CHECKING:
    from tests.unit.control.sites import Site

# A real public key of a pair made for this file; its other half was not kept.
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGq4CGbm2WSYr4OcyuMe4Ghru52w1OmI5a5OZINx7oOq"
OFFSITE: dict[str, Any] = {
    "name": "offsite",
    "sftp": {
        "host": "backup.example.com",
        "user": "bedstone",
        "path": "/srv/bedstone",
        "host_keys": [HOST_KEY],
    },
}
BUCKET: dict[str, Any] = {
    "name": "bucket",
    "s3": {
        "endpoint": "https://s3.example.com:9000",
        "bucket": "backups",
        "region": "eu-central-1",
        "path": "/payments",
    },
    "wal": False,
}


def declare(site: Site) -> None:
    """Give an inventory both destinations, with their secrets and the proof of the key."""
    site.settings["bedstone_backup"] = {"destinations": copy.deepcopy([OFFSITE, BUCKET])}
    site.secrets = content.new_secrets(site.settings, site.secrets)
    secrets_of(site)["bucket"] = {"access_key": "AK", "secret_key": "sk/+="}
    hold(site)


def hold(site: Site) -> None:
    """Record that the key is held."""
    key = site.secrets["bedstone_secrets"]["backup"]["key"]
    site.settings["bedstone_backup"]["key_held"] = backup_key.fingerprint(key)


def secrets_of(site: Site) -> dict[str, Any]:
    """Return the secrets of the destinations."""
    found: dict[str, Any] = site.secrets["bedstone_secrets"]["backup"]["destinations"]
    return found
