"""Write files so that a crash leaves the old or the new one, never half of one."""

from __future__ import annotations

import os
import secrets
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from bedstone.core.process import Runner

_SYNC_SECONDS = 900.0


def write(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Replace a file by ``text`` atomically and durably, with the given mode."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
            handle.write(text)
            handle.flush()
            os.fchmod(handle.fileno(), mode)
            os.fsync(handle.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def link(path: Path, target: str) -> None:
    """Make ``path`` a symbolic link to ``target`` atomically."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    temporary.symlink_to(target)
    temporary.replace(path)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make renames in a directory survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_filesystem(directory: Path, runner: Runner) -> None:
    """Sync all written data of a directory's filesystem to the disk.

    For many files at once, and for those of others: one by one, each costs a turn of the disk.

    Raises:
        CommandError: the disk doesn't take it.

    """
    runner(["sync", "--file-system", str(directory)], timeout=_SYNC_SECONDS)


def remove_tree(directory: Path) -> None:
    """Remove a directory and all below it, if it is there."""
    if directory.is_symlink() or directory.is_file():
        directory.unlink()
    elif directory.exists():
        shutil.rmtree(directory)
