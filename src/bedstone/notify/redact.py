"""Keep the apps' secrets out of messages, logs and the ledger, and of what leaves the server."""

from __future__ import annotations

import json
from contextlib import suppress
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from bedstone.apps import config, environment, source_secrets
from bedstone.core import paths
from bedstone.core.errors import BedstoneError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

MASK = "***"
# Shorter ones are words that stand everywhere ("on", "root").
_SHORTEST = 6
# What fails while the secrets are read has none in it yet.
_READING: ContextVar[bool] = ContextVar("reading", default=False)


def secrets_of(app: str) -> frozenset[str]:
    """Return the secret values of an app: as declared, of its source, and of its kept releases.

    Never raises: what can't be read can't be hidden either.
    """
    found: set[str] = set()
    for directory in _directories(app):
        described = None
        with suppress(BedstoneError):
            described = config.load_file(directory / "app.json")
        if described is not None:
            for path in directory.glob("*.env"):
                variables = _variables(path)
                for variable in described.secret_variables:
                    found.update(_parts(variables.get(variable, "")))
    services = ("", *_services(app))
    for service in services:
        with suppress(BedstoneError):
            for value in source_secrets.load(app, service).values():
                found.update(_parts(value))
        with suppress(OSError, ValueError, KeyError, TypeError):
            place = source_secrets.path(app, source_secrets.REGISTRY, service)
            found.update(_parts(str(json.loads(place.read_text("utf-8"))["password"])))
    return frozenset(value for value in found if len(value) >= _SHORTEST)


def _services(app: str) -> list[str]:
    """Return the services with an image of their own, as declared now."""
    with suppress(BedstoneError):
        return [service for service in config.load(app).images if service]
    return []


def hide_all(text: str) -> str:
    """Return text with a mask in place of every secret of every app on this server.

    Never raises. The files are read again when one of them has changed.
    """
    if not text or _READING.get():
        return text
    token = _READING.set(True)
    try:
        with suppress(OSError):
            return hide(text, _known(_stamp()))
    finally:
        _READING.reset(token)
    return text


@lru_cache(maxsize=1)
def _known(stamp: tuple[tuple[str, int], ...]) -> frozenset[str]:
    apps = {Path(name).parent.name for name, _ in stamp if name.endswith("app.json")}
    apps &= set(config.declared())
    return frozenset(value for app in apps for value in secrets_of(app))


def _stamp() -> tuple[tuple[str, int], ...]:
    """Return the files with secrets, and when each was changed."""
    declared = paths.apps_config().glob("*/*.*")
    kept = paths.state().glob("apps/*/releases/*/*.env")
    return tuple(sorted((str(path), path.stat().st_mtime_ns) for path in (*declared, *kept)))


def hide(text: str, secrets: Collection[str]) -> str:
    """Return text with a mask in place of every secret."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text


def _directories(app: str) -> Iterator[Path]:
    """Yield where descriptions and environments of an app are."""
    yield paths.app_config(app).parent
    with suppress(OSError):
        yield from sorted((paths.app_state(app) / "releases").iterdir())


def _variables(path: Path) -> dict[str, str]:
    with suppress(BedstoneError):
        return environment.load(path)
    return {}


def _parts(value: str) -> Iterator[str]:
    """Yield a value, its lines (a key's), and the password in it if it is an address."""
    yield value
    yield from (line.strip() for line in value.splitlines() if "-----" not in line)
    try:
        password = urlsplit(value).password
    except ValueError:
        return
    if password:
        yield from (password, unquote(password), quote(unquote(password), safe=""))
