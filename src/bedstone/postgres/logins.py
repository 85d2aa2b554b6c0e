"""Find and drop the roles that an app has logged in as, one for each password it has had."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bedstone.postgres.server import identifier, literal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bedstone.postgres.server import Server

_LOCK_WAIT = "20s"
# What the control side's `names.app_login` puts behind the name of an app's role.
_SUFFIX = "_[0-9a-f]{8}"
# What role postgresql writes at the app's role, in front of the login that the settings want: after
# provision.yml it is there, and what runs doesn't use it yet.
_COMMENT = "logs in as "
# A role that logs in itself is one of an earlier version of Bedstone.
_LOGINS = """
SELECT json_build_array(r.rolname, (SELECT count(*) FROM pg_stat_activity a
                                     WHERE a.usesysid = r.oid))
  FROM pg_roles r
 WHERE r.rolcanlogin
   AND NOT EXISTS (SELECT FROM pg_roles g WHERE g.rolname = {role}
                    AND shobj_description(g.oid, 'pg_authid') = {comment} || r.rolname)
   AND (r.rolname = {role}
        OR (r.rolname ~ {pattern}
            AND EXISTS (SELECT FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
                         WHERE m.member = r.oid AND g.rolname = {role})))
 ORDER BY r.rolname;
"""


def sessions(server: Server, role: str) -> dict[str, int]:
    """Return the logins of an app's role, each with the number of its sessions."""
    query = _LOGINS.format(
        role=literal(role), pattern=literal(f"^{role}{_SUFFIX}$"), comment=literal(_COMMENT)
    )
    return {str(name): int(count) for name, count in server.rows(query)}


def end_idle(server: Server, names: Iterable[str]) -> None:
    """End the sessions that PgBouncer keeps open for logins without a client."""
    for name in names:
        server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"  # noqa: S608 - quoted
            f" WHERE usename = {literal(name)} AND client_addr IS NULL AND state = 'idle';"
        )


def close(server: Server, name: str) -> None:
    """Let a role log in no more."""
    server.execute(f"ALTER ROLE {identifier(name)} NOLOGIN PASSWORD NULL;")


def drop(server: Server, database: str, name: str, heir: str) -> None:
    """Drop a login; what it owns goes to the app's role."""
    login = identifier(name)
    # After a pooler's DISCARD ALL a session is the login's own, and so is what it makes:
    # large objects, nothing else.
    server.execute(
        f"BEGIN; SET LOCAL lock_timeout = '{_LOCK_WAIT}';"
        f" REASSIGN OWNED BY {login} TO {identifier(heir)};"
        f" DROP OWNED BY {login}; DROP ROLE {login}; COMMIT;",
        database,
    )
