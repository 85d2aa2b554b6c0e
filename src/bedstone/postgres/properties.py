"""Save and restore the properties of a database that a dump of its contents doesn't hold.

Owner, locale, the right to connect, settings for all roles or one: a restored database needs them
too, or the app behaves differently on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bedstone.postgres.server import identifier, literal
from bedstone.postgres.snapshot import READER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bedstone.postgres.server import Server

_PUBLIC = "PUBLIC"
_PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin"}

# PostgreSQL keeps the value of these as a quoted list (guc.h: GUC_LIST_QUOTE).
_LISTS = {
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
}

# to_jsonb() of the whole row, since the names of the locale's columns differ by version.
_QUERY = """
SELECT to_jsonb(d) || jsonb_build_object(
    'owner', pg_get_userbyid(d.datdba),
    'encoding_name', pg_encoding_to_char(d.encoding),
    'size', pg_database_size(d.oid),
    'privileges', (SELECT jsonb_agg(jsonb_build_object(
            'role', CASE WHEN a.grantee = 0 THEN NULL ELSE pg_get_userbyid(a.grantee) END,
            'privilege', a.privilege_type, 'grantable', a.is_grantable))
        FROM aclexplode(d.datacl) a),
    'settings', (SELECT jsonb_agg(jsonb_build_object(
            'role', CASE WHEN s.setrole = 0 THEN NULL ELSE pg_get_userbyid(s.setrole) END,
            'values', to_jsonb(s.setconfig)))
        FROM pg_db_role_setting s WHERE s.setdatabase = d.oid))
  FROM pg_database d WHERE d.datname = {name};
"""

_ROLES = """
SELECT to_json(r.rolname::text) FROM pg_roles r
 WHERE r.oid IN (
    SELECT s.refobjid FROM pg_shdepend s JOIN pg_database d ON d.datname = {name}
     WHERE s.refclassid = 'pg_authid'::regclass
       AND (s.dbid = d.oid
            OR (s.dbid = 0 AND s.classid = 'pg_database'::regclass AND s.objid = d.oid))
    UNION SELECT s.setrole FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
     WHERE d.datname = {name} AND s.setrole <> 0)
 ORDER BY r.rolname;
"""


def read(server: Server, name: str) -> dict[str, Any] | None:
    """Return the properties of a database, or None when it isn't there.

    In addition to the server's own columns: ``owner``, ``encoding_name``, ``size`` (bytes),
    ``privileges`` and ``settings`` (None where nothing was ever granted or set).
    """
    rows = server.rows(_QUERY.format(name=literal(name)))
    if not rows:
        return None
    properties: dict[str, Any] = rows[0]
    if properties["privileges"]:
        # Ours, made where it is needed: a server without it takes the backup all the same.
        properties["privileges"] = [
            entry for entry in properties["privileges"] if entry["role"] != READER
        ]
    return properties


def roles(server: Server, name: str) -> list[str]:
    """Return the roles that own something in a database or have a privilege on it."""
    found = [str(role) for role in server.rows(_ROLES.format(name=literal(name)))]
    return [role for role in found if role != READER]


def create_statement(name: str, owner: str, properties: Mapping[str, Any]) -> str:
    """Return the statement that makes an empty database like another one."""
    parts = [
        f"CREATE DATABASE {identifier(name)}",
        f"OWNER {identifier(owner)}",
        "TEMPLATE template0",
        f"ENCODING {literal(properties['encoding_name'])}",
        f"LC_COLLATE {literal(properties['datcollate'])}",
        f"LC_CTYPE {literal(properties['datctype'])}",
    ]
    provider = _PROVIDERS[properties["datlocprovider"]]
    parts.append(f"LOCALE_PROVIDER {provider}")
    # PostgreSQL 17 renamed the column.
    locale = properties.get("datlocale") or properties.get("daticulocale")
    if locale and provider != "libc":
        parts.append(f"{provider.upper()}_LOCALE {literal(locale)}")
    if rules := properties.get("daticurules"):
        parts.append(f"ICU_RULES {literal(rules)}")
    parts.append(f"CONNECTION LIMIT {int(properties['datconnlimit'])}")
    return " ".join(parts) + ";"


def like(name: str, owner: str, properties: Mapping[str, Any]) -> str:
    """Return the statements that give a new database another one's privileges and settings.

    Args:
        name: the new database.
        owner: its owner.
        properties: of the database to be like.

    """
    return "\n".join([*_privileges(name, owner, properties), *_settings(name, properties)])


def _privileges(name: str, owner: str, properties: Mapping[str, Any]) -> Iterator[str]:
    privileges = properties.get("privileges")
    if privileges is None:
        # Never touched there: the defaults, which the new one has by itself.
        return
    target = identifier(name)
    yield f"REVOKE ALL ON DATABASE {target} FROM PUBLIC, {identifier(owner)};"
    for entry in privileges:
        role = entry["role"]
        if role == properties["owner"]:
            role = owner
        grantee = _PUBLIC if role is None else identifier(role)
        option = " WITH GRANT OPTION" if entry["grantable"] and role != owner else ""
        # "CREATE", "CONNECT", "TEMPORARY": from the server's own list.
        privilege = {"CREATE": "CREATE", "CONNECT": "CONNECT", "TEMPORARY": "TEMPORARY"}[
            entry["privilege"]
        ]
        yield f"GRANT {privilege} ON DATABASE {target} TO {grantee}{option};"


def _settings(name: str, properties: Mapping[str, Any]) -> Iterator[str]:
    for entry in properties.get("settings") or ():
        subject = f"DATABASE {identifier(name)}"
        if entry["role"] is not None:
            subject = f"ROLE {identifier(entry['role'])} IN {subject}"
        for setting in entry["values"]:
            key, _, value = setting.partition("=")
            values = split_list(value) if key.lower() in _LISTS else [value]
            # A name with a dot is an extension's or the app's own: two identifiers.
            quoted = ".".join(identifier(part) for part in key.split("."))
            listed = ", ".join(map(literal, values)) or literal("")
            yield f"ALTER {subject} SET {quoted} TO {listed};"


def split_list(value: str) -> list[str]:
    """Return the names in a list such as ``"$user", public``."""
    names: list[str] = []
    current, quoted, index = "", False, 0
    while index < len(value):
        character = value[index]
        if character == '"':
            if quoted and value[index + 1 : index + 2] == '"':
                current += '"'
                index += 1
            else:
                quoted = not quoted
        elif character == "," and not quoted:
            names.append(current)
            current = ""
        elif quoted or not character.isspace():
            current += character
        index += 1
    return [*names, current] if current or names else []
