"""Which setting helps, by what a container printed before it failed."""

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


def of(output: str, uid: int, capabilities: Sequence[str]) -> str | None:
    """Return the setting that helps a container which printed this, None when none is known.

    Args:
        output: its last lines.
        uid: whom the image starts as.
        capabilities: what it has of root's.

    """
    if said := _of_django_or_python(output):
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
