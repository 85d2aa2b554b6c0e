"""Identify, build, pull or load an app's image."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bedstone.apps import source_secrets
from bedstone.core import paths
from bedstone.core.errors import BedstoneError, ConfigError
from bedstone.storage import tar
from bedstone.system import git
from bedstone.system.container import LABEL_APP

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from bedstone.apps.config import App, Image
    from bedstone.core.process import Runner
    from bedstone.system.docker import Docker, ImageFacts

_NOT_IN_TAGS = re.compile(r"[^A-Za-z0-9_.-]+")
_VERSION_CHARACTERS = 40


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


def identify_all(app: App, docker: Docker, runner: Runner, *, pull: bool = True) -> dict[str, str]:
    """Return what identifies the sources of all images of an app, by service."""
    return {service: identify(app, docker, runner, service, pull=pull) for service in app.images}


def identify(
    app: App, docker: Docker, runner: Runner, service: str = "", *, pull: bool = True
) -> str:
    """Return what identifies the version of a source of an app that would be released now.

    A digest of the archive, the commit a git version stands for at the moment,
    or the id of the image that a reference stands for: it is pulled for that,
    unless it names a digest that is here, or ``pull`` is false.
    """
    image = app.images[service]
    if image.kind in {"build", "load"}:
        return f"sha256:{digest_of_file(paths.host(image.archive or ''))}"
    if image.kind == "git":
        with _repository(app, service, runner) as repository:
            return f"git:{repository.resolve(image.version or 'HEAD')}"
    reference = image.reference or ""
    facts = docker.image(reference) if not pull or "@sha256:" in reference else None
    if facts is None and not pull:
        return "image:not here yet"
    if facts is None:
        with _registry_login(app, service, docker) as config:
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
        text = commit if git.COMMIT.fullmatch(wanted) else f"{wanted}-{commit}"
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
    runner: Runner,
    on_line: Callable[[str], None] | None = None,
    *,
    service: str = "",
    fresh: bool = False,
) -> ImageFacts:
    """Build, pull or load an image of an app and return what is known of it.

    ``fresh`` builds every layer again, on the newest version of the base image.
    """
    image = app.images[service]
    if image.kind == "pull":
        return _present(docker, identity.removeprefix("image:"))
    if image.kind == "load":
        return _present(docker, docker.load(paths.host(image.archive or "")))
    with tempfile.TemporaryDirectory(prefix="bedstone-source-") as temporary:
        context = Path(temporary)
        if image.kind == "git":
            with _repository(app, service, runner) as repository:
                repository.clone(identity.removeprefix("git:"), context)
        else:
            tar.unpack_source(paths.host(image.archive or ""), context, runner)
        if not (context / image.dockerfile).is_file():
            raise BedstoneError(
                f"The source of {_whose(app, service)} has no {image.dockerfile}.",
                hint="Add one, or say under `build: {dockerfile: ...}` where it is.",
            )
        kept = source_secrets.load(app.name, service)
        built = docker.build(
            context,
            dockerfile=image.dockerfile,
            args=image.args,
            secret_args=_named(app, service, kept.args, image.args),
            secrets=_named(app, service, kept.secrets, image.secrets),
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


def _whose(app: App, service: str) -> str:
    return f"{app.name}/{service}" if service else app.name


def _named(
    app: App, service: str, values: Mapping[str, str], names: Collection[str]
) -> dict[str, str]:
    """Return the values that belong to names of the description.

    Raises:
        ConfigError: the description names a secret that is not there.

    """
    secrets = app.images[service].secrets
    missing = [name for name in names if name not in values and name in secrets]
    if missing:
        raise ConfigError(
            f"The secrets of {_whose(app, service)}'s source lack {', '.join(sorted(missing))}.",
            hint="Ansible puts them there: run `ansible-playbook playbooks/site.yml`.",
        )
    return {name: values[name] for name in names if name in values}


@contextmanager
def _repository(app: App, service: str, runner: Runner) -> Iterator[git.Repository]:
    """Yield a repository of an app for the time of a block."""
    kept = source_secrets.load(app.name, service)
    with source_secrets.ssh(kept) as ssh:
        yield git.Repository.at(kept.url or app.images[service].url or "", ssh, runner)


@contextmanager
def _registry_login(app: App, service: str, docker: Docker) -> Iterator[str | None]:
    """Log in to an image's registry for a block, if it has a login; nothing of it is kept."""
    path = source_secrets.path(app.name, source_secrets.REGISTRY, service)
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
