"""State the version of this checkout: the release and the commit."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1] / "bedstone"
_RELEASE = re.compile(rb'^__version__ = "([^"]+)"$', re.MULTILINE)


def version(package: Path = _PACKAGE) -> str:
    """Return the version with what tells two checkouts apart, in the form of PEP 440.

    Args:
        package: the directory of the host program's package.

    Returns:
        `0.1.0+9abedb6`, `0.1.0+9abedb6.dirty` with uncommitted changes, and outside of a git
        checkout `0.1.0+src.1f2e3d4c`, a hash of the package.

    Raises:
        ValueError: the directory isn't the package.

    """
    return f"{_release(package)}+{_commit(package) or _content_hash(package)}"


def with_version(package: Path, module: Path) -> bytes:
    """Return a module of the package; its `__init__.py` has the whole version.

    Args:
        package: the directory of the host program's package.
        module: the path of one of its modules.

    """
    content = module.read_bytes()
    if module != package / "__init__.py":
        return content
    return _RELEASE.sub(f'__version__ = "{version(package)}"'.encode(), content)


def _release(package: Path) -> str:
    path = package / "__init__.py"
    found = _RELEASE.search(path.read_bytes()) if path.is_file() else None
    if found is None:
        raise ValueError(f"{package} isn't the host program's package: {path} has no __version__.")
    return found[1].decode()


def _commit(package: Path) -> str | None:
    """Return the short commit of the checkout, None where git knows none."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=7", "--exclude=*"]
    try:
        done = subprocess.run(
            command,
            cwd=package,
            # A run next to another git command takes no lock of the index.
            env=os.environ | {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C.UTF-8"},
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return None
    return done.stdout.strip().replace("-", ".") if done.returncode == 0 else None


def _content_hash(package: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package)}\0".encode() + path.read_bytes() + b"\0")
    return f"src.{digest.hexdigest()[:8]}"
