"""Keep an app's secrets out of texts that leave the server."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from bedstone import config, environment, history, ledger, paths
from bedstone.errors import BedstoneError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

MASK = "***"
# Shorter ones are words that stand everywhere ("on", "root").
_SHORTEST = 6


def secrets_of(app: str) -> frozenset[str]:
    """Return the secret values of an app: as declared, and of the release that serves.

    Never raises: what can't be read can't be hidden either.
    """
    found: set[str] = set()
    for described, paths_of_files in _descriptions(app):
        for path in paths_of_files:
            variables = _variables(path)
            for name in described.secret_variables:
                found.update(_parts(variables.get(name, "")))
    return frozenset(value for value in found if len(value) >= _SHORTEST)


def hide(text: str, secrets: Collection[str]) -> str:
    """Return text with a mask in place of every secret."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text


def _descriptions(app: str) -> Iterator[tuple[config.App, list[Path]]]:
    with suppress(BedstoneError):
        declared = config.load(app)
        files = (declared.environment_file, declared.migrate_environment_file)
        yield declared, [paths.host(file) for file in files if file]
    # On a full disk or with a damaged ledger, too, people want to be told.
    with suppress(BedstoneError, OSError, sqlite3.Error), ledger.opened() as connection:
        serving = history.serving(connection, app)
        if serving is not None:
            kept = paths.release(app, serving.release)
            described = config.load_file(kept / "app.json")
            yield described, [kept / "app.env", kept / "migrate.env"]


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
