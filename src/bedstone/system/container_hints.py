"""Suggest a setting from the output of a container that failed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_FILE_CAPABILITIES = re.compile(r"FATAL tini.*\bexec (\S+) failed: Operation not permitted")
_PROCESS_1 = re.compile(
    r"(only|must|needs? to|has to) (be |run )*(as )?(pid|process) 1\b", re.IGNORECASE
)
_NOT_EXECUTABLE = re.compile(r"failed to map segment from shared object")
_RIGHTS = re.compile(
    r"(Operation not permitted|failed switching to|initgroups|setgroups|setgid|setuid)"
)
_MODULE = re.compile(r"ModuleNotFoundError: No module named '([\w.]+)'")
_HOST = re.compile(r"Invalid HTTP_HOST header: '([^']+)'")
_DEPLOY = re.compile(r"\((security\.W\d{3})\)")
# What PostgreSQL says when it ends a statement or session of an app (tcop/postgres.c), and which
# setting it is that ended it.
_LIMITS = {
    "canceling statement due to statement timeout": "statement_timeout",
    "canceling statement due to lock timeout": "lock_timeout",
    "terminating connection due to idle-in-transaction timeout": (
        "idle_in_transaction_session_timeout"
    ),
    "terminating connection due to transaction timeout": "transaction_timeout",
    "terminating connection due to idle-session timeout": "idle_session_timeout",
    "temporary file size exceeds temp_file_limit": "temp_file_limit",
}
_EXAMPLES = {"lock_timeout": "30s", "temp_file_limit": "4GB"}


def of_database(output: str, *, migration: bool = False) -> str | None:
    """Return the setting that gives more of what PostgreSQL didn't, None when it is none of these.

    Args:
        output: the last lines of what failed.
        migration: whether it ran with the migration role, which has settings of its own.

    """
    said = output.lower()
    # The last one is the cause: an app may try again after the first.
    last = max(_LIMITS, key=said.rfind)
    if last not in said:
        return None
    name = _LIMITS[last]
    value = _EXAMPLES.get(name, "30min")
    if migration:
        where = f"`postgresql_migrate_settings: {{{name}: {value}}}` gives all migrations more"
        if name == "lock_timeout":
            where = "`database: {lock_timeout_seconds: 30}` of the app lets a migration wait longer"
    else:
        where = f"`database: {{settings: {{{name}: {value}}}}}` of the app gives its sessions more"
    return (
        f"PostgreSQL ended it by the setting {name}. {where};"
        f" `SET {name} = '{value}'` in the command gives it to this one alone."
    )


def hint(output: str, uid: int, capabilities: Sequence[str]) -> str | None:
    """Return the setting that helps a container which printed this, None when none is known.

    Args:
        output: its last lines.
        uid: the user that the image starts as.
        capabilities: what it has of root's.

    """
    if said := of_database(output) or _of_django_or_python(output):
        return said
    if found := _FILE_CAPABILITIES.search(output):
        return (
            f"{found[1]} has file capabilities: name them, for example"
            " `capabilities: [NET_BIND_SERVICE]` of the app."
        )
    if _PROCESS_1.search(output):
        return "The image's supervisor has to be process 1: `init: false` of the app."
    if _NOT_EXECUTABLE.search(output):
        return 'No library runs from a directory in memory, unless: `tmpfs: ["/DIRECTORY:exec"]`.'
    if uid == 0 and _RIGHTS.search(output):
        missing = [name for name in ("CHOWN", "SETGID", "SETUID") if name not in capabilities]
        if missing:
            return (
                "The image starts as root, which has no rights here to change files' owners or to"
                f" become another user: `capabilities: [{', '.join([*capabilities, *missing])}]` of"
                " the app gives them, or `user: 1000:1000` starts it as that user."
            )
    return None


def _of_django_or_python(output: str) -> str | None:
    if found := _MODULE.search(output):
        package = found[1].partition(".")[0]
        return (
            f"The image has no Python module {package}: add the package that holds it to the app's"
            " requirements. If it is the app's own, its directory isn't in the image or not on"
            " PYTHONPATH."
        )
    if found := _HOST.search(output):
        return f"Django refuses the name {found[1]}: put it into ALLOWED_HOSTS."
    if warnings := _DEPLOY.findall(output):
        names = ", ".join(f'"{name}"' for name in dict.fromkeys(warnings))
        return (
            "`check --deploy` warns; each warning names the setting that cures it. To accept them,"
            f" in Django's settings: SILENCED_SYSTEM_CHECKS = [{names}]. Or run no such check:"
            " `commands: {check: []}` of the app."
        )
    return None
