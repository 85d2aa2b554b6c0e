"""Files, links and directories: how each differs from what is wanted, and how it becomes that."""

from __future__ import annotations

import contextlib
import dataclasses
import grp
import hashlib
import os
import pwd
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bedstone_run import ConvergeError
else:
    from ansible.module_utils.bedstone_run import ConvergeError

BLOCK_BYTES = 1024 * 1024
TEMPORARY_SUFFIX = ".bedstone-new"


@dataclasses.dataclass(frozen=True)
class WantedFile:
    """A regular file as it should be: its content, or an upload that holds it."""

    path: str
    content: bytes | None
    sha256: str
    size: int
    owner: str
    group: str
    mode: int
    sensitive: bool = False
    create_only: bool = False


@dataclasses.dataclass(frozen=True)
class WantedDirectory:
    """A directory as it should be; what it holds is not looked at."""

    path: str
    owner: str
    group: str
    mode: int


@dataclasses.dataclass(frozen=True)
class WantedLink:
    """A symbolic link as it should be."""

    path: str
    target: str


@dataclasses.dataclass(frozen=True)
class Ids:
    """Numbers of an owner and a group; -1 stands for a name that this server doesn't have (yet)."""

    uid: int
    gid: int


def below(root: Path, path: str) -> Path:
    """Return where an absolute path of the server lies below `root` (`/` but for the tests)."""
    return root / path.lstrip("/")


def ids_of(owner: str, group: str, *, path: str, tolerate_unknown: bool) -> Ids:
    """Look up the numbers of an owner and a group on this server.

    Args:
        owner: a user's name or number.
        group: a group's name or number.
        path: what they are to own, for the message.
        tolerate_unknown: an unknown name gives -1 (a package not yet installed may bring it).

    Raises:
        ConvergeError: a name is unknown.

    """
    return Ids(
        _id_of("user", owner, path, tolerate_unknown=tolerate_unknown),
        _id_of("group", group, path, tolerate_unknown=tolerate_unknown),
    )


def _id_of(kind: str, name: str, path: str, *, tolerate_unknown: bool) -> int:
    if name.isdecimal():
        return int(name)
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(name).pw_uid if kind == "user" else grp.getgrnam(name).gr_gid
    if tolerate_unknown:
        return -1
    raise ConvergeError(
        f"There is no {kind} {name!r} on this server, who should own {path}. "
        "Does the package that brings it belong to `packages`?"
    )


def status_of(place: Path) -> os.stat_result | None:
    """Return what lies at a path (a link itself, not its target), or None."""
    try:
        return place.lstat()
    except FileNotFoundError:
        return None
    except NotADirectoryError as error:
        raise ConvergeError(f"A parent of {place} is a file, not a directory.") from error


def sha256_of(place: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with place.open("rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def attribute_differences(status: os.stat_result, mode: int, ids: Ids) -> list[str]:
    """Name what of mode, owner and group differs."""
    differences = []
    if stat.S_IMODE(status.st_mode) != mode:
        differences.append("mode")
    if status.st_uid != ids.uid:
        differences.append("owner")
    if status.st_gid != ids.gid:
        differences.append("group")
    return differences


def file_differences(root: Path, wanted: WantedFile, ids: Ids) -> list[str]:
    """Name what differs between a wanted file and the server: created, type, content, mode ...

    A file to be created only is never different once something lies at its path.

    Raises:
        ConvergeError: a directory lies there.

    """
    place = below(root, wanted.path)
    status = status_of(place)
    if status is None:
        return ["created"]
    if stat.S_ISDIR(status.st_mode):
        raise ConvergeError(f"{wanted.path} should be a file, but a directory lies there.")
    if wanted.create_only:
        return []
    if not stat.S_ISREG(status.st_mode):
        return ["type"]
    differences = attribute_differences(status, wanted.mode, ids)
    if status.st_size != wanted.size or not _same_content(place, wanted):
        differences.insert(0, "content")
    return differences


def _same_content(place: Path, wanted: WantedFile) -> bool:
    if wanted.content is not None:
        return place.read_bytes() == wanted.content
    return sha256_of(place) == wanted.sha256


def directory_differences(root: Path, wanted: WantedDirectory, ids: Ids) -> list[str]:
    """Name what differs between a wanted directory and the server.

    Raises:
        ConvergeError: something else lies there.

    """
    status = status_of(below(root, wanted.path))
    if status is None:
        return ["created"]
    if not stat.S_ISDIR(status.st_mode):
        raise ConvergeError(f"{wanted.path} should be a directory, but something else lies there.")
    return attribute_differences(status, wanted.mode, ids)


def link_differences(root: Path, wanted: WantedLink) -> list[str]:
    """Name what differs between a wanted link and the server.

    Raises:
        ConvergeError: a directory lies there.

    """
    place = below(root, wanted.path)
    status = status_of(place)
    if status is None:
        return ["created"]
    if stat.S_ISDIR(status.st_mode):
        raise ConvergeError(f"{wanted.path} should be a link, but a directory lies there.")
    if not stat.S_ISLNK(status.st_mode):
        return ["type"]
    return [] if place.readlink() == Path(wanted.target) else ["target"]


def missing_parents(root: Path, path: str) -> list[str]:
    """List the parents of a path that don't exist, outermost first."""
    missing = []
    parent = os.path.dirname(path)  # noqa: PTH120 - the server's path, not this process's
    while parent not in ("/", "") and not below(root, parent).is_dir():
        missing.append(parent)
        parent = os.path.dirname(parent)  # noqa: PTH120
    return missing[::-1]


def make_parents(root: Path, path: str) -> list[str]:
    """Make the missing parents of a path (root's, 0755) and return them, outermost first."""
    made = missing_parents(root, path)
    for parent in made:
        place = below(root, parent)
        place.mkdir()
        place.chmod(0o755)
    return made


def put_file(
    root: Path, wanted: WantedFile, ids: Ids, differences: list[str], upload: Path | None
) -> None:
    """Make a file what is wanted; its content is replaced as a whole or not at all.

    Args:
        root: `/` but for the tests.
        wanted: the file.
        ids: numbers of its owner and group.
        differences: what `file_differences` found.
        upload: the file that holds the content, when `wanted` doesn't.

    """
    place = below(root, wanted.path)
    if {"created", "content", "type"} & set(differences):
        temporary = place.with_name(f".{place.name}{TEMPORARY_SUFFIX}")
        temporary.unlink(missing_ok=True)
        try:
            _write(temporary, wanted, ids, upload)
            temporary.replace(place)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_directory(place.parent)
    else:
        os.chown(place, ids.uid, ids.gid)
        place.chmod(wanted.mode)


def _write(place: Path, wanted: WantedFile, ids: Ids, upload: Path | None) -> None:
    descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        if wanted.content is not None:
            stream.write(wanted.content)
        elif upload is not None:
            with upload.open("rb") as source:
                shutil.copyfileobj(source, stream, BLOCK_BYTES)
        else:
            raise ConvergeError(f"The content of {wanted.path} was not uploaded.")
        stream.flush()
        os.fchown(descriptor, ids.uid, ids.gid)
        os.fchmod(descriptor, wanted.mode)
        os.fsync(descriptor)


def put_directory(root: Path, wanted: WantedDirectory, ids: Ids) -> None:
    """Make a directory what is wanted; its parent exists."""
    place = below(root, wanted.path)
    if not place.is_dir():
        place.mkdir(mode=0o700)
    os.chown(place, ids.uid, ids.gid)
    place.chmod(wanted.mode)


def put_link(root: Path, wanted: WantedLink) -> None:
    """Make a symbolic link what is wanted, atomically."""
    place = below(root, wanted.path)
    temporary = place.with_name(f".{place.name}{TEMPORARY_SUFFIX}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(wanted.target)
    temporary.replace(place)
    sync_directory(place.parent)


def remove(root: Path, path: str) -> None:
    """Remove a file, a link or an empty directory.

    Raises:
        ConvergeError: a directory that isn't empty lies there.

    """
    place = below(root, path)
    status = status_of(place)
    if status is None:
        return
    if stat.S_ISDIR(status.st_mode):
        try:
            place.rmdir()
        except OSError as error:
            raise ConvergeError(
                f"{path} should be absent, but is a directory that isn't empty. Nothing in it "
                "was removed: name the files, or remove it by hand."
            ) from error
    else:
        place.unlink()
        sync_directory(place.parent)


def sync_directory(directory: Path) -> None:
    """Write a directory's entries to the disk, so that a rename survives a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
