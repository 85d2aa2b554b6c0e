"""Call git."""

from __future__ import annotations

import base64
import os
import re
import shutil
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import unquote, urlsplit, urlunsplit

from bedstone.core.errors import BedstoneError, CommandError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bedstone.core.process import Completed, Runner

COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_GIT_SECONDS = 600.0
_GIT_ENVIRONMENT = {"GIT_TERMINAL_PROMPT": "0"}
_LFS = b"version https://git-lfs.github.com/spec/v1\n"
_LFS_BYTES = 1024
# Words of git's complaints, and what to do.
_GIT_HINTS = {
    "Host key verification failed": "The server shows other keys than `source: {host_keys: …}` has."
    " Compare them with what its operator publishes, then declare them.",
    "Permission denied (publickey": "The server doesn't know the deploy key:"
    " `python -m bedstone_control secrets NAME` shows the line for the repository's deploy keys.",
    "could not read Username": "The repository needs a login:"
    ' `source: {git: "https://deploy:${secret.git_token}@…"}`, or an address of ssh.',
    "Authentication failed": "The login in `source: {git: …}` is refused: the token may have ended,"
    " or may not read this repository.",
}


@dataclass(frozen=True)
class Repository:
    """A repository, the environment in which git reaches it, and what runs git."""

    url: str
    environment: Mapping[str, str] = field(repr=False)
    run: Runner = field(repr=False)

    @classmethod
    def at(cls, url: str, variables: Mapping[str, str], runner: Runner) -> Self:
        """Return the repository of an address, whose login goes by git's environment.

        Args:
            url: the address.
            variables: how ssh reaches it.
            runner: runs git.

        """
        place, environment = _without_login(url)
        return cls(place, {**environment, **variables}, runner)

    def _git(self, *arguments: str, check: bool = True, seconds: float = _GIT_SECONDS) -> Completed:
        """Run git.

        Raises:
            BedstoneError: it failed; the hint says how the repository is reached.

        """
        try:
            return self.run(["git", *arguments], timeout=seconds, env=self.environment, check=check)
        except CommandError as error:
            hint = next(
                (text for words, text in _GIT_HINTS.items() if words in error.details), None
            )
            raise BedstoneError(
                f"git can't fetch {self.url}: {error.message}", hint, error.details
            ) from error

    def resolve(self, wanted: str) -> str:
        """Return the commit that a branch, tag or commit stands for now.

        Raises:
            BedstoneError: there is no such version.

        """
        if COMMIT.fullmatch(wanted):
            return wanted
        names = [wanted] if wanted == "HEAD" else [f"refs/heads/{wanted}", f"refs/tags/{wanted}"]
        # `^{}` is the commit that an annotated tag points to.
        asked = [*names, *(f"{name}^{{}}" for name in names)]
        output = self._git("ls-remote", self.url, *asked, seconds=60).stdout
        commits = {line.split("\t")[1]: line.split("\t")[0] for line in output.splitlines()}
        for name in reversed(asked):
            if name in commits:
                return commits[name]
        raise BedstoneError(
            f"{self.url} has no branch or tag {wanted!r}.",
            hint="Under `source: {version: ...}` goes a branch, a tag, or all 40 characters of a"
            " commit.",
        )

    def clone(self, commit: str, target: Path) -> None:
        """Check a commit out into an empty directory, with submodules and large files.

        Raises:
            BedstoneError: a part of it can't be fetched.

        """

        def git(*arguments: str, check: bool = True) -> int:
            return self._git("-C", str(target), *arguments, check=check).returncode

        url = self.url
        git("init", "--quiet")
        # Not every server hands out a single commit; all hand out everything.
        if git("fetch", "--quiet", "--depth", "1", url, commit, check=False) != 0:
            git("fetch", "--quiet", "--tags", url, "+refs/heads/*:refs/remotes/origin/*")
        git("checkout", "--quiet", commit)
        git("submodule", "update", "--init", "--recursive", "--quiet")
        if _lfs_pointer(target) is not None and shutil.which("git-lfs"):
            git("remote", "add", "origin", url)
            git("lfs", "pull", "origin", check=False)
            git("remote", "remove", "origin")
        pointer = _lfs_pointer(target)
        if pointer is not None:
            raise BedstoneError(
                f"{pointer} in {url} is a pointer of Git LFS, and the file it stands for is not"
                " there.",
                hint="The server fetches such files when it has git-lfs (`apt install git-lfs`) and"
                " the login may read them.",
            )


def _lfs_pointer(directory: Path) -> str | None:
    """Return the first file that Git LFS keeps in place of a large one.

    https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
    """
    for place, folders, names in os.walk(directory):
        if ".git" in folders:
            folders.remove(".git")
        for name in sorted(names):
            path = Path(place) / name
            status = path.lstat()
            if stat.S_ISREG(status.st_mode) and status.st_size < _LFS_BYTES:
                with path.open("rb") as stream:
                    if stream.read(len(_LFS)) == _LFS:
                        return str(path.relative_to(directory))
    return None


def _without_login(url: str) -> tuple[str, dict[str, str]]:
    """Return an address without the login in it, and the environment that brings it to git.

    In git's arguments every user of the server could read it, and in its complaints everybody
    who reads a log.
    """
    try:
        parts = urlsplit(url)
        login, at, place = parts.netloc.rpartition("@")
    except ValueError:
        return url, _GIT_ENVIRONMENT
    if parts.scheme not in {"http", "https"} or not at:
        return url, _GIT_ENVIRONMENT
    name, _, password = login.partition(":")
    token = base64.b64encode(f"{unquote(name)}:{unquote(password)}".encode()).decode()
    return urlunsplit(parts._replace(netloc=place)), {
        **_GIT_ENVIRONMENT,
        "GIT_CONFIG_COUNT": "1",
        # To this server alone, not to where it may redirect.
        "GIT_CONFIG_KEY_0": f"http.{parts.scheme}://{place}/.extraHeader",
        "GIT_CONFIG_VALUE_0": f"Authorization: Basic {token}",
    }
