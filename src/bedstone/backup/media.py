"""Archive the directory of uploaded files, and restore it.

GNU tar does the work: it keeps owners, times and links, and goes on when a file changes during the
backup. Nightly backups of a server that has a backup key keep them as snapshots instead
(:mod:`bedstone.backup.media_snapshots`), of which each takes only what is new.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bedstone.backup import media_snapshots
from bedstone.backup.manifest import RESTIC, Media
from bedstone.core import process, safe_tree
from bedstone.core.errors import BedstoneError, CommandError

if TYPE_CHECKING:
    from collections.abc import Callable

# tar: "some files differ", which for an archive means that they were changed or
# removed while they were read. The next backup has them as they are then.
_CHANGED = 1
_PROGRAMS = {".zst": "zstd -T0 -q", ".gz": "gzip"}


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
    suffix = ".zst" if shutil.which("zstd") else ".gz"
    name = f"media.tar{suffix}"
    try:
        warnings = process.run(
            [
                "tar", "--create", f"--file={directory / name}",
                "--numeric-owner", "--one-file-system",
                f"--use-compress-program={_PROGRAMS[suffix]}", f"--directory={media}", ".",
            ],
            timeout=None,
            watch=watch,
            env={"LC_ALL": "C.UTF-8"},
            allowed=(0, _CHANGED),
        ).stderr  # fmt: skip
    except CommandError as error:
        raise BedstoneError(
            f"The media in {media} could not be archived.", details=error.details
        ) from error
    files, size = check(directory / name, watch=watch)
    changed = [line.removeprefix("tar: ") for line in warnings.splitlines() if line.strip()]
    (directory / name).chmod(0o600)
    return Media(name, str(media), files, size, changed[:100])


def check(path: Path, *, watch: Callable[[], None]) -> tuple[int, int]:
    """Read an archive to its end, and return what is in it.

    Returns:
        The number of files (links too), and the bytes in the regular ones: what was archived
        counts, not what the directory held a moment before.

    Raises:
        BedstoneError: it is damaged.

    """
    with tempfile.TemporaryFile() as listing:
        try:
            process.run(
                [
                    "tar",
                    "--list",
                    "--verbose",
                    "--numeric-owner",
                    f"--file={path}",
                    f"--use-compress-program={_PROGRAMS[path.suffix]}",
                ],
                timeout=None,
                watch=watch,
                stdout=listing,
                env={"LC_ALL": "C.UTF-8"},
            )
        except CommandError as error:
            raise BedstoneError(
                f"{path.name} can't be read back.", details=error.details
            ) from error
        listing.seek(0)
        files = size = 0
        # A line is kind and mode, owner, size, date, time and name.
        for line in listing:
            files += not line.startswith(b"d")
            size += int(line.split(None, 3)[2]) if line.startswith(b"-") else 0
        return files, size


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
        extract(backup / found.archive, into, watch=watch, sync=sync)


def extract(path: Path, directory: Path, *, watch: Callable[[], None], sync: bool = True) -> None:
    """Unpack an archive into a directory that is made for it, owners and modes as they were.

    Nothing in it gives rights to the process that opens it: see ``safe_tree.disarm``.

    Args:
        path: the archive.
        directory: made.
        watch: called repeatedly while it runs; its exception stops it.
        sync: bring all to the disk; without it, only for a check.

    Raises:
        BedstoneError: it could not be read or written.

    """
    # The archive sets the directory's own mode: until all is disarmed, one above keeps others out.
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f".{directory.name}-") as name:
        side = Path(name) / "media"
        side.mkdir(mode=0o700)
        try:
            process.run(
                [
                    "tar", "--extract", f"--file={path}", "--numeric-owner",
                    "--preserve-permissions", "--same-owner",
                    f"--use-compress-program={_PROGRAMS[path.suffix]}", f"--directory={side}",
                ],
                timeout=None,
                watch=watch,
                env={"LC_ALL": "C.UTF-8"},
            )  # fmt: skip
        except CommandError as error:
            raise BedstoneError(
                f"{path.name} could not be unpacked.", details=error.details
            ) from error
        safe_tree.disarm(side)
        side.rename(directory)
    if sync:
        os.sync()


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
