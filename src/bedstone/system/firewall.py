"""Ask role firewall's program whether the kernel's rules are those that were declared."""

from __future__ import annotations

from bedstone.core import paths, process

_PROGRAM = "/usr/local/lib/bedstone/firewall"
_SECONDS = 15.0


def differences(run: process.Runner = process.run) -> list[str]:
    """Return how the loaded rules differ from the declared ones.

    Args:
        run: runs programs.

    Returns:
        A sentence, or the added and removed lines of a unified diff; nothing without a difference,
        or without the role.

    Raises:
        BedstoneError: the program failed.

    """
    program = paths.host(_PROGRAM)
    if not program.exists():
        return []
    said = run([str(program), "check"], timeout=_SECONDS).stdout.splitlines()
    return [line for line in said if not line.startswith((" ", "---", "+++", "@@"))]
