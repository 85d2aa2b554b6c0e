"""An app's source directory as an archive that is the same whenever the source is."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import stat
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bedstone_control.default_dockerfile import DOCKERFILE, DefaultDockerfile, detect
from bedstone_control.dockerignore import DockerIgnore

if TYPE_CHECKING:
    from pathlib import Path

    from bedstone_control.app_settings import Build

# Changed when the same source shall make another archive.
_FORMAT = 1
# One time for every file: a fresh clone has other times than the clone of yesterday. Not 1970,
# because Python's zip files begin in 1980.
_TIME = 946684800


@dataclass(frozen=True)
class Prepared:
    """A source directory that can be built.

    Attributes:
        directory: where it is.
        dockerfile: its Dockerfile, from the root of the archive.
        default_dockerfile: what the default one needs, None when the source has its own.
        build_args: the build's arguments, with those that follow from the source.

    """

    directory: Path
    dockerfile: str
    default_dockerfile: DefaultDockerfile | None
    build_args: dict[str, str]

    def archive(self, cache: Path, name: str) -> Path:
        """Return the archive, made anew only when a file changed since the last time.

        Args:
            cache: directory for archives; made when missing.
            name: the app's name, for the file's name.

        Raises:
            ValueError: git refuses to list the files.

        """
        generated = self.default_dockerfile.generated if self.default_dockerfile else {}
        paths = [
            path for path in list_files(self.directory, self.dockerfile) if path not in generated
        ]
        if generated:
            # It is applied already, and could leave the generated files out of the build.
            paths = [path for path in paths if path != ".dockerignore"]
        place = hashlib.sha256(str(self.directory).encode()).hexdigest()[:8]
        target = cache / f"{name}-{place}.tar.gz"
        note = target.with_name(f"{target.name}.json")
        fingerprint = _fingerprint(self.directory, paths, generated)
        if target.is_file() and note.is_file() and note.read_text() == fingerprint:
            return target
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        _replace(target, _tar(self.directory, paths, generated))
        _replace(note, fingerprint.encode())
        return target


def prepare(directory: Path, build: Build) -> Prepared:
    """Look at a source directory and decide how it is built.

    Args:
        directory: absolute path on the controller.
        build: the app's build settings.

    Raises:
        ValueError: there is no such directory, no such Dockerfile, or none at all and the project
            does not fit the default one.

    """
    if not directory.is_dir():
        raise ValueError(f"There is no directory {directory}.")
    if build.dockerfile is not None:
        if not (directory / build.dockerfile).is_file():
            raise ValueError(f"There is no Dockerfile {directory / build.dockerfile}.")
        return Prepared(directory, build.dockerfile, None, dict(build.args))
    if (directory / "Dockerfile").is_file():
        return Prepared(directory, "Dockerfile", None, dict(build.args))
    default = detect(directory)
    return Prepared(directory, DOCKERFILE, default, {**default.build_args, **build.args})


def list_files(directory: Path, dockerfile: str) -> list[str]:
    """Return the files of a build context, sorted, as paths from its root.

    In a git checkout these are the tracked files and the untracked ones that git does not ignore,
    otherwise all of them; without those that .dockerignore leaves out.

    Raises:
        ValueError: git refuses.

    """
    ignore_file = directory / f"{dockerfile}.dockerignore"
    if not ignore_file.is_file():
        ignore_file = directory / ".dockerignore"
    ignore = DockerIgnore(ignore_file.read_text() if ignore_file.is_file() else "")
    needed = {dockerfile, ".dockerignore", f"{dockerfile}.dockerignore"}
    found = _git_files(directory)
    return sorted(
        path
        for path in (found if found is not None else _walk(directory))
        if path in needed or not ignore.ignores(path)
    )


def _git_files(directory: Path) -> list[str] | None:
    """Return what git lists, None outside of a checkout."""
    command = ["git", "-C", str(directory), "ls-files", "-z", "--cached", "--others"]
    try:
        result = subprocess.run(
            [*command, "--exclude-standard"],
            capture_output=True,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except FileNotFoundError:
        if (directory / ".git").exists():
            raise ValueError(
                f"{directory} is a git checkout, and git is not installed here: without it the "
                "ignored files can't be told from the others."
            ) from None
        return None
    if result.returncode:
        message = result.stderr.decode(errors="replace").strip()
        if "not a git repository" in message:
            return None
        raise ValueError(f"git can't list the files of {directory}: {message}")
    files: list[str] = []
    for path in dict.fromkeys(os.fsdecode(result.stdout).split("\0")):
        whole = directory / path
        if path and whole.is_dir() and not whole.is_symlink():  # a submodule
            inner = _git_files(whole)
            files += [f"{path.rstrip('/')}/{name}" for name in (inner or [])]
        elif path and (whole.is_symlink() or whole.is_file()):  # not a deleted file
            files.append(path)
    # A directory that an outer repository ignores as a whole is no checkout of its own.
    return files or None


def _walk(directory: Path) -> list[str]:
    """Return all files below a directory but git's own."""
    files = []
    for place, folders, names in os.walk(directory):
        folders[:] = [name for name in folders if name != ".git"]
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]  # noqa: PTH114, PTH118
        files += [
            os.path.relpath(os.path.join(place, name), directory)  # noqa: PTH118
            for name in [*names, *links]
        ]
    return files


def _fingerprint(directory: Path, paths: list[str], generated: dict[str, bytes]) -> str:
    """Return a text that changes when a file does: its size, times and mode, not its content."""
    facts = []
    for path in paths:
        status = (directory / path).lstat()
        facts.append([path, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_mode])
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in generated.items()}
    return json.dumps([_FORMAT, facts, digests])


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
            if path in generated:
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


def _replace(target: Path, data: bytes) -> None:
    """Write a file in one step: several hosts' workers may do so at once."""
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
    os.replace(temporary, target)  # noqa: PTH105
