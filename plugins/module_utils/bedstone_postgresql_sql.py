"""The queries that read a server's databases and roles as JSON, for psql's standard input."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bedstone_postgresql import quote_name, quote_text
else:
    from ansible.module_utils.bedstone_postgresql import quote_name, quote_text

SERVER = """
SELECT json_build_object(
  'server', json_build_object(
    'version', current_setting('server_version'),
    'data_checksums', current_setting('data_checksums') = 'on',
    'in_recovery', pg_is_in_recovery(),
    'max_connections', current_setting('max_connections')::int,
    'listen_addresses', current_setting('listen_addresses'),
    'ssl', current_setting('ssl') = 'on',
    'pending_restart', (
      SELECT coalesce(json_agg(name ORDER BY name), '[]') FROM pg_settings WHERE pending_restart)),
  'roles', (
    SELECT coalesce(json_object_agg(rolname, json_build_object(
      'login', rolcanlogin,
      'inherit', rolinherit,
      'connections', rolconnlimit,
      'verifier', rolpassword,
      'comment', shobj_description(oid, 'pg_authid'),
      'attributes', array_remove(ARRAY[
        CASE WHEN rolsuper THEN 'SUPERUSER' END,
        CASE WHEN rolcreaterole THEN 'CREATEROLE' END,
        CASE WHEN rolcreatedb THEN 'CREATEDB' END,
        CASE WHEN rolreplication THEN 'REPLICATION' END,
        CASE WHEN rolbypassrls THEN 'BYPASSRLS' END], NULL))), '{}')
    FROM pg_authid WHERE rolname !~ '^pg_'),
  'members', (
    SELECT coalesce(json_agg(DISTINCT jsonb_build_array(member.rolname, parent.rolname)), '[]')
    FROM pg_auth_members m
    JOIN pg_authid member ON member.oid = m.member
    JOIN pg_authid parent ON parent.oid = m.roleid),
  'settings', (
    SELECT coalesce(json_agg(json_build_object(
      'role', r.rolname, 'database', d.datname, 'settings', s.setconfig)), '[]')
    FROM pg_db_role_setting s
    JOIN pg_authid r ON r.oid = s.setrole
    LEFT JOIN pg_database d ON d.oid = s.setdatabase
    WHERE d.oid IS NOT NULL OR s.setdatabase = 0),
  'databases', (
    SELECT coalesce(json_object_agg(datname, json_build_object(
      'owner', pg_get_userbyid(datdba),
      'acl', (
        SELECT coalesce(json_agg(json_build_array(
          CASE a.grantee WHEN 0 THEN '' ELSE pg_get_userbyid(a.grantee) END,
          a.privilege_type)), '[]')
        FROM aclexplode(coalesce(datacl, acldefault('d', datdba))) a))), '{}')
    FROM pg_database WHERE NOT datistemplate),
  'extensions', (SELECT coalesce(json_agg(name), '[]') FROM pg_available_extensions),
  'pool', (
    SELECT json_build_object(
      'source', p.prosrc,
      'definer', p.prosecdef,
      'callers', (
        SELECT coalesce(json_agg(DISTINCT
          CASE a.grantee WHEN 0 THEN '' ELSE pg_get_userbyid(a.grantee) END), '[]')
        FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
        WHERE a.grantee <> p.proowner))
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname = 'bedstone_pool' AND p.proname = 'verifier')
)::jsonb;
"""

# Objects of extensions are left out (they are the superuser's, rightly), and so are default
# privileges, which are bookkeeping of the role that they are for.
CONTENTS = """
SELECT json_build_object(
  'database', current_database(),
  'schemas', (
    SELECT coalesce(json_agg(nspname ORDER BY nspname), '[]') FROM pg_namespace
    WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'),
  'public_owner', (
    SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'public'),
  'public_acl', (
    SELECT coalesce(json_agg(json_build_array(
      CASE a.grantee WHEN 0 THEN '' ELSE pg_get_userbyid(a.grantee) END, a.privilege_type)), '[]')
    FROM pg_namespace n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a
    WHERE n.nspname = 'public'),
  'default_acl', (
    SELECT coalesce(json_agg(json_build_array(
      pg_get_userbyid(d.defaclrole), d.defaclobjtype,
      CASE a.grantee WHEN 0 THEN '' ELSE pg_get_userbyid(a.grantee) END, a.privilege_type)), '[]')
    FROM pg_default_acl d, aclexplode(d.defaclacl) a WHERE d.defaclnamespace = 0),
  'extensions', (SELECT coalesce(json_agg(extname), '[]') FROM pg_extension),
  'owned', (
    SELECT coalesce(json_object_agg(owner, count), '{}') FROM (
      SELECT pg_get_userbyid(c.relowner) AS owner, count(*) AS count
      FROM pg_class c
      JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
        AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
        AND NOT EXISTS (
          SELECT FROM pg_depend x
          WHERE x.classid = 'pg_class'::regclass AND x.objid = c.oid AND x.deptype = 'e')
      GROUP BY 1) counted)
)::jsonb;
"""


def read_script(databases: Iterable[str]) -> str:
    """Return a psql script that prints one line of JSON for the server and one a database.

    Databases that don't exist yet print nothing.
    """
    parts = ["SET client_min_messages = warning;", SERVER]
    for number, name in enumerate(databases):
        there = f"SELECT EXISTS (SELECT FROM pg_database WHERE datname = {quote_text(name)})"  # noqa: S608 - quoted
        parts += [
            f"{there} AS there{number} \\gset",
            f"\\if :there{number}",
            f"\\connect {quote_name(name)}",
            CONTENTS,
            "\\endif",
        ]
    return "\n".join(parts) + "\n"
