"""Build the probe that reports an app's migrations from its image."""

from __future__ import annotations

import base64
import json
import pkgutil
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from bedstone.core.errors import ConfigError
from bedstone.migrations import commands

if TYPE_CHECKING:
    from bedstone.apps.config import App
    from bedstone.migrations.commands import Django

PATH = "/run/bedstone-probe.py"
VARIABLE = "BEDSTONE_PROBE"
# Docker takes no line of an environment file beyond 64 kB, which is a thousand migrations.
_PLAIN_CHARACTERS = 20_000
_PYTHON = re.compile(r"python(3(\.\d+)?)?")
_LEADS_TO_SETTINGS = ("--settings", "--pythonpath")
# An import of what is put in front of a script anyway.
_OURS = re.compile(r"^from bedstone\.[^\n(]*(?:\([^)]*\))?\n", re.MULTILINE)


@dataclass(frozen=True)
class Probe:
    """One command to run in the app's image, as its migrate commands are run.

    Attributes:
        command: what to run.
        script: the text to mount read-only at :data:`PATH`.
        variables: to add to the environment.

    """

    command: tuple[str, ...]
    script: str = field(repr=False)
    variables: Mapping[str, str]


def probe(app: App, *, keep: Sequence[str] | None = None) -> Probe | None:
    """Return the probe of an app.

    Args:
        app: the app as the release has it.
        keep: the migrations that an older release had applied; the report then says how
            to return to exactly these.

    Returns:
        None when the app has no migrations that could be asked for.

    Raises:
        ConfigError: the app says it uses a tool that isn't in its migrate commands.

    """
    declared = app.commands.migrate
    if app.migrations == "none" or not declared:
        return None
    question: dict[str, Any] = {"keep": None if keep is None else list(keep)}
    if app.migrations == "alembic":
        found = commands.alembic(declared)
        if found is None:
            raise _not_found(app, "alembic upgrade head", "alembic upgrade head")
        question |= {
            "program": found.program,
            "options": found.options,
            "target": found.target,
            "module": found.module,
        }
        return _probe((*found.python, PATH), "alembic_probe", question)
    ours = commands.django(declared)
    if not ours:
        raise _not_found(app, "manage.py migrate", "python manage.py migrate --noinput")
    return _probe(_shell(ours[0]), "django_probe", question | _forwards(ours))


def probe_after_check(app: App) -> Probe | None:
    """Return the probe that runs the app's check first, in the same start of Django.

    That takes `python manage.py check` as the only check and `python manage.py migrate` of the same
    program; whatever else an app declares runs as it is, in a start of its own.

    Args:
        app: the app as the release has it.

    Returns:
        None when the two need a start each.

    """
    ours = commands.django(app.commands.migrate)
    program = _one_program(app, {"check": app.commands.check, "migrate": app.commands.migrate[:1]})
    if program is None or not ours or (ours[0].program, ours[0].options) != (program, ()):
        return None
    question = {"keep": None, "commands": [app.commands.check[0][1:]], **_forwards(ours)}
    return _probe((program[0], PATH), "django_probe", question, first="manage_commands")


def migrate_and_collect(app: App) -> Probe | None:
    """Return what runs `manage.py migrate` and `manage.py collectstatic` in one start of Django.

    Args:
        app: the app as the release has it.

    Returns:
        None when the two need a start each.

    """
    declared = {"migrate": app.commands.migrate, "collectstatic": app.commands.static}
    program = _one_program(app, declared)
    if program is None:
        return None
    question = {"commands": [command[0][1:] for command in declared.values()]}
    return _probe((program[0], PATH), "manage_commands", question)


def _one_program(
    app: App, declared: Mapping[str, Sequence[tuple[str, ...]]]
) -> tuple[str, ...] | None:
    """Return the `python manage.py` that all of an app's commands are, each with its own verb."""
    programs = set()
    for verb, found in declared.items():
        match found:
            case ((python, manage, said, *options),) if (
                said == verb
                and _PYTHON.fullmatch(PurePosixPath(python).name)
                and PurePosixPath(manage).name == "manage.py"
                and not any(each.startswith(_LEADS_TO_SETTINGS) for each in options)
            ):
                programs.add((python, manage))
            case _:
                return None
    return programs.pop() if app.migrations == "django" and len(programs) == 1 else None


def _forwards(ours: Sequence[Django]) -> dict[str, Any]:
    """Return what the probe of Django is asked about the declared migrate commands."""
    return {
        "program": ours[0].program,
        "options": ours[0].options,
        "targets": None
        if any(each.label is None for each in ours)
        else [[each.label, each.target] for each in ours],
    }


def squash_driver(django: Django, question: Mapping[str, Any], path: str) -> Probe:
    """Return the command that migrates an empty database, as :mod:`.squash` asks it to.

    Args:
        django: the app's migrate command.
        question: the database, and which migrations are used.
        path: where the script will be.

    """
    return _probe(_shell(django, path), "squash_driver", question)


def script(*names: str) -> str:
    """Return the text of scripts that run in an image one after the other, in one process.

    What they share is put in front.
    """
    own = [_without_future(_OURS.sub("", _SOURCES[name])) for name in names]
    return "\n\n".join((_SOURCES["common"], *own))


def _shell(django: Django, path: str = PATH) -> tuple[str, ...]:
    run = f"import runpy; runpy.run_path({path!r}, run_name='__main__')"
    return (*django.program, "shell", *django.options, "-c", run)


def _probe(
    command: tuple[str, ...], name: str, question: Mapping[str, Any], *, first: str | None = None
) -> Probe:
    text = json.dumps(question, separators=(",", ":"))
    if len(text) > _PLAIN_CHARACTERS:
        text = "zlib:" + base64.b64encode(zlib.compress(text.encode())).decode()
    return Probe(command, script(*filter(None, (first, name))), {VARIABLE: text})


def _read(name: str) -> str:
    # Works in the zipapp as well, where no file lies anywhere.
    data = pkgutil.get_data("bedstone.migrations.in_image", f"{name}.py")
    if data is None:
        raise FileNotFoundError(name)
    return data.decode()


# At once, not when it is needed: by then another zipapp may lie where this one was.
_SOURCES: Mapping[str, str] = {
    name: _read(name)
    for name in ("common", "manage_commands", "django_probe", "alembic_probe", "squash_driver")
}


def _without_future(text: str) -> str:
    # Python requires it first in a file; the shared part has it there.
    return text.replace("from __future__ import annotations\n", "")


def _not_found(app: App, wanted: str, example: str) -> ConfigError:
    return ConfigError(
        f"The app {app.name} says its migrations are {app.migrations}'s, but `{wanted}` isn't"
        " one of its migrate commands.",
        hint=f"Declare it as a command of its own, `migrate: [{example}]`, without a shell"
        " around it, or say `migrations: none` to release without looking at migrations.",
    )
