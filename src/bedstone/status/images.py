"""Show the images that an app's releases keep, and the space they take."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from bedstone.core import names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bedstone.system.docker import Docker

_SHORT_ID = 12
# Docker's sizes are decimal: "1.09GB", "632.1kB", "0B".
_SIZE = re.compile(r"([0-9.]+(?:e[+-]?\d+)?)\s*([kMGTP]?)B")
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}


def usage(docker: Docker, apps: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return for each app how many images its releases keep and how many bytes they take.

    Layers that several images share are counted once, as those of the image that shares most:
    an app's releases mostly stand on one base.
    """
    sizes = {_short(row["ID"]): row for row in docker.image_sizes()}
    result = {}
    for app in apps:
        tagged = docker.image_ids(names.image_repository(app))
        known = [sizes[_short(image)] for image in set(tagged.values()) if _short(image) in sizes]
        unique = sum(size_of(row.get("UniqueSize")) for row in known)
        shared = max((size_of(row.get("SharedSize")) for row in known), default=0)
        result[app] = {"kept": len(tagged), "bytes": unique + shared}
    return result


def size_of(shown: str | None) -> int:
    """Return the bytes of a size as Docker prints it."""
    found = _SIZE.fullmatch((shown or "").strip())
    return round(float(found[1]) * _UNITS[found[2]]) if found else 0


def _short(image: str) -> str:
    return image.removeprefix("sha256:")[:_SHORT_ID]
