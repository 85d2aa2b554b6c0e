"""Compares the databases and roles a server has with the declared ones, and says what to change.

Pure logic: no connection is opened here. The module postgresql_accounts reads the state with
the queries of bedstone_postgresql_sql, gives it to `plan` and runs the statements it returns.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bedstone_postgresql_declared import RESERVED, Database, Declared
    from bedstone_postgresql_pool import ROLE as POOL_ROLE
    from bedstone_postgresql_pool import statements as pool_statements
    from bedstone_postgresql_scram import make_verifier, matches
else:
    from ansible.module_utils.bedstone_postgresql_declared import RESERVED, Database, Declared
    from ansible.module_utils.bedstone_postgresql_pool import ROLE as POOL_ROLE
    from ansible.module_utils.bedstone_postgresql_pool import statements as pool_statements
    from ansible.module_utils.bedstone_postgresql_scram import make_verifier, matches

PUBLIC = ""  # how the queries name the grantee PUBLIC
ATTRIBUTES = ("SUPERUSER", "CREATEROLE", "CREATEDB", "REPLICATION", "BYPASSRLS")

# What the app role may do with the objects its owner makes: data, not schema. The letter is
# pg_default_acl's.
APP_PRIVILEGES = {
    "r": ("TABLES", ("SELECT", "INSERT", "UPDATE", "DELETE")),
    "S": ("SEQUENCES", ("USAGE", "SELECT", "UPDATE")),
    "n": ("SCHEMAS", ("USAGE",)),
}
# Connections that no app's limit gives away: the superuser, backups, restores, monitoring.
KEPT_CONNECTIONS = 10
MIGRATE_CONNECTIONS = 10
# A temporary table is the session's own and ends with it: not a change of the schema.
APP_ON_DATABASE = {"CONNECT", "TEMPORARY"}
# What bedstone_control.names puts behind an app role's name for its login.
EARLIER_LOGIN = "_[0-9a-f]{8}"
# At the app role, in front of its login's name; bedstone.release.steps.logins reads it.
LOGIN_COMMENT = "logs in as "


@dataclasses.dataclass(frozen=True)
class Change:
    """One statement, where it runs, and what a reader of the diff sees of it."""

    database: str
    sql: str = dataclasses.field(repr=False)
    before: str
    after: str
    in_transaction: bool = True


def quote_name(name: str) -> str:
    """Return an SQL identifier, quoted."""
    return '"' + name.replace('"', '""') + '"'


def quote_text(text: str) -> str:
    """Return an SQL string literal; a backslash in it stands for itself."""
    doubled = text.replace("'", "''")
    if "\\" in text:
        return "E'" + doubled.replace("\\", "\\\\") + "'"
    return f"'{doubled}'"


def empty_state() -> dict[str, Any]:
    """Return the state of a server that has only what PostgreSQL itself brings."""
    return {"roles": {}, "members": [], "settings": [], "databases": {}, "contents": {}}


def plan(wanted: Declared, state: Mapping[str, Any]) -> list[Change]:
    """Return the changes that lead from the state to the declaration, in order.

    Args:
        wanted: the declaration.
        state: what the queries of bedstone_postgresql_sql returned.

    Raises:
        ValueError: a declared extension isn't available on the server, or a pool has more
            connections than its login may have.

    """
    _check_extensions(wanted, state)
    _check_pools(wanted, state)
    changes: list[Change] = []
    for database in wanted.databases:
        changes += _role(state, database.owner, password=None, login=False)
        limit = connection_limit(wanted, database, state)
        few = None if limit is None else min(limit, MIGRATE_CONNECTIONS)
        migrate, app = database.migrate_role, database.app_role
        changes += _role(state, migrate, password=database.migrate_password, connections=few)
        if database.app_login is None:
            changes += _role(state, app, password=database.app_password, connections=limit)
        else:
            changes += _group(state, app, connections=limit)
            login, password = database.app_login, database.app_password
            changes += _role(state, login, password=password, connections=limit)
            changes += _comment(state, app, login)
    for local in wanted.local_roles:
        changes += _role(state, local.name, password=None)
    changes += _memberships(wanted, state)
    changes += [change for database in wanted.databases for change in _database(database, state)]
    for database in wanted.databases:
        changes += _inside(database, wanted, state)
    return changes + _pool(wanted, state)


def connection_limit(wanted: Declared, database: Database, state: Mapping[str, Any]) -> int | None:
    """Return how many connections an app role may have, None where the server isn't known.

    One app alone may have all that are not kept. Of several, none gets so many that the others have
    none left: more than its share, since they are rarely busy at the same time, but not all.
    """
    server = state.get("server")
    if server is None:
        return database.connections
    most = max(int(server["max_connections"]) - KEPT_CONNECTIONS, 1)
    apps = len(wanted.databases)
    default = most if apps == 1 else max(most * 2 // (apps + 1), 1)
    return min(database.connections or default, most)


def strangers(wanted: Declared, state: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each declared database that holds objects of roles other than its own.

    The app can't be sure to reach such objects, and a migration can't change them.
    """
    found = []
    for database in wanted.databases:
        owned = state["contents"].get(database.name, {}).get("owned", {})
        others = {
            role: count
            for role, count in owned.items()
            if role not in {*database.roles(), "postgres"}
        }
        # What extensions bring belongs to postgres and isn't counted by the query.
        if owned.get("postgres"):
            others["postgres"] = owned["postgres"]
        found += [
            f"Database {database.name} holds {count} objects of role {role}, which its migrations "
            f"can't change. To hand over a table: ALTER TABLE name OWNER TO {database.owner};"
            for role, count in sorted(others.items())
        ]
    return found


def earlier_logins(wanted: Declared, state: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each login of an app with an earlier password.

    A release drops it once it is unused. Where the app runs on another host, that can't be
    determined.
    """
    found = []
    for database in wanted.databases:
        if database.app_login is None:
            continue
        app = database.app_role
        logins = {member for member, group in state["members"] if group == app}
        logins = {
            name
            for name in (logins - {database.app_login}) | {app}
            if name in state["roles"] and state["roles"][name]["login"]
            if name == app or re.fullmatch(re.escape(app) + EARLIER_LOGIN, name)
        }
        found += [
            f"Role {name} can still log in to {database.name} with an earlier password. What "
            "serves may use it, and the next release drops it. Where the app is on another host: "
            + (f"ALTER ROLE {name} NOLOGIN PASSWORD NULL;" if name == app else f"DROP ROLE {name};")
            for name in sorted(logins)
        ]
    return found


def undeclared(wanted: Declared, state: Mapping[str, Any]) -> list[str]:
    """Return the databases that are there without being declared; nothing ever drops them."""
    known = {database.name for database in wanted.databases} | RESERVED
    return sorted(set(state["databases"]) - known)


def _check_extensions(wanted: Declared, state: Mapping[str, Any]) -> None:
    available = state.get("extensions")
    if available is None:
        return
    for database in wanted.databases:
        for extension in database.extensions:
            if extension not in available:
                raise ValueError(
                    f"database {database.name} wants the extension {extension}, which this server "
                    "doesn't have; name its Debian package in postgresql_extra_packages"
                )


def _check_pools(wanted: Declared, state: Mapping[str, Any]) -> None:
    for database in wanted.databases:
        limit = connection_limit(wanted, database, state)
        if database.pool_size and limit is not None and database.pool_size > limit:
            raise ValueError(
                f"the pool of {database.name} has {database.pool_size} connections, and its login "
                f"may have {limit}: lower its `pool.size`, or raise `connections` or "
                "postgresql_max_connections"
            )


def _pool(wanted: Declared, state: Mapping[str, Any]) -> list[Change]:
    """Make PgBouncer's role and the function by which it checks logins."""
    pooled = any(database.pool_size for database in wanted.databases)
    changes = _role(state, POOL_ROLE, password=None) if pooled else []
    found = pool_statements(wanted, state)
    return changes if found is None else [*changes, Change("postgres", *found)]


def _group(state: Mapping[str, Any], name: str, *, connections: int | None) -> list[Change]:
    """Make a role whose members log in.

    One that logs in itself, as of an earlier version, goes on with the password it has: the
    running release uses it until a release with a login of its own serves.
    """
    login = name in state["roles"] and bool(state["roles"][name]["login"])
    return _role(
        state, name, password=None, login=login, connections=connections if login else None
    )


def _comment(state: Mapping[str, Any], name: str, login: str) -> list[Change]:
    """Write at the app role which login is the declared one: it is not dropped as unused."""
    have = (state["roles"].get(name) or {}).get("comment")
    if have == LOGIN_COMMENT + login:
        return []
    return [
        Change(
            "postgres",
            f"COMMENT ON ROLE {quote_name(name)} IS {quote_text(LOGIN_COMMENT + login)}",
            f"role {name}: {have or 'no comment'}",
            f"role {name}: {LOGIN_COMMENT}{login}",
        )
    ]


def _role(
    state: Mapping[str, Any],
    name: str,
    *,
    password: str | None,
    login: bool = True,
    connections: int | None = None,
) -> list[Change]:
    role = state["roles"].get(name)
    kind = "LOGIN" if login else "NOLOGIN"
    what = f"role {name}"
    if role is None:
        secret = f" PASSWORD {quote_text(make_verifier(password))}" if password else ""
        secret += "" if connections is None else f" CONNECTION LIMIT {connections}"
        return [
            Change(
                "postgres",
                f"CREATE ROLE {quote_name(name)} {kind}{secret}",
                f"{what}: absent",
                f"{what}: {kind.lower()}{', a password' if password else ''}",
            )
        ]
    changes = []
    if role["login"] != login:
        before = "LOGIN" if role["login"] else "NOLOGIN"
        changes.append((kind, before.lower(), kind.lower()))
    changes += [
        (f"NO{attribute}", attribute.lower(), f"no{attribute.lower()}")
        for attribute in ATTRIBUTES
        if attribute in role["attributes"]
    ]
    if not role["inherit"]:
        changes.append(("INHERIT", "noinherit", "inherit"))
    if connections is not None and role["connections"] != connections:
        before = "unlimited" if role["connections"] < 0 else role["connections"]
        changes.append(
            (
                f"CONNECTION LIMIT {connections}",
                f"connections {before}",
                f"at most {connections} connections",
            )
        )
    if password and not matches(role["verifier"], password):
        verifier = quote_text(make_verifier(password))
        changes.append((f"PASSWORD {verifier}", "another password", "the declared password"))
    return [
        Change(
            "postgres",
            f"ALTER ROLE {quote_name(name)} {clause}",
            f"{what}: {before}",
            f"{what}: {after}",
        )
        for clause, before, after in changes
    ]


def _memberships(wanted: Declared, state: Mapping[str, Any]) -> list[Change]:
    """Give each declared role exactly its memberships: an app role has none."""
    groups: dict[str, set[str]] = {}
    for database in wanted.databases:
        groups[database.owner] = set()
        groups[database.migrate_role] = {database.owner}
        groups[database.app_role] = set()
        if database.app_login is not None:
            groups[database.app_login] = {database.app_role}
    for local in wanted.local_roles:
        groups[local.name] = set(local.member_of)
    present: dict[str, set[str]] = {}
    for member, group in state["members"]:
        present.setdefault(member, set()).add(group)
    changes = []
    for member, groups_wanted in groups.items():
        has = present.get(member, set())
        verbs = [("GRANT", "TO", group) for group in sorted(groups_wanted - has)]
        verbs += [("REVOKE", "FROM", group) for group in sorted(has - groups_wanted)]
        for verb, preposition, group in verbs:
            states = [f"role {member}: no member of {group}", f"role {member}: member of {group}"]
            before, after = states if verb == "GRANT" else reversed(states)
            statement = f"{verb} {quote_name(group)} {preposition} {quote_name(member)}"
            changes.append(Change("postgres", statement, before, after))
    return changes


def _database(database: Database, state: Mapping[str, Any]) -> list[Change]:
    present = state["databases"].get(database.name)
    what = f"database {database.name}"
    if present is None:
        # template0: nothing that was created in template1 gets into an app's database.
        return [
            Change(
                "postgres",
                f"CREATE DATABASE {quote_name(database.name)} OWNER {quote_name(database.owner)} "
                "TEMPLATE template0 ENCODING 'UTF8'",
                f"{what}: absent",
                f"{what}: owned by {database.owner}",
                in_transaction=False,
            )
        ]
    if present["owner"] != database.owner:
        return [
            Change(
                "postgres",
                f"ALTER DATABASE {quote_name(database.name)} OWNER TO {quote_name(database.owner)}",
                f"{what}: owned by {present['owner']}",
                f"{what}: owned by {database.owner}",
            )
        ]
    return []


def _inside(database: Database, wanted: Declared, state: Mapping[str, Any]) -> list[Change]:
    name = database.name
    present = state["databases"].get(name)
    contents = state["contents"].get(name) or fresh_contents()
    acl = [[PUBLIC, "CONNECT"], [PUBLIC, "TEMPORARY"]]
    if present:
        acl = _without(present["owner"], present["acl"])
    on_database = {
        PUBLIC: set(),
        database.migrate_role: {"CONNECT"},
        database.app_role: APP_ON_DATABASE,
        **{local.name: {"CONNECT"} for local in wanted.local_roles},
    }
    changes = _grants(name, f"DATABASE {quote_name(name)}", f"database {name}", on_database, acl)
    changes += _public_schema(database, contents)
    changes += _default_privileges(database, contents, adopted=present is not None)
    changes += _settings(database, wanted, state)
    for extension in database.extensions:
        if extension not in contents["extensions"]:
            changes.append(
                Change(
                    name,
                    # Not by a bare name in the session's own path, which is empty.
                    f"SET LOCAL search_path TO public; CREATE EXTENSION {quote_name(extension)};"
                    " SET LOCAL search_path TO ''",
                    f"database {name}: no extension {extension}",
                    f"database {name}: extension {extension}",
                )
            )
    for role in database.roles()[1:]:
        count = contents["owned"].get(role)
        if count:
            changes.append(
                Change(
                    name,
                    f"REASSIGN OWNED BY {quote_name(role)} TO {quote_name(database.owner)}",
                    f"database {name}: {count} objects owned by {role}",
                    f"database {name}: {count} objects owned by {database.owner}",
                )
            )
    return changes


def fresh_contents() -> dict[str, Any]:
    """Return what a database holds right after CREATE DATABASE."""
    return {
        "schemas": ["public"],
        "public_owner": "pg_database_owner",
        "public_acl": [[PUBLIC, "USAGE"]],
        "default_acl": [],
        "extensions": [],
        "owned": {},
    }


def _public_schema(database: Database, contents: Mapping[str, Any]) -> list[Change]:
    owner = contents["public_owner"]
    if owner is None:  # an app that works without this schema has dropped it
        return []
    changes = []
    where = f"schema public of {database.name}"
    if owner != database.owner:
        changes.append(
            Change(
                database.name,
                f"ALTER SCHEMA public OWNER TO {quote_name(database.owner)}",
                f"{where}: owned by {owner}",
                f"{where}: owned by {database.owner}",
            )
        )
    wanted = {PUBLIC: set(), database.app_role: {"USAGE"}}
    acl = _without(owner, contents["public_acl"])
    return changes + _grants(database.name, "SCHEMA public", where, wanted, acl)


def _default_privileges(
    database: Database, contents: Mapping[str, Any], *, adopted: bool
) -> list[Change]:
    """Grant the app role the use of present objects, and of those that migrations make later.

    The migration role's sessions act as the owner. Its own default privileges catch what a
    pooler's DISCARD ALL leaves under its own name.
    """
    changes: list[Change] = []
    have = {
        (role, kind, grantee, privilege)
        for role, kind, grantee, privilege in contents["default_acl"]
    }
    for creator in (database.owner, database.migrate_role):
        for letter, (objects, privileges) in APP_PRIVILEGES.items():
            missing = [
                privilege
                for privilege in privileges
                if (creator, letter, database.app_role, privilege) not in have
            ]
            surplus = sorted(
                privilege
                for role, kind, grantee, privilege in have
                if (role, kind, grantee) == (creator, letter, database.app_role)
                and privilege not in privileges
            )
            what = f"database {database.name}: {objects.lower()} that {creator} makes"
            defaults = f"ALTER DEFAULT PRIVILEGES FOR ROLE {quote_name(creator)}"
            app = quote_name(database.app_role)
            if missing:
                changes.append(
                    Change(
                        database.name,
                        f"{defaults} GRANT {', '.join(missing)} ON {objects} TO {app}",
                        f"{what}: {database.app_role} lacks {', '.join(missing)}",
                        f"{what}: {database.app_role} gets {', '.join(missing)}",
                    )
                )
            if surplus:
                changes.append(
                    Change(
                        database.name,
                        f"{defaults} REVOKE {', '.join(surplus)} ON {objects} FROM {app}",
                        f"{what}: {database.app_role} gets {', '.join(surplus)}",
                        f"{what}: {database.app_role} gets no {', '.join(surplus)}",
                    )
                )
    # Only once, when a database that was not ours becomes ours. Later a missing privilege is a
    # migration's decision (an audit table that is only appended to) and stays as it is.
    ours = any(role == database.owner for role, *_ in have)
    if adopted and not ours:
        changes += _present_objects(database, contents["schemas"])
    return changes


def _present_objects(database: Database, schemas: Iterable[str]) -> list[Change]:
    app = quote_name(database.app_role)
    changes = []
    for schema in schemas:
        within = f"SCHEMA {quote_name(schema)}"
        grants = [f"GRANT USAGE ON {within} TO {app}"]
        for objects, privileges in (APP_PRIVILEGES["r"], APP_PRIVILEGES["S"]):
            grants.append(f"GRANT {', '.join(privileges)} ON ALL {objects} IN {within} TO {app}")
        changes.append(
            Change(
                database.name,
                "; ".join(grants),
                f"schema {schema} of {database.name}: not yet opened to {database.app_role}",
                f"schema {schema} of {database.name}: data of all tables open to "
                f"{database.app_role}",
            )
        )
    return changes


def _settings(database: Database, wanted: Declared, state: Mapping[str, Any]) -> list[Change]:
    """Set what the roles' sessions in this database start with, and nothing else."""
    changes = []
    # Whatever a migration makes belongs to the owner, not to a role with a password.
    of_migrations = {**wanted.migrate_settings, "role": database.owner}
    if database.lock_timeout_seconds is not None:
        of_migrations["lock_timeout"] = f"{database.lock_timeout_seconds}s"
    of_app = {**wanted.app_settings, **database.settings}
    roles: list[tuple[str, str | None, Mapping[str, str]]] = [
        (database.migrate_role, database.name, of_migrations),
        (database.app_role, database.name, of_app),
    ]
    if database.app_login is not None:
        # Not of the database: a restore puts another one in its place. And what the app does is
        # the app role's, as if that had logged in.
        roles.append((database.app_login, None, {**of_app, "role": database.app_role}))
        roles.append((database.app_login, database.name, {}))
    for role, where, values in roles:
        have: dict[str, str] = {}
        for entry in state["settings"]:
            if (entry["role"], entry["database"]) == (role, where):
                have = dict(item.split("=", 1) for item in entry["settings"])
        alter = f"ALTER ROLE {quote_name(role)}"
        what = f"role {role}"
        if where is not None:
            alter += f" IN DATABASE {quote_name(where)}"
            what += f" in {where}"
        for key, value in sorted(values.items()):
            if have.get(key) != value:
                before = f"{key} = {have[key]}" if key in have else f"{key} unset"
                changes.append(
                    Change(
                        database.name,
                        f"{alter} SET {key} = {quote_text(value)}",
                        f"{what}: {before}",
                        f"{what}: {key} = {value}",
                    )
                )
        changes += [
            Change(
                database.name,
                f"{alter} RESET {key}",
                f"{what}: {key} = {have[key]}",
                f"{what}: {key} unset",
            )
            for key in sorted(set(have) - set(values))
        ]
    return changes


def _without(owner: str, acl: Iterable[list[str]]) -> list[list[str]]:
    """Leave out the present owner's privileges: a change of owner takes them along."""
    return [entry for entry in acl if entry[0] != owner]


def _grants(
    database: str,
    target: str,
    what: str,
    wanted: Mapping[str, set[str]],
    acl: Iterable[Iterable[str]],
) -> list[Change]:
    """Give each named grantee exactly its privileges; grantees not named keep theirs."""
    have: dict[str, set[str]] = {}
    for grantee, privilege in acl:
        have.setdefault(grantee, set()).add(privilege)
    changes = []
    for grantee, privileges in wanted.items():
        role = quote_name(grantee) if grantee else "PUBLIC"
        shown = grantee or "PUBLIC"
        surplus = sorted(have.get(grantee, set()) - privileges)
        missing = sorted(privileges - have.get(grantee, set()))
        if surplus:
            listed = ", ".join(surplus)
            changes.append(
                Change(
                    database,
                    f"REVOKE {listed} ON {target} FROM {role}",
                    f"{what}: {shown} has {listed}",
                    f"{what}: {shown} has no {listed}",
                )
            )
        if missing:
            listed = ", ".join(missing)
            changes.append(
                Change(
                    database,
                    f"GRANT {listed} ON {target} TO {role}",
                    f"{what}: {shown} lacks {listed}",
                    f"{what}: {shown} has {listed}",
                )
            )
    return changes


def script(changes: Iterable[Change]) -> str:
    """Return one psql script for all changes; each database's part is one transaction.

    The order of the changes is kept: roles, then databases, then what is inside them.
    """
    lines = []
    connected, open_transaction = "", False
    for change in changes:
        wants_transaction = change.in_transaction
        if change.database != connected or open_transaction != wants_transaction:
            if open_transaction:
                lines.append("COMMIT;")
            if change.database != connected:
                lines += [
                    f"\\connect {quote_name(change.database)}",
                    "SET client_min_messages = warning;",
                    # A session that waits for a lock blocks all sessions that queue behind it.
                    "SET lock_timeout = '15s';",
                ]
                connected = change.database
            open_transaction = wants_transaction
            if open_transaction:
                lines.append("BEGIN;")
        lines.append(f"{change.sql};")
    if open_transaction:
        lines.append("COMMIT;")
    return "\n".join(lines) + "\n"
