"""Copy what new objects of a database grant by default to another database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bedstone.postgres.server import identifier

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from bedstone.postgres.server import Server

_KINDS = {"r": "TABLES", "S": "SEQUENCES", "f": "FUNCTIONS", "T": "TYPES", "n": "SCHEMAS"}

# Those for all schemas and for `public`; other schemas come with the dump, later.
_DEFAULTS = """
SELECT json_build_object(
    'owner', pg_get_userbyid(d.defaclrole), 'kind', d.defaclobjtype,
    'schema', n.nspname, 'privilege', a.privilege_type,
    'role', CASE WHEN a.grantee = 0 THEN NULL ELSE pg_get_userbyid(a.grantee) END)
  FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
 CROSS JOIN LATERAL aclexplode(d.defaclacl) a
 WHERE n.nspname IS NULL OR n.nspname = 'public';
"""

_PUBLIC_SCHEMA = """
SELECT json_build_object(
    'owner', pg_get_userbyid(n.nspowner), 'privilege', a.privilege_type,
    'role', CASE WHEN a.grantee = 0 THEN NULL ELSE pg_get_userbyid(a.grantee) END)
  FROM pg_namespace n CROSS JOIN LATERAL aclexplode(n.nspacl) a
 WHERE n.nspname = 'public';
"""

_PRIVILEGES = {
    "SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER", "MAINTAIN",
    "USAGE", "EXECUTE", "CREATE",
}  # fmt: skip


def statements(server: Server, database: str) -> str:
    """Return the statements that repeat a database's defaults and its schema's privileges."""
    entries = server.rows(_DEFAULTS, database)
    return "\n".join(
        [
            *_schema(server.rows(_PUBLIC_SCHEMA, database)),
            *_closed(entries),
            *(_default(entry) for entry in entries),
        ]
    )


def for_foreign_dump(
    server: Server,
    database: str,
    owner: str,
    properties: Mapping[str, Any],
    extensions: Iterable[str],
) -> str:
    """Return the statements that prepare a new database for the dump of another app's.

    Args:
        server: where it is.
        database: the app's own database, whose defaults and privileges apply.
        owner: its owner.
        properties: of the dumped database.
        extensions: of the dumped database.

    """
    owners = properties.get("extension_owners") or {}
    made = []
    for name in extensions:
        create = f"CREATE EXTENSION IF NOT EXISTS {identifier(name)};"
        if owners.get(name) == properties["owner"]:
            create = f"SET ROLE {identifier(owner)}; {create} RESET ROLE;"
        made.append(create)
    # The database is new: nothing of an app is in it yet.
    return "\n".join([statements(server, database), "SET search_path TO public;", *made])


def _schema(entries: list[dict[str, Any]]) -> Iterator[str]:
    if not entries:
        return
    yield "REVOKE ALL ON SCHEMA public FROM PUBLIC;"
    yield f"ALTER SCHEMA public OWNER TO {identifier(entries[0]['owner'])};"
    for entry in entries:
        yield f"GRANT {_privilege(entry)} ON SCHEMA public TO {_grantee(entry)};"


def _closed(entries: list[dict[str, Any]]) -> Iterator[str]:
    # By default PostgreSQL lets all roles use functions and types; where that was taken back, an
    # entry is there that doesn't name PUBLIC.
    for kind in ("f", "T"):
        ours = [entry for entry in entries if entry["kind"] == kind and not entry["schema"]]
        for owner in sorted({entry["owner"] for entry in ours}):
            if all(entry["role"] is not None for entry in ours if entry["owner"] == owner):
                yield (
                    f"ALTER DEFAULT PRIVILEGES FOR ROLE {identifier(owner)}"
                    f" REVOKE ALL ON {_KINDS[kind]} FROM PUBLIC;"
                )


def _default(entry: dict[str, Any]) -> str:
    where = f" IN SCHEMA {identifier(entry['schema'])}" if entry["schema"] else ""
    return (
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {identifier(entry['owner'])}{where}"
        f" GRANT {_privilege(entry)} ON {_KINDS[entry['kind']]} TO {_grantee(entry)};"
    )


def _privilege(entry: dict[str, Any]) -> str:
    privilege = str(entry["privilege"])
    if privilege not in _PRIVILEGES:
        raise ValueError(f"unknown privilege {privilege!r}")
    return privilege


def _grantee(entry: dict[str, Any]) -> str:
    return "PUBLIC" if entry["role"] is None else identifier(entry["role"])
