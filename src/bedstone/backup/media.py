"""Archive the directory of uploaded files, and restore it.

Nightly backups of a server that has a backup key keep them as snapshots instead
(:mod:`bedstone.backup.media_snapshots`), of which each takes only what is new.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from bedstone.backup import media_snapshots
from bedstone.backup.manifest import RESTIC, Media
from bedstone.storage import tar

if TYPE_CHECKING:
    from collections.abc import Callable


def archive(media: Path, directory: Path, *, watch: Callable[[], None]) -> Media:
    """Write the archive of a media directory into a backup's directory.

    Call it after the dump: a file is there before the row that names it is, so every file that the
    dump names is in the archive.

    Args:
        media: what to archive.
        directory: the backup.
        watch: called repeatedly while it runs; its exception stops it.

    Raises:
        BedstoneError: it could not be read or written.

    """
    path, warnings = tar.create(media, directory / "media.tar", watch=watch)
    files, size = tar.check(path, watch=watch)
    changed = [line.removeprefix("tar: ") for line in warnings.splitlines() if line.strip()]
    return Media(path.name, str(media), files, size, changed[:100])


def unpack(
    found: Media,
    backup: Path,
    into: Path,
    *,
    watch: Callable[[], None],
    sync: bool = True,
) -> None:
    """Restore a backup's uploaded files into a directory that is made for them.

    Args:
        found: what the backup's manifest records of them.
        backup: the backup's directory.
        into: made.
        watch: called repeatedly while it runs; its exception stops it.
        sync: bring all to the disk; without it, only for a check.

    Raises:
        BedstoneError: they could not be read or written.

    """
    if found.engine == RESTIC:
        media_snapshots.restore(found, backup, into, watch=watch)
        if sync:
            os.sync()
    else:
        tar.extract(backup / found.archive, into, watch=watch, sync=sync)


def count(directory: Path) -> int:
    """Return the number of files below a directory, links too."""
    found = 0
    for base, directories, names in os.walk(directory):
        # os.walk() counts a link to a directory among the directories.
        found += len(names) + sum((Path(base) / name).is_symlink() for name in directories)
    return found


def regular_bytes(directory: Path) -> int:
    """Return the bytes in the regular files below a directory, each once whatever its names."""
    sizes = {}
    for base, _, names in os.walk(directory):
        for name in names:
            status = (Path(base) / name).lstat()
            if stat.S_ISREG(status.st_mode):
                sizes[status.st_dev, status.st_ino] = status.st_size
    return sum(sizes.values())


def tree_bytes(directory: Path) -> int:
    """Return the size in bytes of all files below a directory."""
    size = 0
    for base, _, names in os.walk(directory):
        for name in names:
            try:
                size += (Path(base) / name).lstat().st_size
            except OSError:
                # Removed during the run.
                continue
    return size
