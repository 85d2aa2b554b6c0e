"""Read the settings of verifications: the part ``verify`` of /etc/bedstone/backup.json."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bedstone.backup import settings
from bedstone.core import paths
from bedstone.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DIRECTORY = "/var/cache/bedstone-verify"
_MINUTES = 360


@dataclass(frozen=True)
class VerifySettings:
    """The settings of verifications.

    Attributes:
        directory: backups are unpacked below it, and removed again.
        limit_seconds: longest time that a run may take.
        checks: app -> SQL expressions, each true in a database that is whole.
        host: the host that verifies the backups at the destinations; None for the one that has made
            them.
        origin: the host that has made them, as ``host`` calls it; None without ``host``.

    """

    directory: Path
    limit_seconds: float
    checks: Mapping[str, tuple[str, ...]]
    host: str | None = None
    origin: str | None = None


def load() -> VerifySettings:
    """Return the settings of this server.

    Raises:
        ConfigError: the file is missing, is no JSON, or isn't what the role writes.

    """
    source = settings.path()
    # It has the better message for a missing or broken file.
    settings.load()
    data = json.loads(source.read_text(encoding="utf-8"))
    try:
        return parse(data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"{source} isn't what the role `backup` writes: {error!r} in `verify`.",
            hint="Run the playbook `provision.yml`, which writes it anew.",
        ) from error


def parse(data: Mapping[str, Any]) -> VerifySettings:
    """Return settings from the file's parsed JSON; that of an earlier version has none.

    Raises:
        ValueError: a value is out of range.

    """
    entry = data.get("verify") or {}
    minutes = int(entry.get("limit_minutes", _MINUTES))
    if minutes < 1:
        raise ValueError(f"limit_minutes is {minutes}, and must be at least 1")
    return VerifySettings(
        directory=paths.host(str(entry.get("directory", DIRECTORY))),
        limit_seconds=minutes * 60.0,
        checks={
            str(app): tuple(map(str, checks)) for app, checks in (entry.get("checks") or {}).items()
        },
        host=str(entry["host"]) if entry.get("host") else None,
        origin=str(entry["origin"]) if entry.get("origin") else None,
    )
