"""Check the sources of the images, and whether they can be used."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from bedstone_control.checks.apps import located
from bedstone_control.checks.operators import host_key_fault
from bedstone_control.settings import gitserver
from bedstone_control.source import archive

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bedstone_control.checks.context import Context, Place
    from bedstone_control.checks.problems import Problem
    from bedstone_control.settings.app import App
    from bedstone_control.settings.root import Settings
    from bedstone_control.settings.service import Service
    from bedstone_control.settings.source import Origin

# https://pkg.go.dev/github.com/distribution/reference: host, path, tag, digest.
_IMAGE = re.compile(
    r"^(?:[A-Za-z0-9.-]+(?::[0-9]+)?/)?"
    r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?$"
)
_COPIES_GIT = re.compile(
    r"^\s*(?:COPY|ADD)\s(?:[^\n]*\s)?(?:\./)?\.git(?:/\S*)?\s", re.IGNORECASE | re.MULTILINE
)
# The keys that only one kind of source has.
_BELONGS = {
    "version": "git",
    "host_keys": "git",
    "registry_user": "image",
    "git_directory": "path",
}


def check(context: Context, settings: Settings) -> Iterator[Problem]:
    """Check the source of each app."""
    for place, app in located(context, settings):
        for origin in app.origins:
            services = _services_of(app, origin)
            yield from _source(context, (*place, *origin.place), origin, services)
        yield from _builds_without_source(context, place, app)


def _services_of(app: App, origin: Origin) -> Mapping[str, Service]:
    """Return the services that run the image of an origin."""
    own = {each.service for each in app.origins if each.service}
    if origin.service:
        return {origin.service: app.services[origin.service]}
    return {name: service for name, service in app.services.items() if name not in own}


def _builds_without_source(context: Context, place: Place, app: App) -> Iterator[Problem]:
    for name, service in app.services.items():
        if service.source is None and service.build.model_fields_set:
            message = "`build` belongs to a `source` of the service; it runs the app's image."
            example = {"source": {"path": "../../frontend"}, "build": {"target": "production"}}
            yield context.problem((*place, "services", name, "build"), message, example)


def _source(
    context: Context, place: Place, origin: Origin, services: Mapping[str, Service]
) -> Iterator[Problem]:
    """Check that there is one source, and that it can be used."""
    where = (*place, "source")
    kinds = ("path", "git", "image", "archive")
    given = [kind for kind in kinds if getattr(origin.source, kind) is not None]
    if len(given) != 1:
        message = (
            f"An image comes from one place, and here are {len(given)}: {', '.join(given)}."
            if given
            else "One of `path`, `git`, `image` and `archive` is needed."
        )
        yield context.problem(where, message, {"source": {"path": "../../app"}})
        return
    for key, kind in _BELONGS.items():
        if getattr(origin.source, key) and kind != given[0]:
            message = f"`{key}` belongs to `{kind}`; this source is `{given[0]}`."
            example = {"source": {given[0]: getattr(origin.source, given[0])}}
            yield context.problem((*where, key), message, example)
    if origin.source.image is not None and not _IMAGE.match(origin.source.image):
        message = f"{origin.source.image!r} is no image reference."
        example = {"source": {"image": "registry.example.com/team/payments:1.4.2"}}
        yield context.problem((*where, "image"), message, example)
    if origin.source.archive is not None and not context.path(origin.source.archive).is_file():
        message = f"There is no file {context.path(origin.source.archive)}."
        yield context.problem(
            (*where, "archive"), message, {"source": {"archive": "../../payments-1.4.2.tar"}}
        )
    if given[0] in {"image", "archive"} and origin.build.model_fields_set:
        message = f"`build` has no effect on a source of the kind `{given[0]}`."
        yield context.problem((*place, "build"), message, {"source": {"path": "../../app"}})
    if origin.source.git is not None:
        yield from _git(context, place, origin, origin.source.git)
    if origin.source.path is not None:
        yield from _directory(context, place, origin, services)


def _git(context: Context, place: Place, origin: Origin, address: str) -> Iterator[Problem]:
    """Check the address of a repository, and what it takes to reach it."""
    where = (*place, "source", "git")
    if origin.source.version is None:
        message = "A git source needs a `version`: a tag, a branch or a commit."
        example: Any = {"source": {"git": address, "version": "v1.4.2"}}
        yield context.problem(where[:-1], message, example)
    right = "https://git.example.com/team/payments.git"
    server = gitserver.parse(address)
    if server is None:
        message = "This is no address of a repository: https://…, ssh://… or git@HOST:PATH."
        yield context.problem(where, message, {"git": right})
        return
    if server.has_open_secret:
        # Not shown: the report may end in a log.
        message = "A login stands in this address in plain text. Move its secret into the vault."
        example = {"git": "https://deploy:${secret.git_token}@git.example.com/team/payments.git"}
        yield context.problem(where, message, example)
    yield from _host_keys(context, place, origin, server)
    dockerfile = PurePosixPath(origin.build.dockerfile or "Dockerfile")
    if dockerfile.is_absolute() or ".." in dockerfile.parts:
        message = f"The Dockerfile of a repository is in it; {str(dockerfile)!r} is not."
        yield context.problem(
            (*place, "build", "dockerfile"), message, {"dockerfile": "docker/Dockerfile"}
        )


def _host_keys(
    context: Context, place: Place, origin: Origin, server: gitserver.Server
) -> Iterator[Problem]:
    """Check that the keys of a server that is reached by ssh are known."""
    keys = (*place, "source", "host_keys")
    example = {"host_keys": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI…"]}
    if server.ssh and not origin.source.host_keys:
        message = (
            "A repository that is reached by ssh needs `host_keys`, the public keys of its server: "
            f"what `ssh-keyscan {server.host}` prints, compared with what its operator publishes."
        )
        yield context.problem((*place, "source"), message, example)
    if not server.ssh and origin.source.host_keys:
        message = "`host_keys` belong to a repository that is reached by ssh."
        yield context.problem(keys, message, {"git": "git@git.example.com:team/payments.git"})
    for index, key in enumerate(origin.source.host_keys):
        if (wrong := host_key_fault(key)) is not None:
            yield context.problem((*keys, index), wrong, example)


def _directory(
    context: Context, place: Place, origin: Origin, services: Mapping[str, Service]
) -> Iterator[Problem]:
    """Check for a Dockerfile, or for what the default one needs."""
    try:
        prepared = archive.prepare(
            context.path(origin.source.path or ""),
            origin.build,
            git_directory=origin.source.git_directory,
        )
        prepared.files()
    except ValueError as error:
        wrong = "build" if origin.build.dockerfile and "Dockerfile" in str(error) else "source"
        example = {"dockerfile": "Dockerfile"} if wrong == "build" else {"path": "../../app"}
        yield context.problem((*place, wrong), str(error), {wrong: example})
        return
    if not origin.source.git_directory and _COPIES_GIT.search(prepared.dockerfile_text()):
        message = "The Dockerfile copies .git, and a build gets one only where that is asked for."
        right: Any = {"source": {"path": origin.source.path, "git_directory": True}}
        yield context.problem((*place, "source"), message, right)
    default = prepared.default_dockerfile
    for name, service in services.items():
        if default is None or service.command is not None:
            continue
        if service.port is None:
            message = "The default Dockerfile has no command of its own; a worker needs one."
            right = {"command": "celery -A config worker"}
        elif default.wsgi is None:
            found = ", ".join(default.wsgi_candidates) or "none"
            message = f"One WSGI module is needed to guess the command; found: {found}."
            right = {"command": f"gunicorn config.wsgi --bind 0.0.0.0:{service.port}"}
        else:
            continue
        of_app = place if origin.service else (*place, "services", name)
        yield context.problem((*of_app, "command"), message, right)
