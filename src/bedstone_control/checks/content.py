"""Check the environment, directories and files of the apps' containers."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from posixpath import normpath
from typing import TYPE_CHECKING

from bedstone_control import names
from bedstone_control.checks.apps import located
from bedstone_control.checks.context import did_you_mean
from bedstone_control.roles import environment
from bedstone_control.roles.registry import ROLES
from bedstone_control.settings import placeholders

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bedstone_control.checks.context import Context, Place
    from bedstone_control.checks.problems import Problem
    from bedstone_control.settings.app import App, Content
    from bedstone_control.settings.root import Settings
    from bedstone_control.settings.source import Origin

# What Docker passes to mount(8), as far as it makes sense in a container.
_TMPFS_OPTION = re.compile(r"exec|noexec|size=[1-9][0-9]*[kmg]?|mode=[0-7]{3,4}|[ug]id=[0-9]{1,10}")


_SOURCES = ("/home", "/srv", "/opt", "/mnt")
_SERVED = "/srv/bedstone"
# The root, and one of these directories.
_OUTERMOST = 2

# What the docker command takes from its environment, by which a secret argument reaches it.
_OF_DOCKER = re.compile(r"PATH|HOME|(?:DOCKER|BUILDX|BUILDKIT|LD)_.*")


def check(context: Context, settings: Settings) -> Iterator[Problem]:
    """Check what the containers of each app find."""
    for place, app in located(context, settings):
        yield from _environment(context, place, app)
        yield from _build(context, place, app)
        yield from _directories(context, place, app)
        yield from _files(context, place, app)
        yield from _source_mount(context, place, app)
        yield from _in_memory(context, place, app)


def _environment(context: Context, place: Place, app: App) -> Iterator[Problem]:
    """Check names, line breaks and placeholders of the variables."""
    declared = [((*place, "env", name), value) for name, value in app.env.items()]
    for service, values in app.services.items():
        own = (*place, "services", service, "env")
        declared += [((*own, name), value) for name, value in values.env.items()]
    for where, value in declared:
        name = str(where[-1])
        if not re.fullmatch(names.ENVIRONMENT_NAME, name):
            message = f"`{name}` can't be the name of an environment variable."
            yield context.problem(where, message, {"env": {"LOG_LEVEL": "INFO"}})
        if value is None:
            continue
        if "\0" in value:
            message = "The value holds a NUL character, at which a variable ends."
            yield context.problem(where, message, {"env": {"LOG_LEVEL": "INFO"}})
        if "\n" in value or "\r" in value:
            message = "An environment file holds one line a variable; this value has several."
            example = {"files": [{"target": "/app/key.pem", "content": "${secret.key}"}]}
            yield context.problem(where, f"{message} Use a file.", example)
        yield from _login(context, where, app, value)
        yield from _placeholders(context, where, app, value)


def _login(context: Context, where: Place, app: App, value: str) -> Iterator[Problem]:
    """Check for the app's role in place of its login, whose name comes with the password."""
    if app.database is None or app.database.client_certificate:
        return  # with a certificate the role itself logs in
    role = names.app_role(app.database.name or names.database_name(app.name))
    named = "USER" in str(where[-1]).upper() and value == role
    if named or re.search(rf"(?://|\buser=['\"]?){role}(?:['\":@\s]|$)", value):
        message = (
            f"`{role}` can't log in: the login has another name with each password, for which"
            " ${database.user} stands."
        )
        yield context.problem(where, message, {"env": {where[-1]: "${database.user}"}})


def _placeholders(context: Context, where: Place, app: App, text: str) -> Iterator[Problem]:
    """Check for placeholders that stand for nothing."""
    for name in placeholders.used(text):
        own = name.removeprefix("secret.").removesuffix(placeholders.PREVIOUS)
        if name.startswith("secret.") and re.fullmatch(names.ENVIRONMENT_NAME, own):
            continue  # a missing one is a missing secret
        offer = next((one for one in environment.offers(ROLES) if name in one.placeholders), None)
        if offer is not None and not offer.used_by(app):
            message = f"${{{name}}} needs {offer.needs}, and the app has none."
            yield context.problem(where, message, offer.setting)
        elif offer is None:
            known = [
                item for item in environment.known_placeholders(ROLES) if item != "secret.NAME"
            ]
            hint = did_you_mean(name, known)
            if hint.startswith("Known"):
                hint = f"{hint[:-1]}, `secret.NAME`."
            message = f"Unknown placeholder ${{{name}}}. {hint}"
            yield context.problem(where, message, {"DB_HOST": "${database.host}"})


def _build(context: Context, place: Place, app: App) -> Iterator[Problem]:
    """Check names and placeholders of what the build gets, and of the source's address."""
    for origin in app.origins:
        yield from _origin(context, (*place, *origin.place), origin)


def _origin(context: Context, place: Place, origin: Origin) -> Iterator[Problem]:
    build = origin.build
    for kind, values in (("args", build.args), ("secrets", build.secrets)):
        for name, text in values.items():
            where = (*place, "build", kind, name)
            if not re.fullmatch(names.ENVIRONMENT_NAME, name):
                message = f"`{name}` can't be the name of a build's {kind[:-1]}."
                yield context.problem(where, message, {kind: {"NPM_TOKEN": "${secret.npm_token}"}})
            if placeholders.used(text) and _OF_DOCKER.fullmatch(name):
                message = f"`{name}` means something to Docker itself; give it another name."
                yield context.problem(where, message, {kind: {"NPM_TOKEN": "${secret.npm_token}"}})
            yield from _only_secrets(context, where, text)
            if kind == "secrets" and not placeholders.used(text):
                message = "The secret stands here in plain text. Move it into the vault."
                right = {name: f"${{secret.{name.lower()}}}"}
                yield context.problem(where, message, right)
            elif kind == "args" and name in build.secrets:
                message = f"`{name}` is among the build's secrets already."
                yield context.problem(where, message, {"args": {"BASE_IMAGE": "python:3.13-slim"}})
    yield from _only_secrets(context, (*place, "source", "git"), origin.source.git or "")


def _only_secrets(context: Context, where: Place, text: str) -> Iterator[Problem]:
    """Check that a text names no other placeholders than secrets."""
    for name in placeholders.used(text):
        if not re.fullmatch(r"secret\.[A-Za-z_][A-Za-z0-9_]*", name):
            message = (
                f"Unknown placeholder ${{{name}}}. Known is only `secret.NAME`; a plain `${{` is "
                "written as `$${`."
            )
            yield context.problem(where, message, {str(where[-1]): "${secret.git_token}"})


def _directories(context: Context, place: Place, app: App) -> Iterator[Problem]:
    """Check static, media and tmpfs: absolute, apart from each other, with good URLs."""
    contents = {kind: getattr(app, kind) for kind in ("static", "media") if getattr(app, kind)}
    for kind, content in contents.items():
        where = (*place, kind)
        path = PurePosixPath(content.path)
        if not path.is_absolute() or ".." in path.parts or path == PurePosixPath("/"):
            message = f"The path in the container is absolute and below /; {content.path!r} is not."
            yield context.problem(where, message, {kind: f"/app/{kind}"})
        url = content.url
        if url is None and kind == "static":
            message = "Static files need the URL under which nginx serves them."
            yield context.problem(where, message, {kind: f"/app/{kind}"})
        if url is not None and (
            not re.fullmatch(names.URL_PATH, url) or not url.endswith("/") or url == "/"
        ):
            message = (
                "The URL begins and ends with a slash, between them letters, digits and . _ ~ / -; "
                f"{url!r} does not."
            )
            example = {kind: {"path": content.path, "url": f"/{kind}/"}}
            yield context.problem(where, message, example)
    if app.static and app.media:
        yield from _overlap(context, place, app.static, app.media)
    yield from _static_service(context, place, app)
    for index, entry in enumerate(app.tmpfs):
        where = (*place, "tmpfs", index)
        directory, _, options = entry.partition(":")
        if not PurePosixPath(directory).is_absolute() or PurePosixPath(directory).name == "":
            message = f"The path in the container is absolute and below /; {directory!r} is not."
            yield context.problem(where, message, {"tmpfs": ["/app/.cache"]})
        for option in options.split(",") if options else []:
            if not _TMPFS_OPTION.fullmatch(option):
                message = (
                    f"{option!r} is no option of a directory in memory; these are `exec`, "
                    "`size=64m`, `mode=1777`, `uid=1000` and `gid=1000`, separated by commas."
                )
                yield context.problem(where, message, {"tmpfs": [f"{directory}:exec,size=64m"]})


def _static_service(context: Context, place: Place, app: App) -> Iterator[Problem]:
    """Check that a service whose image holds the static files has an image of its own."""
    service = app.static.service if app.static else None
    if service is None:
        return
    own = [name for name, values in app.services.items() if values.source is not None]
    if service not in own:
        message = (
            f"The service `{service}` has no `source` of its own; static files come from the app's "
            "image without `service`."
        )
        # With its other keys, which the short form doesn't have.
        example = {"path": "/app/static", "url": "/static/"}
        yield context.problem(
            (*place, "static", "service"),
            message,
            {"static": example | {"service": own[0]} if own else example},
        )
    elif "static" in app.commands.model_fields_set and app.commands.static:
        message = "`commands.static` doesn't run: the files come from the image of a service."
        yield context.problem((*place, "commands", "static"), message, {"commands": {"static": []}})


def _overlap(context: Context, place: Place, static: Content, media: Content) -> Iterator[Problem]:
    """Check that uploads never land among the static files, nor the other way round."""
    example = {"media": {"path": "/app/media", "url": "/media/"}}
    first, second = PurePosixPath(static.path), PurePosixPath(media.path)
    if first.is_relative_to(second) or second.is_relative_to(first):
        message = f"`static` and `media` overlap: {first} and {second}."
        yield context.problem((*place, "media"), message, example)
    if static.url is None or media.url is None:
        return
    if static.url.startswith(media.url) or media.url.startswith(static.url):
        message = f"`static` and `media` overlap: the URLs {static.url} and {media.url}."
        yield context.problem((*place, "media"), message, example)


def _files(context: Context, place: Place, app: App) -> Iterator[Problem]:
    """Check the further files: one origin, an absolute target of their own."""
    targets = {names.CA_IN_CONTAINER, names.CLIENT_IN_CONTAINER}
    for index, file in enumerate(app.files):
        where = (*place, "files", index)
        example = {"source": "files/features.json", "target": "/app/features.json"}
        target = PurePosixPath(file.target)
        if not target.is_absolute() or ".." in target.parts or not target.name:
            message = f"The path in the container is absolute, of a file; {file.target!r} is not."
            yield context.problem((*where, "target"), message, example)
        if file.target in targets:
            message = f"{file.target} is there already."
            yield context.problem((*where, "target"), message, example)
        targets.add(file.target)
        if (file.source is None) == (file.content is None):
            message = "A file has either a `source` or a `content`."
            yield context.problem(where, message, example)
        if file.source is not None and not context.path(file.source).is_file():
            message = f"There is no file {context.path(file.source)}."
            yield context.problem((*where, "source"), message, example)
        yield from _placeholders(context, (*where, "content"), app, file.content or "")


def _source_mount(context: Context, place: Place, app: App) -> Iterator[Problem]:
    """Check a checkout on the server: of its users, not the system's, over a directory."""
    if (mount := app.source_mount) is None:
        return
    where = (*place, "source_mount")
    example = {"source_mount": {"directory": f"/srv/source/{app.name}", "target": "/app"}}
    directory = PurePosixPath(mount.directory)
    of_users = any(directory.is_relative_to(parent) for parent in _SOURCES)
    if not of_users or len(directory.parts) <= _OUTERMOST or ".." in directory.parts:
        message = f"A checkout is below {', '.join(_SOURCES)}; {mount.directory!r} is not."
        yield context.problem((*where, "directory"), message, example)
    elif directory.is_relative_to(_SERVED):
        message = f"{_SERVED} holds what Bedstone serves and keeps."
        yield context.problem((*where, "directory"), message, example)
    target = PurePosixPath(mount.target)
    if not target.is_absolute() or ".." in target.parts or not target.name:
        message = f"The path in the container is absolute and below /; {mount.target!r} is not."
        yield context.problem((*where, "target"), message, example)


def _in_memory(context: Context, place: Place, app: App) -> Iterator[Problem]:
    """Check that no directory in memory lies over static files or uploads, or a part of them."""
    for index, entry in enumerate(app.tmpfs):
        directory = normpath(entry.partition(":")[0])
        for kind in ("static", "media"):
            content: Content | None = getattr(app, kind)
            # One above them is fine: Docker puts theirs on top of it.
            if content and PurePosixPath(directory).is_relative_to(normpath(content.path)):
                message = (
                    f"`tmpfs` and `{kind}` overlap: what the app writes to {directory} would be in"
                    " memory only, in no backup, and gone with the next release."
                )
                yield context.problem((*place, "tmpfs", index), message, {"tmpfs": ["/tmp"]})  # noqa: S108
