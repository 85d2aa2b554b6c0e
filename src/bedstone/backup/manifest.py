"""Read and write a backup's manifest, so that a restore can check its contents.

A directory is a backup if, and only if, it carries a manifest of ours. It is the
last file to be written, and its own checksum makes a changed byte show.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bedstone.core import files
from bedstone.core.errors import BedstoneError
from bedstone.ledger.kinds import DUMP, MEDIA
from bedstone.postgres.dump import Database

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


KIND = "bedstone-backup"
# 2: the uploaded files are in a repository, not in the backup's directory. A backup that has them
# with it is written as 1, so that an older program restores it.
SCHEMA = 2
# The directory of the dump in a backup, and the description of the app.
DATABASE, APP_SETTINGS = "database", "app.json"
FILE = "manifest.json"
TAR = "tar"
RESTIC = "restic"
_BLOCK = 1024 * 1024


class ManifestError(BedstoneError):
    """A directory isn't a backup, or no longer what was written."""


@dataclass(frozen=True)
class File:
    """One file of a backup."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Media:
    """The directory of uploaded files, as it was kept.

    Attributes:
        archive: name of the tar in the backup's directory; "" when there is none.
        directory: the directory that was kept.
        files: how many, links too.
        bytes: of the regular ones, each once.
        changed: what was said of files that changed during the backup.
        engine: ``tar``, or ``restic``: then they are a snapshot of a repository.
        repository: the destination that keeps the repository.
        snapshot: id of the snapshot there; a copy of it elsewhere records it as its original.

    """

    archive: str
    directory: str
    files: int
    bytes: int
    changed: list[str] = field(default_factory=list)
    engine: str = TAR
    repository: str | None = None
    snapshot: str | None = None


@dataclass(frozen=True)
class Manifest:
    """The contents of a backup.

    Attributes:
        app: whose data it is.
        name: the backup's name.
        label: what it was made for ("nightly", a release's id), or None.
        host: the server's name.
        program: version of bedstone.
        release: the release that served, or None.
        started: when, in UTC.
        finished: when, in UTC.
        database: the dump, or None for an app without a database.
        media: the archive, or None.
        files: path in the backup -> size and checksum.
        restore_point: made before a release or rollback, of the database alone.

    """

    app: str
    name: str
    label: str | None
    host: str
    program: str
    release: str | None
    started: datetime
    finished: datetime
    database: Database | None
    media: Media | None
    files: dict[str, File]
    restore_point: bool = False

    @property
    def bytes(self) -> int:
        """Size of the backup's directory."""
        return sum(file.bytes for file in self.files.values())


def write(directory: Path, manifest: Manifest) -> None:
    """Write the manifest into a backup's directory, durably.

    Args:
        directory: the backup, all its other files complete.
        manifest: what to write.

    """
    content = asdict(manifest)
    content["started"] = manifest.started.isoformat()
    content["finished"] = manifest.finished.isoformat()
    schema = SCHEMA
    if manifest.media is None or manifest.media.engine == TAR:
        schema = 1
        for key in ("engine", "repository", "snapshot"):
            (content["media"] or {}).pop(key, None)
    document = {"kind": KIND, "schema": schema, "bytes": manifest.bytes, **content}
    document["checksum"] = _checksum(document)
    files.write(directory / FILE, json.dumps(document, indent=2) + "\n", mode=0o600)


def read(directory: Path) -> Manifest:
    """Return the manifest of a backup.

    Raises:
        ManifestError: there is none, it isn't ours, a newer program wrote it, or a
            byte of it has changed.

    """
    path = directory / FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ManifestError(f"{directory} isn't a backup of bedstone: it has no {FILE}.") from error
    except (OSError, ValueError) as error:
        raise ManifestError(f"{path} is damaged: it can't be read ({error}).") from error
    return parse(text, directory)


def parse(text: str, directory: Path) -> Manifest:
    """Return a manifest from its text.

    Args:
        text: what :func:`write` has written.
        directory: the backup that it is of, for messages.

    Raises:
        ManifestError: as :func:`read`.

    """
    path = directory / FILE
    try:
        document = json.loads(text)
    except ValueError as error:
        raise ManifestError(f"{path} is damaged: it can't be read ({error}).") from error
    if not isinstance(document, dict) or document.get("kind") != KIND:
        raise ManifestError(f"{directory} isn't a backup of bedstone: another program made it.")
    schema = document.get("schema")
    if not isinstance(schema, int) or schema > SCHEMA:
        raise ManifestError(
            f"{directory} was made by a newer bedstone (its manifest has schema {schema},"
            f" this program knows {SCHEMA}).",
            hint="Install the newer version on this server by its `provision.yml`, then restore.",
        )
    if document.pop("checksum", None) != _checksum(document):
        raise ManifestError(f"{path} is damaged: its checksum doesn't match its contents.")
    try:
        return _parse(document)
    except (KeyError, TypeError, ValueError) as error:
        raise ManifestError(f"{path} is damaged: {error!r} in its contents.") from error


def damages(directory: Path, manifest: Manifest, *, contents: bool) -> Iterator[str]:
    """Yield a sentence for every file that isn't what the manifest says.

    Args:
        directory: the backup.
        manifest: its manifest.
        contents: read every byte and compare checksums; else only sizes.

    """
    for name, expected in manifest.files.items():
        path = directory / name
        try:
            size = path.stat().st_size
        except OSError:
            yield f"{name} is missing"
            continue
        if size < expected.bytes:
            yield f"{name} is truncated: {size} of {expected.bytes} bytes"
        elif size > expected.bytes:
            yield f"{name} has grown: {size} bytes, {expected.bytes} were written"
        elif contents and describe(path) != expected:
            yield f"{name} has changed: its checksum isn't the one that was recorded"


def describe(path: Path) -> File:
    """Return size and checksum of a file, read from the disk and not from the page cache."""
    digest = hashlib.sha256()
    size = 0
    with path.open("rb", buffering=0) as handle:
        os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while block := handle.read(_BLOCK):
            digest.update(block)
            size += len(block)
    return File(size, digest.hexdigest())


def _checksum(document: Mapping[str, Any]) -> str:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _parse(document: dict[str, Any]) -> Manifest:
    database, media = document["database"], document["media"]
    return Manifest(
        app=document["app"],
        name=document["name"],
        label=document["label"],
        host=document["host"],
        program=document["program"],
        release=document["release"],
        started=datetime.fromisoformat(document["started"]),
        finished=datetime.fromisoformat(document["finished"]),
        database=Database(**database) if database else None,
        media=Media(**media) if media else None,
        files={name: File(**entry) for name, entry in document["files"].items()},
        restore_point=bool(document.get("restore_point")),
    )


def differences(recorded: Mapping[str, int], counted: Mapping[str, int]) -> list[str]:
    """Return a line for every table whose rows aren't as many as recorded."""
    return [
        f"{table}: {recorded.get(table, 'no such table')} in the backup,"
        f" {counted.get(table, 'no such table')} restored"
        for table in sorted({*recorded, *counted})
        if recorded.get(table) != counted.get(table)
    ]


def kinds(found: Manifest) -> tuple[str, ...]:
    """Return the parts that a backup has."""
    return tuple(
        kind for kind, part in ((DUMP, found.database), (MEDIA, found.media)) if part is not None
    )
