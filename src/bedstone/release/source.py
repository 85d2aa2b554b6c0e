"""Identify, build, pull or load an app's image."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

from bedstone.apps import source_secrets
from bedstone.core import paths
from bedstone.core.errors import BedstoneError, CommandError, ConfigError
from bedstone.core.process import Runner, run
from bedstone.system.container import LABEL_APP

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from bedstone.apps.config import App, Image
    from bedstone.core.process import Completed
    from bedstone.system.docker import Docker, ImageFacts

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_NOT_IN_TAGS = re.compile(r"[^A-Za-z0-9_.-]+")
_VERSION_CHARACTERS = 40
_GIT_SECONDS = 600.0
_UNPACK_SECONDS = 600.0
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


def digest_of_file(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        ConfigError: it can't be read.

    """
    try:
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(
            f"{path} can't be read: {error.strerror}.",
            hint="Ansible puts it there: run `ansible-playbook playbooks/site.yml`.",
        ) from error


def identify(app: App, docker: Docker, runner: Runner = run, *, pull: bool = True) -> str:
    """Return what identifies the version of an app's source that would be released now.

    A digest of the archive, the commit a git version stands for at the moment,
    or the id of the image that a reference stands for: it is pulled for that,
    unless it names a digest that is here, or ``pull`` is false.
    """
    image = app.image
    if image.kind in {"build", "load"}:
        return f"sha256:{digest_of_file(paths.host(image.archive or ''))}"
    if image.kind == "git":
        with _repository(app) as repository:
            return f"git:{_resolve(repository, image.version or 'HEAD', runner)}"
    reference = image.reference or ""
    facts = docker.image(reference) if not pull or "@sha256:" in reference else None
    if facts is None and not pull:
        return "image:not here yet"
    if facts is None:
        with _registry_login(app, docker) as config:
            docker.pull(reference, config)
        facts = _present(docker, reference)
    return f"image:{facts.id}"


def version(image: Image, identity: str) -> str:
    """Return a short name for a source's version, fit for a release's id and an image's tag."""
    if image.label:
        text = image.label
    elif image.kind == "git":
        commit = identity.removeprefix("git:")[:8]
        wanted = image.version or "HEAD"
        text = commit if _COMMIT.fullmatch(wanted) else f"{wanted}-{commit}"
    elif image.kind == "pull":
        name = (image.reference or "").partition("@")[0].rpartition("/")[2]
        text = f"{name.partition(':')[2] or 'image'}-{identity.rpartition(':')[2][:8]}"
    else:
        text = identity.removeprefix("sha256:")[:8]
    return _NOT_IN_TAGS.sub("-", text)[:_VERSION_CHARACTERS].strip("-.")


def obtain(
    app: App,
    identity: str,
    docker: Docker,
    runner: Runner = run,
    on_line: Callable[[str], None] | None = None,
    *,
    fresh: bool = False,
) -> ImageFacts:
    """Build, pull or load an app's image and return what is known of it.

    ``fresh`` builds every layer again, on the newest version of the base image.
    """
    image = app.image
    if image.kind == "pull":
        return _present(docker, identity.removeprefix("image:"))
    if image.kind == "load":
        return _present(docker, docker.load(paths.host(image.archive or "")))
    with tempfile.TemporaryDirectory(prefix="bedstone-source-") as temporary:
        context = Path(temporary)
        if image.kind == "git":
            with _repository(app) as repository:
                _clone(repository, identity.removeprefix("git:"), context, runner)
        else:
            _unpack(paths.host(image.archive or ""), context, runner)
        if not (context / image.dockerfile).is_file():
            raise BedstoneError(
                f"The source of {app.name} has no {image.dockerfile}.",
                hint="Add one, or say under `build: {dockerfile: ...}` where it is.",
            )
        kept = source_secrets.load(app.name)
        built = docker.build(
            context,
            dockerfile=image.dockerfile,
            args=image.args,
            secret_args=_named(app, kept.args, image.args),
            secrets=_named(app, kept.secrets, image.secrets),
            target=image.target,
            labels={LABEL_APP: app.name},
            fresh=fresh,
            on_line=on_line,
        )
    return _present(docker, built)


def _present(docker: Docker, reference: str) -> ImageFacts:
    facts = docker.image(reference)
    if facts is None:
        raise BedstoneError(f"Docker has no image {reference}, although it has just said so.")
    return facts


def _unpack(archive: Path, target: Path, runner: Runner) -> None:
    # GNU tar, since Python 3.11 may have no extraction filters: tar
    # itself keeps out of absolute paths and `..`.
    runner(
        ["tar", "--extract", "--no-same-owner", "--file", str(archive), "--directory", str(target)],
        timeout=_UNPACK_SECONDS,
    )


def _named(app: App, values: Mapping[str, str], names: Collection[str]) -> dict[str, str]:
    """Return the values that belong to names of the description.

    Raises:
        ConfigError: the description names a secret that is not there.

    """
    missing = [name for name in names if name not in values and name in app.image.secrets]
    if missing:
        raise ConfigError(
            f"The secrets of {app.name}'s source lack {', '.join(sorted(missing))}.",
            hint="Ansible puts them there: run `ansible-playbook playbooks/site.yml`.",
        )
    return {name: values[name] for name in names if name in values}


@dataclass(frozen=True)
class _Repository:
    """A repository, and the environment in which git reaches it."""

    url: str
    environment: Mapping[str, str] = field(repr=False)

    def git(
        self, runner: Runner, *arguments: str, check: bool = True, seconds: float = _GIT_SECONDS
    ) -> Completed:
        """Run git.

        Raises:
            BedstoneError: it failed; the hint says how the repository is reached.

        """
        try:
            return runner(["git", *arguments], timeout=seconds, env=self.environment, check=check)
        except CommandError as error:
            hint = next(
                (text for words, text in _GIT_HINTS.items() if words in error.details), None
            )
            raise BedstoneError(
                f"git can't fetch {self.url}: {error.message}", hint, error.details
            ) from error


@contextmanager
def _repository(app: App) -> Iterator[_Repository]:
    """Yield an app's repository for the time of a block."""
    kept = source_secrets.load(app.name)
    url, environment = _without_login(kept.url or app.image.url or "")
    with source_secrets.ssh(kept) as ssh:
        yield _Repository(url, {**environment, **ssh})


def _resolve(repository: _Repository, wanted: str, runner: Runner) -> str:
    if _COMMIT.fullmatch(wanted):
        return wanted
    names = [wanted] if wanted == "HEAD" else [f"refs/heads/{wanted}", f"refs/tags/{wanted}"]
    # `^{}` is the commit that an annotated tag points to.
    asked = [*names, *(f"{name}^{{}}" for name in names)]
    output = repository.git(runner, "ls-remote", repository.url, *asked, seconds=60).stdout
    commits = {line.split("\t")[1]: line.split("\t")[0] for line in output.splitlines()}
    for name in reversed(asked):
        if name in commits:
            return commits[name]
    raise BedstoneError(
        f"{repository.url} has no branch or tag {wanted!r}.",
        hint="Under `source: {version: ...}` goes a branch, a tag, or all 40 characters of a"
        " commit.",
    )


def _clone(repository: _Repository, commit: str, target: Path, runner: Runner) -> None:
    def git(*arguments: str, check: bool = True) -> int:
        return repository.git(runner, "-C", str(target), *arguments, check=check).returncode

    url = repository.url
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
            f"{pointer} in {url} is a pointer of Git LFS, and the file it stands for is not there.",
            hint="The server fetches such files when it has git-lfs (`apt install git-lfs`) and the"
            " login may read them.",
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


@contextmanager
def _registry_login(app: App, docker: Docker) -> Iterator[str | None]:
    """Log in to the app's registry for a block, if it has a login; nothing of it is kept."""
    path = paths.app_config(app.name).with_name("registry.json")
    if not path.exists():
        yield None
        return
    try:
        login = json.loads(path.read_text(encoding="utf-8"))
        server, username, password = login["server"], login["username"], login["password"]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} needs server, username and password, in JSON.") from error
    directory = paths.ensure_private(paths.runtime())
    with tempfile.TemporaryDirectory(prefix="registry-", dir=directory) as config:
        docker.login(config, server, username, password)
        yield config
