"""Ansible module: databases with their roles and privileges, converged over the local socket."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

from ansible.module_utils.basic import AnsibleModule

if TYPE_CHECKING:
    from bedstone_postgresql import (
        Change,
        earlier_logins,
        empty_state,
        plan,
        script,
        strangers,
        undeclared,
    )
    from bedstone_postgresql_declared import SESSION_OPTIONS, declared
    from bedstone_postgresql_scram import hide_verifiers
    from bedstone_postgresql_sql import read_script
    from bedstone_postgresql_tls import ServerError, served_problems
else:
    from ansible.module_utils.bedstone_postgresql import (
        Change,
        earlier_logins,
        empty_state,
        plan,
        script,
        strangers,
        undeclared,
    )
    from ansible.module_utils.bedstone_postgresql_declared import SESSION_OPTIONS, declared
    from ansible.module_utils.bedstone_postgresql_scram import hide_verifiers
    from ansible.module_utils.bedstone_postgresql_sql import read_script
    from ansible.module_utils.bedstone_postgresql_tls import ServerError, served_problems

DOCUMENTATION = r"""
module: postgresql_accounts
short_description: Databases, each with an owner, a migration and an app role
description:
  - Reads databases, roles, memberships, privileges, settings and extensions in one go, compares
    them with the declaration and changes the differences only.
  - Connects as C(postgres) over the local socket (peer). Passwords are compared with the stored
    SCRAM verifiers and sent as verifiers, so no plain password reaches the server or its logs.
  - Never drops a database or a role; what is there undeclared is reported.
  - Checks at the end that every listening address serves the certificate of the file.
options:
  databases:
    description: The databases and the three roles of each.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: The database., type: str, required: true}
      owner: {description: Owns everything in it; can't log in., type: str, required: true}
      migrate_role: {description: Logs in and acts as the owner., type: str, required: true}
      migrate_password: {description: Its password., type: str, required: true}
      app_role: {description: Reads and writes data only., type: str, required: true}
      app_password: {description: The password of its login., type: str, required: true}
      app_login:
        description: The role that logs in for the app, a member of C(app_role); when not given,
          C(app_role) itself.
        type: str
      client_certificate:
        description: The template of pg_hba.conf reads it.
        type: bool
        default: false
      extensions: {description: Extensions to create., type: list, elements: str, default: []}
      lock_timeout_seconds:
        description: How long its migrations wait for a lock; C(migrate_settings) decide when it is
          not given.
        type: int
      connections:
        description: How many connections its app role may have; by the server's when not given.
        type: int
      pool_size:
        description: How many of them PgBouncer on this host opens; without it, PgBouncer gets none.
        type: int
      settings:
        description: What its app role's sessions start with, besides and before C(app_settings).
        type: dict
        default: {}
  local_roles:
    description: Roles without a password for programs of this server.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: The role., type: str, required: true}
      member_of: {description: Roles it is a member of., type: list, elements: str, default: []}
  app_settings:
    description: What app roles' sessions start with, like C(statement_timeout).
    type: dict
    default: {}
  migrate_settings:
    description: What migration roles' sessions start with.
    type: dict
    default: {}
  port:
    description: The server's port.
    type: int
    default: 5432
  certificate:
    description: Path of the certificate that clients must be served; empty for no check.
    type: path
"""

EXAMPLES = r"""
- name: Make the app's database and roles
  postgresql_accounts:
    databases:
      - name: payments
        owner: payments_owner
        migrate_role: payments_migrate
        migrate_password: "{{ payments_migrate_password }}"
        app_role: payments_app
        app_password: "{{ payments_app_password }}"
"""

RETURN = r"""
changes: {description: What was changed, a line each., returned: always, type: list, elements: str}
server:
  description: Version, whether data checksums are on, settings that wait for a restart.
  returned: when the server answers
  type: dict
undeclared_databases:
  description: Databases that are there without being declared.
  returned: always
  type: list
  elements: str
"""

SOCKET_DIRECTORY = "/var/run/postgresql"
SUPERUSER = "postgres"
PSQL_TIMEOUT_SECONDS = 120

ARGUMENTS: dict[str, Any] = {
    "databases": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "owner": {"type": "str", "required": True},
            "migrate_role": {"type": "str", "required": True},
            "migrate_password": {"type": "str", "required": True, "no_log": True},
            "app_role": {"type": "str", "required": True},
            "app_password": {"type": "str", "required": True, "no_log": True},
            "app_login": {"type": "str"},
            "client_certificate": {"type": "bool", "default": False},
            "extensions": {"type": "list", "elements": "str", "default": []},
            "lock_timeout_seconds": {"type": "int"},
            "connections": {"type": "int"},
            "pool_size": {"type": "int"},
            "settings": {"type": "dict", "default": {}},
        },
    },
    "local_roles": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "member_of": {"type": "list", "elements": "str", "default": []},
        },
    },
    "app_settings": {"type": "dict", "default": {}},
    "migrate_settings": {"type": "dict", "default": {}},
    "port": {"type": "int", "default": 5432},
    "certificate": {"type": "path"},
}


class PsqlError(Exception):
    """psql failed; the text is what it said, without verifiers."""


def psql(text: str, port: int) -> str:
    """Run a psql script as the superuser over the local socket and return what it printed.

    Args:
        text: the script; it travels over standard input, never in an argument.
        port: the server's port, which is in the socket's name.

    Raises:
        PsqlError: psql ended with an error, or took too long.

    """
    account = pwd.getpwnam(SUPERUSER)
    switch: dict[str, Any] = {}
    if os.geteuid() != account.pw_uid:
        switch = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    # A PGSERVICE or PGOPTIONS of the operator's session must not lead us elsewhere.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
    environment |= {"PGAPPNAME": "bedstone", "LC_ALL": "C.UTF-8", "HOME": account.pw_dir}
    environment["PGOPTIONS"] = SESSION_OPTIONS
    command = ["psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--no-password"]
    command += ["--set", "ON_ERROR_STOP=1", "--host", SOCKET_DIRECTORY, "--port", str(port)]
    command += ["--dbname", "postgres", "--file", "-"]
    try:
        ended = subprocess.run(
            command,
            input=text,
            check=False,
            capture_output=True,
            text=True,
            cwd="/",
            env=environment,
            timeout=PSQL_TIMEOUT_SECONDS,
            **switch,
        )
    except subprocess.TimeoutExpired as error:
        raise PsqlError(f"psql did not end within {PSQL_TIMEOUT_SECONDS} seconds") from error
    if ended.returncode != 0:
        raise PsqlError(hide_verifiers(ended.stderr.strip() or ended.stdout.strip()))
    printed: str = ended.stdout
    return printed


def read_state(databases: list[str], port: int) -> dict[str, Any]:
    """Return what the server has: the result of the queries, ready for `plan`."""
    state: dict[str, Any] = {}
    contents: dict[str, Any] = {}
    for line in psql(read_script(databases), port).splitlines():
        if not line.startswith("{"):
            continue
        answer = json.loads(line)
        if "server" in answer:
            state = answer
        else:
            contents[answer["database"]] = answer
    return {**state, "contents": contents}


def apply(changes: list[Change], port: int) -> None:
    """Run the changes; each database's part is one transaction."""
    psql(script(changes), port)


def server_warnings(server: dict[str, Any]) -> list[str]:
    """Return a sentence for each condition of the server that an operator has to decide on."""
    sentences = []
    if not server["data_checksums"]:
        sentences.append(
            "This cluster has no data checksums: a damaged page would go unnoticed. To write them, "
            "with PostgreSQL stopped meanwhile: postgresql_enable_data_checksums: true"
        )
    if server["pending_restart"]:
        sentences.append(
            f"Settings that count only after a restart of PostgreSQL: "
            f"{', '.join(server['pending_restart'])}. When it suits: systemctl restart postgresql"
        )
    return sentences


def converge(module: AnsibleModule) -> dict[str, Any]:
    """Read, compare, change and check; return the module's result.

    Raises:
        ValueError: the declaration can't be used.
        PsqlError: the server doesn't answer or refuses a statement.
        ServerError: an address isn't listened on or serves another certificate.

    """
    wanted = declared(module.params)
    port = module.params["port"]
    names = [database.name for database in wanted.databases]
    if module.check_mode and not shutil.which("psql"):
        module.warn("PostgreSQL isn't installed yet: everything declared would be made.")
        changes = plan(wanted, empty_state())
        return _result(changes, undeclared_databases=[])
    state = read_state(names, port)
    changes = plan(wanted, state)
    if state["server"]["in_recovery"]:
        if changes:
            module.warn("This server is a standby: databases and roles come from its primary.")
        changes = []
    if changes and not module.check_mode:
        apply(changes, port)
        state = read_state(names, port)
        left = plan(wanted, state)
        if left:
            listed = "\n".join(change.before for change in left)
            raise PsqlError(f"The server took the statements, and still differs:\n{listed}")
    sentences = [*strangers(wanted, state), *earlier_logins(wanted, state)]
    for sentence in [*sentences, *server_warnings(state["server"])]:
        module.warn(sentence)
    if module.params["certificate"] and not module.check_mode:
        problems = served_problems(
            state["server"]["listen_addresses"], port, module.params["certificate"]
        )
        if problems:
            raise ServerError("\n".join(problems))
    return _result(changes, server=state["server"], undeclared_databases=undeclared(wanted, state))


def _result(changes: list[Change], **more: Any) -> dict[str, Any]:
    return {
        "changed": bool(changes),
        "changes": [change.after for change in changes],
        "diff": {
            "before": "".join(f"{change.before}\n" for change in changes),
            "after": "".join(f"{change.after}\n" for change in changes),
        },
        **more,
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        result = converge(module)
    except ValueError as error:
        module.fail_json(msg=f"The declared databases can't be made: {error}.")
    except PsqlError as error:
        module.fail_json(
            msg=f"PostgreSQL on port {module.params['port']}: {error}",
        )
    except ServerError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
