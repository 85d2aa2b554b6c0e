"""Pack an app's source directory into an archive that is equal for equal sources."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import stat
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bedstone_control.source import checkout
from bedstone_control.source.default_dockerfile import (
    DOCKERFILE,
    DefaultDockerfile,
    detect,
    wheel_fault,
)
from bedstone_control.source.dockerignore import DockerIgnore

if TYPE_CHECKING:
    from bedstone_control.settings.source import Build

# Changed when the same source shall make another archive.
_FORMAT = 2
# One time for every file: a fresh clone has other times than the clone of yesterday. Not 1970,
# because Python's zip files begin in 1980.
_TIME = 946684800
_LFS = b"version https://git-lfs.github.com/spec/v1\n"
_LFS_BYTES = 1024


@dataclass(frozen=True)
class Prepared:
    """A source directory that can be built.

    Attributes:
        directory: where it is.
        dockerfile: its Dockerfile, from the root of the archive.
        default_dockerfile: what the default one needs, None when the source has its own.
        build_args: the build's arguments, with those that follow from the source.
        generated: files that the archive gets in addition, by path.
        git_directory: whether it gets a `.git`.
        outside: the Dockerfile where it is not below the directory.

    """

    directory: Path
    dockerfile: str
    default_dockerfile: DefaultDockerfile | None
    build_args: dict[str, str]
    generated: dict[str, bytes]
    git_directory: bool = False
    outside: Path | None = None

    def files(self) -> list[str]:
        """Return the files that are sent as they are.

        Raises:
            ValueError: git refuses to list them, or one is not the file that it stands for.

        """
        dockerfile = self.outside or self.directory / self.dockerfile
        paths = [
            path for path in list_files(self.directory, dockerfile) if path not in self.generated
        ]
        if self.git_directory:
            checkout.head(self.directory)
            if _ignore(self.directory, dockerfile)[0].ignores(".git"):
                raise ValueError(
                    f"`git_directory` sends a .git, and the .dockerignore of {self.directory} "
                    "leaves it out."
                )
        for path in paths:
            if is_lfs_pointer(self.directory / path):
                raise ValueError(
                    f"{path} in {self.directory} is a pointer of Git LFS, not the file itself. "
                    f"Fetch what it stands for: git -C {self.directory} lfs pull"
                )
        if self.generated:
            # It is applied already, and could leave the generated files out of the build.
            paths = [path for path in paths if path != ".dockerignore"]
        return paths

    def dockerfile_text(self) -> str:
        """Return the Dockerfile's text."""
        if self.dockerfile in self.generated:
            return self.generated[self.dockerfile].decode(errors="replace")
        return (self.directory / self.dockerfile).read_text(encoding="utf-8", errors="replace")

    def archive(self, cache: Path, name: str) -> Path:
        """Return the archive; it is made again only when a file has changed.

        Args:
            cache: directory for archives; made when missing.
            name: the app's name, for the file's name.

        Raises:
            ValueError: git refuses to list the files.

        """
        generated, paths = dict(self.generated), self.files()
        place = hashlib.sha256(str(self.directory).encode()).hexdigest()[:8]
        target = cache / f"{name}-{place}.tar.gz"
        note = target.with_name(f"{target.name}.json")
        history = checkout.history_mark(self.directory) if self.git_directory else ""
        fingerprint = _fingerprint(self.directory, paths, generated, history)
        if target.is_file() and note.is_file() and note.read_text() == fingerprint:
            return target
        if self.git_directory:
            generated |= checkout.history(self.directory)
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        _replace(target, _tar(self.directory, paths, generated))
        _replace(note, fingerprint.encode())
        return target


def prepare(directory: Path, build: Build, *, git_directory: bool = False) -> Prepared:
    """Inspect a source directory and decide how it is built.

    Args:
        directory: absolute path on the controller.
        build: the app's build settings.
        git_directory: whether the build gets a `.git`.

    Raises:
        ValueError: there is no such directory, no such Dockerfile, or none at all and the project
            does not fit the default one.

    """
    if not directory.is_dir():
        raise ValueError(f"There is no directory {directory}.")
    args, secrets = dict(build.args), sorted(build.secrets)
    name = build.dockerfile or "Dockerfile"
    file = directory / name
    if not file.is_file():
        if build.dockerfile is not None:
            raise ValueError(f"There is no Dockerfile {file}.")
        default = detect(directory, secrets=secrets)
        args = {**default.build_args, **args}
        wrong = wheel_fault(default.requirements, args.get("BASE_IMAGE"))
        if wrong is not None:
            raise ValueError(wrong)
        return Prepared(directory, DOCKERFILE, default, args, default.generated, git_directory)
    inside = file.resolve().is_relative_to(directory.resolve())
    if inside:
        name = os.path.relpath(directory / name, directory)
        return Prepared(directory, name, None, args, {}, git_directory)
    # Elsewhere, as `docker build --file` allows: it is sent along.
    generated = {DOCKERFILE: file.read_bytes()}
    return Prepared(directory, DOCKERFILE, None, args, generated, git_directory, file)


def list_files(directory: Path, dockerfile: Path) -> list[str]:
    """Return the files of a build context, sorted, as paths from its root.

    In a git checkout these are the tracked files and the untracked ones that git does not ignore,
    otherwise all of them; without those that .dockerignore leaves out. Empty directories are among
    them, with a slash at the end.

    Args:
        directory: the root.
        dockerfile: absolute; a file next to it, its name with `.dockerignore` at the end, goes
            before the root's.

    Raises:
        ValueError: git refuses.

    """
    ignore, ignore_file = _ignore(directory, dockerfile)
    # Docker reads these whatever .dockerignore, or git, says of them.
    needed = {
        path.relative_to(directory).as_posix()
        for path in (dockerfile, directory / ".dockerignore", ignore_file)
        if path.is_relative_to(directory) and path.is_file()
    }
    found = checkout.files(directory, ignore.ignores)
    return sorted(
        needed
        | {
            path
            for path in (found if found is not None else _walk(directory))
            if not ignore.ignores(path.rstrip("/"))
        }
    )


def _ignore(directory: Path, dockerfile: Path) -> tuple[DockerIgnore, Path]:
    """Return what the build leaves out, and the file that says so."""
    file = dockerfile.with_name(f"{dockerfile.name}.dockerignore")
    if not file.is_file():
        file = directory / ".dockerignore"
    return DockerIgnore(file.read_text() if file.is_file() else ""), file


def _walk(directory: Path) -> list[str]:
    """Return all files and empty directories below a directory, but not git's own."""
    found = []
    for place, folders, names in os.walk(directory):
        empty = not folders and not names and Path(place) != directory
        folders[:] = [name for name in folders if name != ".git"]
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]  # noqa: PTH114, PTH118
        found += [
            os.path.relpath(os.path.join(place, name), directory)  # noqa: PTH118
            for name in [*names, *links]
        ]
        if empty:
            found.append(f"{os.path.relpath(place, directory)}/")
    return found


def _fingerprint(
    directory: Path, paths: list[str], generated: dict[str, bytes], history: str
) -> str:
    """Return a text that changes when a file does: its size, times and mode, not its content."""
    facts = []
    for path in paths:
        status = (directory / path).lstat()
        facts.append([path, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_mode])
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in generated.items()}
    return json.dumps([_FORMAT, facts, digests, history])


def _tar(directory: Path, paths: list[str], generated: dict[str, bytes]) -> bytes:
    """Return the archive: sorted, with one owner, one time, and modes 0644 and 0755 only."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0, compresslevel=6) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path in sorted([*paths, *generated]):
            entry = tarfile.TarInfo(path)
            entry.mtime = _TIME
            entry.mode = 0o644
            if path.endswith("/"):
                entry.type, entry.mode, data = tarfile.DIRTYPE, 0o755, b""
            elif path in generated:
                data = generated[path]
            else:
                whole = directory / path
                status = whole.lstat()
                if stat.S_ISLNK(status.st_mode):
                    entry.type, entry.linkname, data = tarfile.SYMTYPE, os.readlink(whole), b""  # noqa: PTH115
                elif stat.S_ISREG(status.st_mode):
                    data = whole.read_bytes()
                    entry.mode = 0o755 if status.st_mode & stat.S_IXUSR else 0o644
                else:  # a socket or a pipe
                    continue
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


def is_lfs_pointer(path: Path) -> bool:
    """Return whether a file is what Git LFS keeps in place of a large one.

    https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
    """
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_size >= _LFS_BYTES:
            return False
        with path.open("rb") as stream:
            return stream.read(len(_LFS)) == _LFS
    except OSError:
        return False


def _replace(target: Path, data: bytes) -> None:
    """Write a file in one step: several hosts' workers may do so at once."""
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
    os.replace(temporary, target)  # noqa: PTH105
