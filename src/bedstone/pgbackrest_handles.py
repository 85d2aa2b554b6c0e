"""How many files a restore over SFTP holds open at the server.

pgBackRest's restore opens a handle for each piece that it reads and closes none of them until
its process ends (2.46 and later). An OpenSSH server with its usual limit gives a connection
about a thousand. Backup, `check` and `verify` pass all the same, so it has to be counted.

What keeps the number small: small files are bundled (``repo-bundle``), and a whole run of
neighbours in a bundle is one handle. Block-incremental backups would undo that, since each file
of more than 16 KiB takes handles of its own; hence they are off on SFTP. Measured with 7261 files:
8 handles, with blocks 3529 (a server with the usual limit fails), without bundles 7045.

``process-max`` opens a connection, with a limit of its own, for each process. But whoever is free
takes the next piece: one that copies a large file leaves all the small ones to the others (and the
two processes of the failing restore above failed as one did). So the number isn't divided.
"""

from __future__ import annotations

import json
import os
from itertools import groupby
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

# Info files, manifests, WAL, and what a next incremental backup adds.
RESERVE = 64

# pgBackRest's defaults.
_BUNDLED_BYTES = 2 * 1024 * 1024
_BUNDLE_BYTES = 20 * 1024 * 1024


def of_manifest(lines: Iterable[str]) -> int:
    """Return how many handles the restore of a backup takes, from its manifest.

    Args:
        lines: of ``backup.manifest``.

    """
    bundled: list[tuple[str, int, int, int]] = []
    handles = 0
    for entry in _files(lines):
        if not entry.get("size"):
            continue
        if entry.get("bi"):
            # The map of its blocks, and the blocks.
            handles += 1
        if "bni" in entry:
            length = int(entry.get("repo-size", entry["size"]))
            place = (str(entry.get("reference", "")), int(entry["bni"]))
            bundled.append((*place, int(entry.get("bno", 0)), length))
        else:
            handles += 1
    for _, pieces in groupby(sorted(bundled), key=lambda piece: piece[:2]):
        end = -1
        for _, _, offset, length in pieces:
            handles += offset != end
            end = offset + length
    return handles


def of_cluster(data: Path) -> int:
    """Return how many handles the restore of a full backup of a cluster will take, roughly.

    Args:
        data: its data directory.

    """
    large, small = 0, 0
    for directory, _, names in os.walk(data):
        if os.path.basename(directory) == "pg_wal":  # noqa: PTH119 - a string is at hand
            continue
        for name in names:
            try:
                size = os.stat(f"{directory}/{name}").st_size  # noqa: PTH116 - thousands of them
            except OSError:
                continue
            large += size > _BUNDLED_BYTES
            small += size if size <= _BUNDLED_BYTES else 0
    # A bundle is closed before it is full by a file that doesn't fit.
    return large + 2 * (small // _BUNDLE_BYTES + 1)


def _files(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Yield what a manifest says of each file."""
    inside = False
    for line in lines:
        text = line.rstrip("\n")
        if text.startswith("["):
            inside = text == "[target:file]"
        elif inside and "={" in text:
            # A name may hold "=", what stands behind it holds no "={" but its own beginning.
            entry: dict[str, Any] = json.loads(text[text.index("={") + 1 :])
            yield entry
