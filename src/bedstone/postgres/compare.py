"""Compare the contents of two clusters of which one was made from the other."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bedstone.postgres import dump
from bedstone.postgres.server import literal
from bedstone.postgres.snapshot import reader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bedstone.postgres.server import Server

Contents = dict[str, dict[str, Any]]

# Passwords as digests of their verifiers: equal for equal ones, and useless for a login.
_ROLES = """
SELECT json_build_array(r.rolname, json_build_object(
    'attributes', array[r.rolsuper, r.rolinherit, r.rolcreaterole, r.rolcreatedb, r.rolcanlogin,
                        r.rolreplication, r.rolbypassrls],
    'connections', r.rolconnlimit, 'until', r.rolvaliduntil,
    'password', md5(r.rolpassword),
    'settings', (SELECT to_json(s.setconfig) FROM pg_db_role_setting s
                  WHERE s.setrole = r.oid AND s.setdatabase = 0),
    'member of', (SELECT json_agg(g.rolname ORDER BY g.rolname)
                    FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
                   WHERE m.member = r.oid)))
  FROM pg_authid r WHERE r.rolname NOT LIKE 'pg\\_%' ORDER BY r.rolname;
"""

_DATABASES = """
SELECT json_build_array(d.datname, json_build_object(
    'owner', pg_get_userbyid(d.datdba), 'encoding', pg_encoding_to_char(d.encoding),
    'collate', d.datcollate, 'ctype', d.datctype, 'connections', d.datconnlimit,
    'privileges', (SELECT json_agg(a::text ORDER BY a::text) FROM
        (SELECT CASE WHEN e.grantee = 0 THEN '' ELSE pg_get_userbyid(e.grantee) END,
                e.privilege_type, e.is_grantable FROM aclexplode(d.datacl) e) a),
    'settings', (SELECT json_agg(a::text ORDER BY a::text) FROM
        (SELECT CASE WHEN s.setrole = 0 THEN '' ELSE pg_get_userbyid(s.setrole) END,
                s.setconfig FROM pg_db_role_setting s WHERE s.setdatabase = d.oid) a)))
  FROM pg_database d WHERE d.datallowconn AND NOT d.datistemplate ORDER BY d.datname;
"""

# MAINTAIN came with PostgreSQL 17, and a role that had all privileges has it then.
_INSIDE = """
WITH mine AS (SELECT oid, nspname FROM pg_namespace
               WHERE nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema'),
privileges AS (
    SELECT n.nspname || '.' || c.relname AS name, c.relacl AS acl
      FROM pg_class c JOIN mine n ON n.oid = c.relnamespace
    UNION ALL SELECT 'schema ' || n.nspname, s.nspacl FROM mine n JOIN pg_namespace s USING (oid)
    UNION ALL SELECT concat_ws(' ', 'default', pg_get_userbyid(x.defaclrole), n.nspname,
                               x.defaclobjtype), x.defaclacl
      FROM pg_default_acl x LEFT JOIN pg_namespace n ON n.oid = x.defaclnamespace)
SELECT json_build_object(
    'extensions', (SELECT json_agg(extname ORDER BY extname) FROM pg_extension),
    'objects', (SELECT json_agg(a::text ORDER BY a::text) FROM
        (SELECT n.nspname, c.relname, c.relkind, pg_get_userbyid(c.relowner)
           FROM pg_class c JOIN mine n ON n.oid = c.relnamespace WHERE c.relkind <> 't') a),
    'functions', (SELECT json_agg(a::text ORDER BY a::text) FROM
        (SELECT n.nspname, p.proname, pg_get_function_identity_arguments(p.oid),
                pg_get_userbyid(p.proowner), md5(p.prosrc)
           FROM pg_proc p JOIN mine n ON n.oid = p.pronamespace
          WHERE NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass
                             AND d.objid = p.oid AND d.deptype = 'e')) a),
    'constraints', (SELECT json_agg(a::text ORDER BY a::text) FROM
        (SELECT n.nspname, r.relname, c.conname, c.contype, c.convalidated
           FROM pg_constraint c JOIN mine n ON n.oid = c.connamespace
           JOIN pg_class r ON r.oid = c.conrelid WHERE c.contype <> 'n') a),
    'triggers', (SELECT json_agg(a::text ORDER BY a::text) FROM
        (SELECT n.nspname, r.relname, t.tgname, t.tgenabled FROM pg_trigger t
           JOIN pg_class r ON r.oid = t.tgrelid JOIN mine n ON n.oid = r.relnamespace
          WHERE NOT t.tgisinternal) a),
    'invalid indexes', (SELECT json_agg(i.indexrelid::regclass::text ORDER BY 1) FROM pg_index i
                         WHERE NOT i.indisvalid),
    'privileges', (SELECT json_agg(a::text ORDER BY a::text) FROM
        (SELECT p.name, CASE WHEN e.grantee = 0 THEN '' ELSE pg_get_userbyid(e.grantee) END,
                e.privilege_type, e.is_grantable
           FROM privileges p, aclexplode(p.acl) e WHERE e.privilege_type <> 'MAINTAIN') a));
"""


def contents(server: Server, counted: Mapping[str, Mapping[str, int]] | None = None) -> Contents:
    """Return what a cluster holds: by kind and name, what has to be as before.

    Args:
        server: no client writes to it during the call.
        counted: databases whose rows are known already (those of a backup's manifest).

    """
    # Before the roles and privileges are read: it is one of them.
    for name in databases(server):
        reader(server, name)
    found: Contents = {"roles": dict(_pairs(server, _ROLES)), "databases": {}, "rows": {}}
    for name, properties in _pairs(server, _DATABASES):
        inside = json.loads(server.execute(_INSIDE, name, timeout=None))
        found["databases"][name] = {**properties, **inside}
        known = (counted or {}).get(name)
        found["rows"][name] = dict(dump.count(server, name) if known is None else known)
    return found


def differences(before: Contents, after: Contents) -> list[str]:
    """Return a line for each thing that isn't as it was."""
    lines = []
    for kind in ("roles", "databases"):
        old, new = before[kind], after[kind]
        for name in sorted({*old, *new}):
            one = kind.removesuffix("s")
            if name not in new or name not in old:
                lines.append(f"{one} {name}: {'is missing' if name not in new else 'is new'}")
                continue
            lines += [
                f"{one} {name}: {part}: {_difference(old[name].get(part), new[name].get(part))}"
                for part in old[name]
                if old[name].get(part) != new[name].get(part)
            ]
    for name, tables in before["rows"].items():
        now = after["rows"].get(name, {})
        lines += [
            f"database {name}: table {table}: {tables.get(table, 'no such table')} rows before,"
            f" {now.get(table, 'no such table')} now"
            for table in sorted({*tables, *now})
            if tables.get(table) != now.get(table)
        ]
    return lines


def rows(found: Contents) -> int:
    """Return the rows of all tables."""
    return sum(sum(tables.values()) for tables in found["rows"].values())


def databases(server: Server) -> list[str]:
    """Return the names of the databases of users."""
    return [name for name, _ in _pairs(server, _DATABASES)]


def size(server: Server) -> int:
    """Return the bytes of all databases on the disk."""
    return int(server.execute("SELECT sum(pg_database_size(oid)) FROM pg_database;", timeout=300))


def setting(server: Server, name: str) -> str:
    """Return a setting's value."""
    return str(server.value(f"SELECT current_setting({literal(name)}, true)"))


def _pairs(server: Server, query: str) -> list[tuple[str, dict[str, Any]]]:
    return [(name, properties) for name, properties in server.rows(query)]


def _difference(old: Any, new: Any) -> str:
    if isinstance(old, list) and isinstance(new, list):
        gone = [entry for entry in old if entry not in new]
        more = [entry for entry in new if entry not in old]
        parts = [f"without {entry}" for entry in gone[:3]] + [f"with {entry}" for entry in more[:3]]
        return "; ".join(parts) or "in another order"
    return f"{old} before, {new} now"
