"""Check what nginx is to do in front of the apps, as far as the schema can't."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bedstone_control.checks.apps import located
from bedstone_control.roles.app_config import service_routes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bedstone_control.checks.context import Context, Place
    from bedstone_control.checks.problems import Problem
    from bedstone_control.settings.app import App
    from bedstone_control.settings.root import Settings


def check(context: Context, settings: Settings) -> Iterator[Problem]:
    """Check the paths with rules of their own, private uploads and included files."""
    for place, app in located(context, settings):
        yield from _paths(context, place, app)
        if app.media and app.media.private and app.media.url is None:
            message = "Private uploads need the URL that the app names in X-Accel-Redirect."
            example = {"media": {"path": app.media.path, "url": "/media/", "private": True}}
            yield context.problem((*place, "media"), message, example)
        include = app.edge.include
        if include is not None and not context.path(include).is_file():
            message = f"There is no file {context.path(include)}."
            right = {"include": f"files/nginx-{app.name}.conf"}
            yield context.problem((*place, "edge", "include"), message, right)


def _paths(context: Context, place: Place, app: App) -> Iterator[Problem]:
    """Check that each path is there once and leads to a service."""
    routes = [_prefix(route) for route in service_routes(app).values()]
    taken: set[str] = set()
    for index, item in enumerate(app.edge.paths):
        where, path = (*place, "edge", "paths", index, "path"), _prefix(item.path)
        if path in taken:
            message = f"The path {item.path} is there twice."
            yield context.problem(where, message, {"path": f"{path}new/"})
        elif not any(path.startswith(route) for route in routes):
            message = (
                f"No service answers below {item.path}: the routes are "
                f"{', '.join(routes) or 'none'}."
            )
            yield context.problem(where, message, {"path": f"{(routes or ['/'])[0]}login/"})
        taken.add(path)


def _prefix(path: str) -> str:
    return path if path.endswith("/") else f"{path}/"
