"""Migrate an empty database by Django, with squashed migrations or those that they replace.

Runs inside `manage.py shell`. The database is the caller's throw-away one, whatever the settings
name.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any

from django.core.management import call_command
from django.db import connections
from django.db.migrations.loader import MigrationLoader

from bedstone.migrations.in_image.common import emit, question

ENGINE = "django.db.backends.postgresql"
# They lead to the server of the settings, or ask it for TLS.
ELSEWHERE = ("service", "passfile", "assume_role")


def main() -> None:
    """Migrate the database and print what was squashed."""
    asked = question()
    _use(asked["database"])
    # Not the graph: squashed migrations and those they replace may be a circle in one.
    loader = MigrationLoader(None, load=False, ignore_no_migrations=True)
    loader.load_disk()
    chosen = _chosen(loader, asked["squashes"])
    if asked["replaced"]:
        _require_replaced(loader, chosen)
        _ignore(chosen)
    call_command("migrate", interactive=False, verbosity=0, database="default")
    emit(
        {
            "pending": [],
            "squashes": [
                {"name": _name(key), "replaces": [_name(each) for each in chosen[key]]}
                for key in sorted(chosen)
            ],
        }
    )


def _use(database: dict[str, Any]) -> None:
    """Lead the default connection to a database."""
    old = connections.databases["default"]
    options = {
        name: value
        for name, value in (old.get("OPTIONS") or {}).items()
        if not name.startswith("ssl") and name not in ELSEWHERE
    }
    # An own engine, like PostGIS's, stays.
    engine = old["ENGINE"] if "postg" in old["ENGINE"] else ENGINE
    if engine != old["ENGINE"]:
        options = {}
    connections.databases["default"] = {
        **old,
        "ENGINE": engine,
        "PASSWORD": "",
        "OPTIONS": options,
        **database,
    }
    # It isn't there before the first use.
    with contextlib.suppress(AttributeError):
        del connections["default"]


def _chosen(loader: Any, wanted: list[str]) -> dict[Any, list[Any]]:
    """Return the squashed migrations that are compared, with those that they replace."""
    every = {
        key: [tuple(each) for each in migration.replaces]
        for key, migration in loader.disk_migrations.items()
        if migration.replaces
    }
    found = {
        key: replaces
        for key, replaces in every.items()
        if (key[0] in wanted or _name(key) in wanted if wanted else _is_own(loader, key))
    }
    missing = [each for each in wanted if not any(each in (key[0], _name(key)) for key in found)]
    if missing or not found:
        names = ", ".join(_name(key) for key in sorted(every)) or "none"
        sys.exit(
            "There is no squashed migration{}. Those with `replaces`: {}.".format(
                " of " + ", ".join(missing) if missing else "", names
            )
        )
    return found


def _is_own(loader: Any, key: Any) -> bool:
    """Return whether a migration is the project's, not a library's."""
    file = os.path.realpath(
        sys.modules[type(loader.disk_migrations[key]).__module__].__file__ or ""
    )
    inside = file.startswith(os.path.realpath(os.getcwd()) + os.sep)  # noqa: PTH109
    return inside and "/site-packages/" not in file


def _require_replaced(loader: Any, chosen: dict[Any, list[Any]]) -> None:
    for key in sorted(chosen):
        gone = [_name(each) for each in chosen[key] if each not in loader.disk_migrations]
        if gone:
            sys.exit(
                "{} replaces migrations whose files are gone: {}. Compare on a commit that has"
                " both, or name the squashed migrations to compare.".format(
                    _name(key), ", ".join(gone)
                )
            )


def _ignore(chosen: dict[Any, list[Any]]) -> None:
    """Make Django migrate by what these squashed migrations replace, as if they weren't there."""
    load_disk = MigrationLoader.load_disk

    def without(self: Any) -> None:
        load_disk(self)
        for key in chosen:
            self.disk_migrations.pop(key, None)
        # Who builds upon a squashed migration builds upon the last that it replaces.
        for migration in self.disk_migrations.values():
            migration.dependencies = _followed(migration.dependencies, chosen)
            migration.run_before = _followed(migration.run_before, chosen)

    MigrationLoader.load_disk = without


def _followed(dependencies: Any, chosen: dict[Any, list[Any]]) -> list[Any]:
    found = []
    for each in dependencies:
        key = each
        while tuple(key) in chosen:
            key = chosen[tuple(key)][-1]
        found.append(key)
    return found


def _name(key: Any) -> str:
    return "{}.{}".format(*key)


main()
