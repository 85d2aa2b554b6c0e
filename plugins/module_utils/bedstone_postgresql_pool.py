"""What PgBouncer needs in PostgreSQL: a role without a password, and a function that it may call.

The function returns the SCRAM verifier of a login, and of the declared apps' logins only. With it
PgBouncer checks a client's proof of its password, and from that proof derives what PostgreSQL asks
for the same login: no password is stored (RFC 5802: the client's key is in no verifier).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bedstone_postgresql_declared import Declared

ROLE = "bedstone_pool"
SCHEMA = "bedstone_pool"


def source(pooled: Mapping[str, str]) -> str:
    """Return the function's text.

    Args:
        pooled: each pooled database with its app role; their names are plain (declared.IDENTIFIER).

    """
    pairs = ", ".join(f"('{name}', '{role}')" for name, role in sorted(pooled.items()))
    return f"""
SELECT r.rolname::text, r.rolpassword
  FROM pg_authid r JOIN (VALUES {pairs}) AS pooled(database, app_role) ON pooled.database = $2
 WHERE r.rolname = $1 AND r.rolcanlogin AND NOT r.rolsuper
   AND (r.rolvaliduntil IS NULL OR r.rolvaliduntil > now())
   AND (r.rolname = pooled.app_role OR EXISTS (
     SELECT FROM pg_auth_members m JOIN pg_authid g ON g.oid = m.roleid
      WHERE m.member = r.oid AND g.rolname = pooled.app_role))
"""  # noqa: S608 - names are checked


def statements(wanted: Declared, state: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """Return the SQL that brings the function into line, and both states in words.

    Args:
        wanted: the declaration.
        state: what the queries of bedstone_postgresql_sql returned.

    """
    pooled = {each.name: each.app_role for each in wanted.databases if each.pool_size}
    found = state.get("pool")
    if not pooled:
        if not found:
            return None
        return f"DROP SCHEMA {SCHEMA} CASCADE", "pool: logins are checked", "pool: none"
    text = source(pooled)
    if found == {"source": text, "definer": True, "callers": [ROLE]}:
        return None
    function = f"{SCHEMA}.verifier(text, text)"
    create = (
        f"CREATE FUNCTION {function} RETURNS TABLE (login text, verifier text)"
        f" LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $sql${text}$sql$"
    )
    sql = [
        f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE",
        f"CREATE SCHEMA {SCHEMA}",
        create,
        f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC",
        f"GRANT USAGE ON SCHEMA {SCHEMA} TO {ROLE}",
        f"GRANT EXECUTE ON FUNCTION {function} TO {ROLE}",
    ]
    before = "other logins are checked" if found else "no logins are checked"
    return ("; ".join(sql), f"pool: {before}", f"pool: logins of {', '.join(sorted(pooled))}")
