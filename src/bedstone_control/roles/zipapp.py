"""Build the host program as one file, with equal bytes for equal sources."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from bedstone_control.version import with_version

if TYPE_CHECKING:
    from collections.abc import Mapping

INTERPRETER = b"#!/usr/bin/python3\n"
# The zip format's first moment: times of the checkout must not change the file.
_TIMESTAMP = (1980, 1, 1, 0, 0, 0)
_DIGEST_LINE = b'\nDIGEST = ""\n'


def source_directory() -> Path:
    """Return the directory of the host program's package in this checkout."""
    return Path(__file__).resolve().parents[2] / "bedstone"


def content(source: Path | None = None) -> bytes:
    """Return the zipapp's bytes.

    Args:
        source: the package's directory (``src/bedstone`` by default).

    Files are stored, not compressed: the bytes are then the same with every
    version of zlib, and the program starts faster. Its version names the commit.

    Raises:
        ValueError: the directory isn't the package.

    """
    source = source or source_directory()
    modules = sorted(source.rglob("*.py"))
    if source / "cli/main.py" not in modules:
        raise ValueError(f"{source} isn't the host program's package: it has no cli/main.py.")
    members = {
        f"bedstone/{module.relative_to(source)}": with_version(source, module) for module in modules
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, "__main__.py", _main(source / "cli/archive_main.py", members))
        for name, data in members.items():
            _add(archive, name, data)
    return INTERPRETER + buffer.getvalue()


def _main(main: Path, members: Mapping[str, bytes]) -> bytes:
    digest = hashlib.sha256()
    for name, data in members.items():
        digest.update(f"{name} {len(data)}\n".encode() + data)
    line = f'\nDIGEST = "{digest.hexdigest()[:32]}"\n'.encode()
    return main.read_bytes().replace(_DIGEST_LINE, line)


def build(cache: Path, source: Path | None = None) -> Path:
    """Write the zipapp into a cache directory, named by its content, and return its path.

    Args:
        cache: directory for the file; made when it isn't there.
        source: the package's directory (``src/bedstone`` by default).

    Raises:
        ValueError: the directory isn't the package.

    """
    data = content(source)
    target = cache / f"bedstone-{hashlib.sha256(data).hexdigest()[:16]}"
    if not target.exists():
        cache.mkdir(parents=True, exist_ok=True)
        temporary = target.with_suffix(f".{os.getpid()}")
        temporary.write_bytes(data)
        temporary.chmod(0o755)
        temporary.replace(target)
    return target


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    information = zipfile.ZipInfo(name, _TIMESTAMP)
    information.external_attr = 0o100644 << 16
    information.create_system = 3
    archive.writestr(information, data)
