"""Work as root in directories that an app's containers write to.

A container may put links, pipes and device nodes into its directories, and exchange a directory for
a link while root walks through. So everything here goes by descriptor: an entry is opened once
with ``O_NOFOLLOW``, judged by what was opened, and changed by the same descriptor. The directories
*above* the top are root's own.
"""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bedstone.core.errors import BedstoneError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

# One descriptor a level is open during a walk, of the 1024 that a process may have.
DEEPEST = 256
_CAPABILITIES = "security.capability"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Entry:
    """One entry of a tree, held by a descriptor that no rename can lead elsewhere.

    Attributes:
        path: relative to the top, "" for the top itself.
        status: what ``fstat`` says of it.

    """

    path: str
    status: os.stat_result
    _parent: int
    _descriptor: int

    @property
    def name(self) -> str:
        """Return its name in the directory that holds it."""
        return self.path.rpartition("/")[2]

    @property
    def is_directory(self) -> bool:
        """Return whether it is a directory."""
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def is_file(self) -> bool:
        """Return whether it is a regular file."""
        return stat.S_ISREG(self.status.st_mode)

    @property
    def is_link(self) -> bool:
        """Return whether it is a symbolic link."""
        return stat.S_ISLNK(self.status.st_mode)

    @property
    def reference(self) -> str:
        """Return a path that leads to this very inode (not of a link: it would be followed)."""
        return f"/proc/self/fd/{self._descriptor}"

    def belongs_to(self, users: Collection[int]) -> bool:
        """Return False for a regular file of several names that is none of the users' own."""
        several = self.is_file and self.status.st_nlink > 1
        return not several or self.status.st_uid in users

    def give(self, uid: int, gid: int) -> None:
        """Change the owner; of a link, its own. Setuid bits and capabilities of a file go."""
        if (self.status.st_uid, self.status.st_gid) == (uid, gid):
            return
        if self.is_link:
            with suppress(FileNotFoundError):
                os.chown(
                    self.name, uid, gid, dir_fd=self._parent,
                    follow_symlinks=False,
                )  # fmt: skip
        else:
            os.chown(self.reference, uid, gid)

    def set_mode(self, mode: int) -> None:
        """Change the permissions, unless it is a link."""
        if not self.is_link:
            os.chmod(self.reference, mode)  # noqa: PTH101 - not a path but a descriptor

    def remove(self) -> None:
        """Remove it; a directory has to be empty."""
        with suppress(FileNotFoundError):
            name = self.name
            (os.rmdir if self.is_directory else os.unlink)(name, dir_fd=self._parent)

    def replace_by_empty_file(self) -> None:
        """Replace it by an empty file that only root can open."""
        self.remove()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(self.name, flags, 0, dir_fd=self._parent))


def walk(top: Path) -> Iterator[Entry]:
    """Yield a directory and all below it, each directory before what it holds.

    An entry can be used until the next one is asked for. What is removed
    during the walk is left out.

    Raises:
        BedstoneError: directories are nested too deep.
        OSError: the top is no directory, or a link.

    """
    with ExitStack() as stack:
        descriptor = os.open(top, _DIRECTORY)
        stack.callback(os.close, descriptor)
        yield Entry("", os.fstat(descriptor), -1, descriptor)
        yield from _below(top, descriptor)


def _below(top: Path, descriptor: int) -> Iterator[Entry]:
    levels = [(os.dup(descriptor), "", _names(descriptor))]
    try:
        while levels:
            parent, prefix, names = levels[-1]
            name = next(names, None)
            if name is None:
                os.close(levels.pop()[0])
                continue
            try:
                found = os.open(name, _LOOK, dir_fd=parent)
            except FileNotFoundError:
                continue
            try:
                entry = Entry(f"{prefix}{name}", os.fstat(found), parent, found)
                yield entry
                if entry.is_directory:
                    if len(levels) >= DEEPEST:
                        raise BedstoneError(
                            f"{top} holds directories nested more than {DEEPEST} deep.",
                            hint="Remove what the app has nested there.",
                        )
                    inner = os.open(".", _DIRECTORY, dir_fd=found)
                    levels.append((inner, f"{entry.path}/", _names(inner)))
            finally:
                os.close(found)
    finally:
        for level in levels:
            os.close(level[0])


def _names(descriptor: int) -> Iterator[str]:
    return iter(os.listdir(descriptor))


def give(top: Path, uid: int, gid: int) -> None:
    """Give a tree to a user, the top at last: it says whether all of it is done.

    A regular file of several names that belongs neither to the tree's owner nor to the user is
    left: it may be a stranger's.
    """
    with opened(top) as descriptor:
        owner = os.fstat(descriptor)
        if (owner.st_uid, owner.st_gid) == (uid, gid):
            return
        for entry in walk(top):
            if entry.path and entry.belongs_to({owner.st_uid, uid}):
                entry.give(uid, gid)
        os.fchown(descriptor, uid, gid)


def publish(top: Path) -> list[str]:
    """Give a tree to root, readable by all; only files, directories and links stay.

    Returns:
        The paths of the regular files, relative to the top.

    """
    found = []
    for entry in walk(top):
        if entry.is_directory:
            entry.give(0, 0)
            entry.set_mode(0o755)
        elif entry.is_file:
            entry.give(0, 0)
            entry.set_mode(0o644)
            found.append(entry.path)
        elif not entry.is_link:
            entry.remove()
    return found


def disarm(top: Path) -> None:
    """Take from a tree what could give rights to the process that opens it, as after a restore.

    Files lose setuid, setgid and capabilities; an empty file takes the place of a device node,
    so that the number of files stays what the backup recorded.
    """
    for entry in walk(top):
        mode = stat.S_IMODE(entry.status.st_mode)
        if entry.is_file:
            with suppress(OSError):
                os.removexattr(entry.reference, _CAPABILITIES)
            if mode & (stat.S_ISUID | stat.S_ISGID):
                entry.set_mode(mode & ~(stat.S_ISUID | stat.S_ISGID))
        elif stat.S_ISBLK(entry.status.st_mode) or stat.S_ISCHR(entry.status.st_mode):
            entry.replace_by_empty_file()


@contextmanager
def opened(top: Path) -> Iterator[int]:
    """Return the descriptor of a directory that is no link, for a block."""
    descriptor = os.open(top, _DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def beneath(top: int, directories: Iterable[str], *, make: bool = False) -> Iterator[int]:
    """Return the descriptor of a directory below another one, no link on the way.

    Args:
        top: descriptor of the directory above.
        directories: the names on the way; none of them has a slash.
        make: make those that aren't there.

    Raises:
        OSError: a name on the way is a link, or no directory.

    """
    descriptor = os.dup(top)
    try:
        for name in directories:
            if name in {"", ".", ".."} or "/" in name:
                raise NotADirectoryError(f"{name!r} is no name of a directory")
            if make:
                with suppress(FileExistsError):
                    os.mkdir(name, 0o755, dir_fd=descriptor)
            inner = os.open(name, _DIRECTORY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def link_missing(source: Path, target: Path, names: Iterable[str]) -> int:
    """Link regular files of a tree into another one that doesn't have them, by hard links.

    A name whose way leads through a link or a file in either tree is left out.

    Args:
        source: where the files are.
        target: gets them.
        names: their paths, the same in both.

    Returns:
        How many were linked.

    """
    count = 0
    with opened(source) as old, opened(target) as new:
        for path in names:
            *directories, name = path.split("/")
            with suppress(OSError), ExitStack() as stack:
                inner = stack.enter_context(beneath(old, directories))
                if not stat.S_ISREG(os.lstat(name, dir_fd=inner).st_mode):
                    continue
                outer = stack.enter_context(beneath(new, directories, make=True))
                os.link(name, name, src_dir_fd=inner, dst_dir_fd=outer, follow_symlinks=False)
                count += 1
    return count
