"""List what an app has written into its containers: no setting declares it, a release drops it.

Only apps with ``read_only: false`` can. `docker diff` names each changed path of a container,
without its mounts.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Any

from bedstone.core import names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bedstone.apps.current import Current
    from bedstone.system.docker import Docker

MOST_SHOWN = 5
# Ends of processes and interpreters that no app means to keep.
_NO_DATA = ("/__pycache__/", "/run/", "/var/run/", "/tmp/", "/root/.cache/")  # noqa: S108


def written_files(docker: Docker, found: Current) -> list[dict[str, Any]]:
    """Return the directories that the app's containers have added files to, the fullest first.

    Returns:
        ``{"directory": "/app/data", "files": 3}`` each; none when the containers are read-only.

    """
    if found.app.read_only:
        return []
    files: dict[str, int] = {}
    for key in found.slot_keys():
        service, _, slot = key.partition("@")
        container = names.slot_container(found.app.name, service, slot)
        for directory in directories(docker.added(container)):
            files[directory] = files.get(directory, 0) + 1
    shown = sorted(files.items(), key=lambda item: (-item[1], item[0]))
    return [{"directory": path, "files": count} for path, count in shown]


def directories(added: Sequence[str]) -> list[str]:
    """Return the directory of each added file; a directory itself is no file."""
    parents = {posixpath.dirname(path) for path in added}
    files = [path for path in added if path not in parents]
    return [
        posixpath.dirname(path)
        for path in files
        if not any(part in f"{posixpath.dirname(path)}/" for part in _NO_DATA)
    ]


def line(written: Sequence[dict[str, Any]]) -> str:
    """Return what is said of it on the screen."""
    shown = [f"{entry['directory']} ({entry['files']})" for entry in written[:MOST_SHOWN]]
    if len(written) > MOST_SHOWN:
        shown.append(f"{len(written) - MOST_SHOWN} more")
    return (
        f"files that the next release drops, in {', '.join(shown)}: `media` keeps a directory"
        " (and backs it up), `tmpfs` says that it may go"
    )
