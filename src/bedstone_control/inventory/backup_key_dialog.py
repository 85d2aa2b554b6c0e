"""Show the backup key once, ask for it back, and record that it is held: `make backup-key`.

What is asked for has to come from the other place, so the key is gone from the screen by then.
"""

from __future__ import annotations

import getpass
import sys
from typing import TYPE_CHECKING

from bedstone_control.checks.context import readable
from bedstone_control.inventory import create
from bedstone_control.settings import edit
from bedstone_control.vault import backup_key
from bedstone_control.vault import content as vault

if TYPE_CHECKING:
    from pathlib import Path

_TRIES = 3
# The terminal's other screen: what was on it leaves no trace, in what can be scrolled back neither.
_OTHER_SCREEN, _USUAL_SCREEN = "\x1b[?1049h\x1b[H", "\x1b[?1049l"
_SHOWN = """\
The backup key of {name}
========================================================================

    {key}

Everything that leaves the servers is encrypted with it. When the servers
and the machine with this inventory are gone, these letters are all that
opens the backups again; nobody can make them anew.

Keep them in a second place, now: on paper in a safe, or in a password
manager that does not live on this machine.
"""


def run(directory: Path, password_file: Path | None, *, check: bool, reveal: bool) -> int:
    """Show the key and have it shown back; return 0 when it was, 1 when not.

    Args:
        directory: the inventory.
        password_file: the file with the vault's password, when it is not the inventory's own.
        check: only ask for it, without showing it.
        reveal: only print it, also into a pipe.

    Raises:
        ValueError: there is no key, or no terminal to show it on.

    """
    key = _key(directory, password_file)
    if reveal:
        print(key)
        return 0
    if not check:
        _show(directory.name, key)
    if not _proved(key):
        print(
            "\nThis is not the key in the vault. Nothing was written. Once more, from the start:\n"
            f"  make backup-key NAME={directory.name}",
            file=sys.stderr,
        )
        return 1
    _write_down(directory, key)
    return 0


def _key(directory: Path, password_file: Path | None) -> str:
    """Return the key in the vault.

    Raises:
        ValueError: there is none that can be used.

    """
    content = create.vault_content(directory, password_file)
    key = vault.backup_key(content)
    if key is None:
        raise ValueError(
            f"The vault has no backup key yet. Make it: make secrets NAME={directory.name}"
        )
    if (wrong := backup_key.fault(key)) is not None:
        raise ValueError(f"The backup key in the vault {wrong}.")
    return str(key)


def _show(name: str, key: str) -> None:
    """Show the key until Enter is pressed, on a screen that is gone afterwards.

    Raises:
        ValueError: this is no terminal.

    """
    if not (sys.stdout.isatty() and sys.stdin.isatty()):
        raise ValueError(
            "The key is shown on a terminal only, and this is none. To hand it to another program "
            f"on purpose: python -m bedstone_control backup-key {name} --reveal | …\n"
            f"To show that it is kept: make backup-key-check NAME={name}"
        )
    try:
        print(_OTHER_SCREEN + _SHOWN.format(name=name, key=key), flush=True)
        input("Enter, when they are there (Ctrl-C to stop): ")
    finally:
        print(_USUAL_SCREEN, end="", flush=True)


def _proved(key: str) -> bool:
    """Ask for the key; on a terminal, two typing errors are accepted."""
    if not sys.stdin.isatty():
        return backup_key.same(sys.stdin.readline().rstrip("\r\n"), key)
    print("Now type or paste the key from the place where it is kept; it is not shown.")
    for left in range(_TRIES - 1, -1, -1):
        if backup_key.same(getpass.getpass("Backup key: "), key):
            return True
        if left:
            print("That is another one. Look again.", file=sys.stderr)
    return False


def _write_down(directory: Path, key: str) -> None:
    """Write the fingerprint into the settings, or say which line to write."""
    line = backup_key.held_line(key)
    file = create.file_of(directory, "bedstone_backup")
    shown = readable(file)
    done = edit.set_in(file, "bedstone_backup", "key_held", backup_key.fingerprint(key))
    print(
        f"Right. {shown} has the line now, under bedstone_backup:\n\n  {line}"
        if done
        else f"Right. Put this line into {shown}, under bedstone_backup:\n\n  {line}"
    )
