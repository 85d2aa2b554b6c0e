"""Validate desired files in a stage, with the real programs, before any of them is in place.

A validator sees the desired files in one of two ways. Where its command names `{stage}`, that is
the path of a directory laid out like `/` which holds them. Otherwise the command runs in a mount
namespace of its own in which they lie over the server's files at their real paths, so that
`nginx -t` or `sshd -t` read exactly what they would read after the change. Other processes don't
see it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import stat
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bedstone_files import Ids, WantedFile, WantedLink, below
    from bedstone_run import ConvergeError, Runner
else:
    from ansible.module_utils.bedstone_files import below
    from ansible.module_utils.bedstone_run import ConvergeError

# On the disk and not below /var/lib: an overlay can't hold one of its own layers.
PARENT = "var/tmp"
PREFIX = "bedstone-stage-"
LEFTOVER_SECONDS = 3600
PLACEHOLDER = "{stage}"

NO_VIEW = "This server gives a validator no view of its own of the files: "
NO_VIEW_CODE = 125

MS_BIND, MS_REC, MS_PRIVATE, MS_RDONLY = 4096, 16384, 1 << 18, 1
CLONE_NEWNS = 0x00020000


class Stage:
    """A directory laid out like `/` that holds the wanted files, readable for root alone."""

    def __init__(self, root: Path, directory: Path) -> None:
        """Take an empty directory."""
        self.root = root
        self.directory = directory
        self.files = directory / "files"
        self.removed = directory / "removed"
        self.hidden: list[str] = []
        for layer in (self.files, self.removed):
            layer.mkdir(mode=0o755)

    def add_file(self, wanted: WantedFile, ids: Ids, upload: Path | None) -> None:
        """Lay out a wanted file; content that this server already has is copied."""
        place = self._place(self.files, wanted.path)
        if wanted.content is not None:
            place.write_bytes(wanted.content)
        else:
            shutil.copyfile(upload or below(self.root, wanted.path), place)
        os.chown(place, ids.uid, ids.gid)
        place.chmod(wanted.mode)

    def add_link(self, wanted: WantedLink) -> None:
        """Lay out a wanted link."""
        self._place(self.files, wanted.path).symlink_to(wanted.target)

    def hide(self, path: str) -> None:
        """Hide a path that is going to be removed from the validators."""
        self.hidden.append(path)

    def make_whiteouts(self) -> None:
        """Lay out what hides the hidden paths in an overlay: devices with the number 0, 0.

        They can't be made on a file system that is an overlay itself, like a container's.
        """
        for path in self.hidden:
            os.mknod(self._place(self.removed, path), stat.S_IFCHR, os.makedev(0, 0))

    def _place(self, layer: Path, path: str) -> Path:
        """Make the parents, each with the real one's owner and mode (an overlay shows ours)."""
        parent = layer
        for part in Path(path).parent.parts[1:]:
            parent = parent / part
            if parent.is_dir():
                continue
            parent.mkdir(mode=0o755)
            real = self.root / parent.relative_to(layer)
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                status = real.stat()
                os.chown(parent, status.st_uid, status.st_gid)
                parent.chmod(stat.S_IMODE(status.st_mode))
        return layer / path.lstrip("/")

    def tops(self) -> list[str]:
        """Return the directories to lay the stage over: `/etc`, `/var/lib` ..."""
        tops: set[str] = set()
        for layer in (self.files, self.removed):
            for path in layer.iterdir():
                below_top = path.iterdir() if path.name == "var" else [path]
                tops.update(f"/{entry.relative_to(layer)}" for entry in below_top if entry.is_dir())
        return sorted(tops)

    def layer_over(self, top: str) -> str:
        """Return the overlay's layers for one directory, the first one winning."""
        layers = [below(self.files, top), below(self.removed, top), Path(top)]
        return ":".join(str(layer) for layer in layers if layer.is_dir())


@contextlib.contextmanager
def new_stage(root: Path) -> Iterator[Stage]:
    """Make a stage, and remove it and those of killed runs."""
    parent = root / PARENT
    parent.mkdir(parents=True, exist_ok=True)
    for leftover in parent.glob(f"{PREFIX}*"):
        if time.time() - leftover.stat().st_mtime > LEFTOVER_SECONDS:
            shutil.rmtree(leftover, ignore_errors=True)
    directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    try:
        yield Stage(root, directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def validate(
    stage: Stage, command: list[str], run: Runner, hide_secrets: Callable[[str], str]
) -> None:
    """Run one validator over the stage.

    Args:
        stage: holds the wanted files.
        command: the program and its arguments; `{stage}` stands for the stage's path.
        run: runs a program.
        hide_secrets: takes the content of sensitive files out of a text.

    Raises:
        ConvergeError: it found something wrong, in its own words, with the real paths.

    """
    if any(PLACEHOLDER in word for word in command):
        words = [word.replace(PLACEHOLDER, str(stage.files)) for word in command]
        ended = run(words)
    else:
        ended = run(command, prepare=lambda: _lay_over_or_end(stage))
        if ended.code == NO_VIEW_CODE and ended.errors.startswith(NO_VIEW):
            raise ConvergeError(
                f"`{' '.join(command)}` was not run, nothing was changed. {ended.errors.strip()} "
                "A command that names {stage} does without such a view."
            )
    if ended.code != 0:
        shown = " ".join(command).replace(PLACEHOLDER, "")
        said = hide_secrets(ended.text().replace(str(stage.files), "")) or "It printed nothing."
        raise ConvergeError(
            f"The new configuration is not valid, nothing was changed. `{shown}` ended with exit "
            f"code {ended.code}:\n{said}"
        )


def _lay_over_or_end(stage: Stage) -> None:
    """Lay the stage over the server's files, or end this new process and say why."""
    try:
        lay_over(stage)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the parent has to hear it
        os.write(2, f"{NO_VIEW}{error}.\n".encode())
        os._exit(NO_VIEW_CODE)


def lay_over(stage: Stage) -> None:
    """Enter a mount namespace of our own and lay the stage's files over the server's.

    What is mounted below (a container's /etc/resolv.conf, a volume in /var/lib) stays visible.

    Raises:
        OSError: the kernel refused.

    """
    libc = ctypes.CDLL(None, use_errno=True)
    _checked(libc.unshare(CLONE_NEWNS), "unshare")
    _mount(libc, None, "/", None, MS_REC | MS_PRIVATE, None)
    _mount(libc, "tmpfs", str(stage.removed), "tmpfs", 0, "mode=0755")
    stage.make_whiteouts()
    for top in stage.tops():
        if not Path(top).is_dir():
            continue
        shelf = Path(tempfile.mkdtemp(prefix="mounts-", dir=stage.directory))
        saved = _save_mounts_below(libc, top, shelf)
        _mount(libc, "overlay", top, "overlay", MS_RDONLY, f"lowerdir={stage.layer_over(top)}")
        for source, target in saved:
            _mount(libc, source, target, None, MS_BIND | MS_REC, None)


def _save_mounts_below(libc: ctypes.CDLL, top: str, shelf: Path) -> list[tuple[str, str]]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    targets = [line.split(" ")[4].replace("\\040", " ") for line in lines]
    saved: list[tuple[str, str]] = []
    for target in targets:
        inside = any(target.startswith(f"{done}/") for _, done in saved)
        if not target.startswith(f"{top}/") or inside or not Path(target).exists():
            continue
        source = shelf / str(len(saved))
        if Path(target).is_dir():
            source.mkdir()
        else:
            source.touch()
        _mount(libc, target, str(source), None, MS_BIND | MS_REC, None)
        saved.append((str(source), target))
    return saved


def _mount(
    libc: ctypes.CDLL,
    source: str | None,
    target: str,
    kind: str | None,
    flags: int,
    options: str | None,
) -> None:
    words = [None if word is None else word.encode() for word in (source, target, kind, options)]
    _checked(
        libc.mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3]), f"mount {target}"
    )


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
