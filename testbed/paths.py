"""Define the testbed's directories, and the locks that make concurrent calls safe."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "testbed"
IMAGES = CACHE / "images"
SERVERS = CACHE / "servers"
SSH = CACHE / "ssh"
# Mounted read-only at /opt/testbed in every server.
SHARED = CACHE / "shared"
FILES = Path(__file__).resolve().parent / "files"


def make_directories() -> None:
    """Create the cache's directories."""
    for directory in (IMAGES, SERVERS, SSH, SHARED, CACHE / "locks"):
        directory.mkdir(parents=True, exist_ok=True)
    SSH.chmod(0o700)


@contextmanager
def lock(name: str) -> Iterator[None]:
    """Hold the lock of this name; the kernel frees it when the process dies."""
    make_directories()
    with (CACHE / "locks" / name).open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file in one step: a reader sees the old or the new text, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text)
    draft.chmod(mode)
    draft.replace(path)
