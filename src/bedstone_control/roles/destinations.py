"""Build the destinations of backups as the roles take them, with their secrets."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from bedstone_control.settings import placeholders
from bedstone_control.settings.gitserver import host_key
from bedstone_control.vault import content

if TYPE_CHECKING:
    from bedstone_control.roles.site import Site
    from bedstone_control.settings.backup import S3, Destination, Sftp

_ENDPOINT = re.compile(r"(?:https://)?([A-Za-z0-9][A-Za-z0-9.-]*(?::[0-9]{1,5})?)/?")


def entries(site: Site) -> list[dict[str, Any]]:
    """Return the destinations of a host.

    Raises:
        ValueError: a secret is missing or a placeholder unknown.

    """
    kept = content.destination_secrets({"bedstone_secrets": dict(site.secrets)})
    return [
        _entry(site, there, kept.get(there.name, {})) for there in site.settings.backup.destinations
    ]


def endpoint(address: str) -> str | None:
    """Return host and port of an S3 service's address, None when it is none."""
    match = _ENDPOINT.fullmatch(address)
    return match[1] if match else None


def directory(there: Destination) -> str:
    """Return what tells a destination's directory from others, "" for one without a place."""
    if there.sftp is not None:
        sftp = there.sftp
        return f"sftp://{sftp.user}@{sftp.host.lower()}:{sftp.port}{sftp.path.rstrip('/')}"
    if there.s3 is not None:
        host = str(endpoint(there.s3.endpoint)).lower()
        return f"s3://{host}/{there.s3.bucket}{there.s3.path.rstrip('/')}"
    return ""


def _entry(site: Site, there: Destination, secrets: dict[str, Any]) -> dict[str, Any]:
    place = (
        _sftp(site, there.sftp)
        if there.sftp is not None
        else _s3(site, there.s3)
        if there.s3 is not None
        else {}
    )
    for name in content.secrets_of(there):
        if name not in secrets:
            where = f"bedstone_secrets.backup.destinations.{there.name}.{name}"
            raise ValueError(f"the vault has no {where}")
        place[name] = secrets[name]
    return {"name": there.name, **place, "wal": there.wal, "immutable": there.immutable}


def _sftp(site: Site, given: Sftp) -> dict[str, Any]:
    return {
        "type": "sftp",
        "host": given.host,
        "port": given.port,
        "user": given.user,
        "path": _path(site, given.path),
        "host_keys": [host_key(line) for line in given.host_keys],
        **({"wal_user": given.wal_user} if given.wal_user else {}),
    }


def _s3(site: Site, given: S3) -> dict[str, Any]:
    return {
        "type": "s3",
        "endpoint": endpoint(given.endpoint) or given.endpoint,
        "bucket": given.bucket,
        "region": given.region,
        "path": _path(site, given.path),
        "path_style": given.path_style,
    }


def _path(site: Site, text: str) -> str:
    """Return a path without a slash at its end, so that another one can follow; "" is the top."""
    return placeholders.expand(text, {"host": site.host}).rstrip("/")
