"""Load a dump without the superuser's rights.

An app's own functions run while its dump is loaded: CHECK constraints, domains, indexes on
expressions. `SET ROLE` would not stop them: a session of the superuser can always switch back to
it. So the load logs in as a role that was never a superuser, a member of the app's own roles. What
a superuser owns (an administrator has made it by hand) is made by the same role and handed over at
the end, since it may call functions of the app, too. The superuser makes only what runs nothing.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from bedstone.core.errors import RefusedError
from bedstone.postgres.server import PostgresError, identifier, literal

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from bedstone.postgres.server import Server

# pg_hba.conf and pg_ident.conf of role postgresql accept only the system's user `postgres` as this
# role. It stays, and between two restores it is a member of nothing.
NAME = "bedstone_restore"

# What has to be there before anything can be made in it, ...
_EXTENSION = re.compile(r"EXTENSION - (.+?) ?")
_FIRST = re.compile(
    r"EXTENSION |COMMENT - EXTENSION |PROCEDURAL LANGUAGE |FOREIGN DATA WRAPPER |SERVER "
)
_SCHEMA = re.compile(r"(SCHEMA - |(ACL|COMMENT|SECURITY LABEL) - SCHEMA )(.+)")
# ... and what only a superuser makes, but which needs the rest.
_LAST = re.compile(r"EVENT TRIGGER |PUBLICATION |SUBSCRIPTION |USER MAPPING ")
# The owner of a table with FORCE ROW LEVEL SECURITY sees its rows no longer: foreign keys first.
_ROWS = re.compile(r"ROW SECURITY |POLICY ")
# What may call functions as it is made or filled: of superusers, too, not with their rights.
_CALLS = re.compile(
    r"(TABLE|VIEW|MATERIALIZED VIEW|SEQUENCE|DEFAULT|INDEX|CONSTRAINT|FK CONSTRAINT"
    r"|CHECK CONSTRAINT|STATISTICS|TRIGGER|RULE)(?: ATTACH| DATA| SET| OWNED BY)? (\S+) (.+)"
)
# Done by the superuser when all of a superuser's objects have their owner.
_AFTERWARDS = re.compile(r"ACL |DEFAULT ACL |COMMENT |SECURITY LABEL |ROW SECURITY |POLICY ")
# "215; 1259 16402 TABLE public orders payments_owner": number, two OIDs, kind, schema, name, owner.
_ENTRY = re.compile(r"\d+; \d+ \d+ (.*)")

# With one of these a role could do more than what belongs to the app.
_PRIVILEGED = """
SELECT to_json(rolname::text) FROM pg_roles
 WHERE rolsuper OR rolcreaterole OR rolreplication OR rolbypassrls OR rolname LIKE 'pg\\_%';
"""

# Roles that have something in a database of another owner, and those that can act as one of them.
_STRANGERS = """
WITH another AS (
    SELECT oid FROM pg_database
     WHERE NOT datistemplate AND pg_get_userbyid(datdba) NOT IN ({owner}, 'postgres')),
busy AS (
    SELECT DISTINCT s.refobjid AS role FROM pg_shdepend s
     WHERE s.refclassid = 'pg_authid'::regclass
       AND (s.dbid IN (SELECT oid FROM another)
            OR (s.classid = 'pg_database'::regclass AND s.objid IN (SELECT oid FROM another))))
SELECT to_json(r.rolname::text) FROM pg_roles r
 WHERE r.rolname <> {owner} AND NOT r.rolsuper
   AND EXISTS (SELECT FROM busy WHERE pg_has_role(r.oid, busy.role, 'MEMBER'));
"""

_MEMBERSHIPS = """
SELECT to_json(g.rolname::text) FROM pg_auth_members m
  JOIN pg_roles g ON g.oid = m.roleid JOIN pg_roles r ON r.oid = m.member
 WHERE r.rolname = {name};
"""


@dataclass(frozen=True)
class Login:
    """The plan for loading a dump.

    Attributes:
        name: the role that the load comes as.
        owner: the role that owns the app's database.
        privileged: roles that are more than an app's.
        extensions: extension -> the app's role that owns it.

    """

    name: str
    owner: str
    privileged: frozenset[str]
    extensions: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Turn:
    """Objects that are restored in one step.

    Attributes:
        lines: of the listing.
        superuser: whether the superuser makes them.
        role: the role that the session takes, None for its own.
        heir: the privileged role that they belong to in the end; what the superuser doesn't make
            is made without an owner.

    """

    lines: list[str] = field(default_factory=list)
    superuser: bool = False
    role: str | None = None
    heir: str | None = None


@contextmanager
def login(
    server: Server,
    owner: str,
    roles: Collection[str] = (),
    extensions: Mapping[str, str] | None = None,
) -> Iterator[Login]:
    """Make a role that can load what belongs to an app's roles, for a block.

    Only one block at a time on a server: the role is a member of one app's roles only.

    Args:
        server: where.
        owner: the role that owns the app's database.
        roles: further roles that the dump names; it becomes a member of those that have nothing
            in another app's database.
        extensions: extension -> owner, as they were.

    Raises:
        PostgresError: the server refused it.

    """
    privileged = frozenset(server.rows(_PRIVILEGED)) - {NAME}
    present = server.roles()
    others = privileged | strangers(server, owner) | {NAME}
    wanted = {owner, *((set(roles) & present) - others)}
    role = identifier(NAME)
    attributes = (
        "LOGIN INHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD NULL"
    )
    # What a killed restore has left, and what a function that ran as it has set for it.
    left = set(server.rows(_MEMBERSHIPS.format(name=literal(NAME)))) - wanted
    server.execute(
        "\n".join(
            [
                "BEGIN;",
                *([] if NAME in present else [f"CREATE ROLE {role};"]),
                f"ALTER ROLE {role} {attributes}; ALTER ROLE {role} RESET ALL;",
                *(f"REVOKE {identifier(name)} FROM {role};" for name in sorted(left)),
                *(f"GRANT {identifier(name)} TO {role};" for name in sorted(wanted)),
                "COMMIT;",
            ]
        )
    )
    theirs = {name: own for name, own in (extensions or {}).items() if own in wanted}
    try:
        yield Login(NAME, owner, privileged, theirs)
    finally:
        server.execute(f"REVOKE {', '.join(map(identifier, sorted(wanted)))} FROM {role};")


def strangers(server: Server, owner: str) -> frozenset[str]:
    """Return the roles that reach into databases of other owners than an app's own."""
    return frozenset(server.rows(_STRANGERS.format(owner=literal(owner))))


def refuse_strangers(server: Server, owner: str, lines: Iterable[str]) -> None:
    """Refuse a dump that holds objects of another app's roles.

    Args:
        server: where it is to be restored.
        owner: the role that owns the app's database.
        lines: of its listing.

    Raises:
        RefusedError: names them.

    """
    others = strangers(server, owner)
    entries = [found[1] for found in map(_ENTRY.match, lines) if found]
    theirs = [entry for entry in entries if any(entry.endswith(f" {role}") for role in others)]
    if theirs:
        raise RefusedError(
            f"The backup holds objects of roles that have something in other databases, too"
            f" ({len(theirs)}). Its functions would run with their rights.",
            hint=f"Hand them to the app's role before a backup (ALTER ... OWNER TO"
            f" {identifier(owner)}), or trust every function in this backup:"
            " `bedstone restore ... --as-superuser`.",
            details="\n".join(theirs[:20]),
        )


def require(server: Server, database: str) -> None:
    """Refuse when the role can't come into a database.

    Raises:
        RefusedError: says how to give it access.

    """
    try:
        replace(server, role=NAME).execute("SELECT 1;", database)
    except PostgresError as error:
        raise RefusedError(
            f"PostgreSQL doesn't let the role {NAME} in, as which an app's data is loaded so that"
            " its functions don't run with the superuser's rights.",
            hint="Run the playbook `provision.yml`, whose role `postgresql` lets it in. Or trust"
            " every function in this backup: `bedstone restore ... --as-superuser`.",
            details=error.details,
        ) from error


def leave(server: Server, database: str, owner: str) -> None:
    """Give whatever the role still owns in a restored database to its owner."""
    server.execute(
        f"REASSIGN OWNED BY {identifier(NAME)} TO {identifier(owner)};"
        f" DROP OWNED BY {identifier(NAME)};",
        database,
        timeout=600,
    )


def hand_over(server: Server, database: str, heir: str) -> None:
    """Give all that the role owns in a database to another one."""
    server.execute(
        f"REASSIGN OWNED BY {identifier(NAME)} TO {identifier(heir)};", database, timeout=600
    )


def let_create(server: Server, database: str) -> None:
    """Grant the role the right to make objects in each schema; :func:`leave` revokes it."""
    schemas = server.rows(
        "SELECT to_json(nspname::text) FROM pg_namespace"
        " WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'",
        database,
    )
    listed = ", ".join(map(identifier, schemas))
    server.execute(f"GRANT USAGE, CREATE ON SCHEMA {listed} TO {identifier(NAME)};", database)


def split(lines: Iterable[str], login: Login) -> list[Turn]:
    """Return in which turns the objects of a dump are restored.

    Args:
        lines: of its listing, each an object.
        login: the role that loads it, and what it may not own.

    """
    entries = [(line, found[1]) for line in lines if (found := _ENTRY.match(line))]
    # Tables of extensions aren't in a dump, only rows that were added to them.
    made = {
        (found[2], found[3])
        for _, entry in entries
        if (found := _CALLS.fullmatch(entry)) and entry.startswith(("TABLE ", "SEQUENCE "))
        if not entry.startswith(("TABLE DATA ", "TABLE ATTACH ", "SEQUENCE SET "))
    }
    extensions = [Turn(superuser=True)]
    first, last = Turn(superuser=True), Turn(superuser=True)
    own, rows = Turn(), Turn()
    heirs: dict[str, list[Turn]] = {}
    for line, entry in entries:
        # Names may have spaces: the owner is what the line ends with.
        heir = next((role for role in login.privileged if entry.endswith(f" {role}")), None)
        schema = _SCHEMA.fullmatch(entry)
        if extension := _EXTENSION.fullmatch(entry):
            role = login.extensions.get(extension[1])
            if extensions[-1].role != role:
                extensions.append(Turn(superuser=role is None, role=role))
            turn = extensions[-1]
        elif schema is not None:
            turn = first if heir is not None or schema[3].startswith("public ") else own
        elif _FIRST.match(entry):
            turn = first
        elif _LAST.match(entry) or (heir is not None and _AFTERWARDS.match(entry)):
            turn = last
        elif heir is not None:
            calls = _CALLS.fullmatch(entry)
            rows_of = calls and entry.startswith(("TABLE DATA ", "SEQUENCE SET "))
            superuser = calls is None or bool(rows_of and (calls[2], calls[3]) not in made)
            turns = heirs.setdefault(heir, [])
            if not turns or turns[-1].superuser != superuser:
                turns.append(Turn(superuser=superuser, heir=heir))
            turn = turns[-1]
        else:
            turn = rows if _ROWS.match(entry) else own
        turn.lines.append(line)
    theirs = [turn for turns in heirs.values() for turn in turns]
    return [turn for turn in (*extensions, first, own, *theirs, last, rows) if turn.lines]
