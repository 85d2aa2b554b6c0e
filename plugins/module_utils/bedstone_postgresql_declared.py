"""The declared databases and roles as typed, checked values."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

IDENTIFIER = re.compile(r"[a-z_][a-z0-9_]{0,62}")
LONGEST_LOCK_TIMEOUT_SECONDS = 86_400
# Of the superuser's sessions. The owner of a database can set them for all sessions in it (ALTER
# DATABASE ... SET), but the connection's options come first. Without a search path no bare name
# finds what an app has made.
SESSION_OPTIONS = "-c search_path= -c role=none -c default_transaction_read_only=off"
RESERVED = {"postgres", "template0", "template1", "public", "none", "bedstone_pool"}


@dataclasses.dataclass(frozen=True)
class Database:
    """One declared database and the three roles that are its own."""

    name: str
    owner: str
    migrate_role: str
    migrate_password: str = dataclasses.field(repr=False)
    app_role: str
    app_password: str = dataclasses.field(repr=False)
    app_login: str | None = None
    client_certificate: bool = False
    extensions: tuple[str, ...] = ()
    lock_timeout_seconds: int | None = None
    connections: int | None = None
    pool_size: int | None = None
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def roles(self) -> tuple[str, ...]:
        """Return owner, migration and app role, and the app's login if it is another role."""
        logins = () if self.app_login is None else (self.app_login,)
        return self.owner, self.migrate_role, self.app_role, *logins


@dataclasses.dataclass(frozen=True)
class LocalRole:
    """A role without a password, for a program of this server that comes over the socket."""

    name: str
    member_of: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Declared:
    """Everything the server should have."""

    databases: tuple[Database, ...]
    local_roles: tuple[LocalRole, ...] = ()
    app_settings: Mapping[str, str] = dataclasses.field(default_factory=dict)
    migrate_settings: Mapping[str, str] = dataclasses.field(default_factory=dict)


def declared(arguments: Mapping[str, Any]) -> Declared:
    """Return the checked declaration from the module's arguments.

    Raises:
        ValueError: a name isn't usable, is taken twice, or a password is missing or unusable.

    """
    wanted = Declared(
        databases=tuple(
            Database(
                **{
                    **entry,
                    "extensions": tuple(entry.get("extensions") or ()),
                    "settings": dict(entry.get("settings") or {}),
                }
            )
            for entry in arguments["databases"]
        ),
        local_roles=tuple(
            LocalRole(entry["name"], tuple(entry.get("member_of") or ()))
            for entry in arguments.get("local_roles") or ()
        ),
        app_settings=dict(arguments.get("app_settings") or {}),
        migrate_settings=dict(arguments.get("migrate_settings") or {}),
    )
    _check_names(wanted)
    for database in wanted.databases:
        for role, password in (
            (database.migrate_role, database.migrate_password),
            (database.app_role, database.app_password),
        ):
            if not password or not (password.isascii() and password.isprintable()):
                raise ValueError(
                    f"the password of role {role} is empty or holds a character that isn't "
                    "printable ASCII"
                )
        seconds = database.lock_timeout_seconds
        if seconds is not None and not 0 <= seconds <= LONGEST_LOCK_TIMEOUT_SECONDS:
            raise ValueError(
                f"lock_timeout_seconds of {database.name} is {seconds}; it goes from 0 (wait for "
                f"ever) to {LONGEST_LOCK_TIMEOUT_SECONDS}"
            )
        if database.connections is not None and database.connections < 1:
            raise ValueError(f"connections of {database.name} is {database.connections}; 1 or more")
        if database.pool_size is not None and database.pool_size < 1:
            raise ValueError(f"pool_size of {database.name} is {database.pool_size}; 1 or more")
    of_databases = [name for database in wanted.databases for name in database.settings]
    for name in (*wanted.app_settings, *wanted.migrate_settings, *of_databases):
        if not re.fullmatch(r"[a-z_][a-z0-9_.]*", name) or name == "role":
            raise ValueError(f"{name!r} can't be set for a role; a name is like statement_timeout")
    return wanted


def _check_names(wanted: Declared) -> None:
    for kind, names in (
        ("database", [database.name for database in wanted.databases]),
        (
            "role",
            [
                *(role for database in wanted.databases for role in database.roles()),
                *(role.name for role in wanted.local_roles),
            ],
        ),
    ):
        seen = set()
        for name in names:
            if not IDENTIFIER.fullmatch(name):
                raise ValueError(
                    f"{name!r} can't be the name of a {kind}: lower case letters, digits and "
                    "underscores, at most 63, like payments_app"
                )
            if name in RESERVED or name.startswith("pg_"):
                raise ValueError(f"{name!r} is PostgreSQL's own name and can't be a {kind}'s")
            if name in seen:
                raise ValueError(
                    f"the {kind} {name} is declared twice; each database has roles of its own"
                )
            seen.add(name)
