r"""Read and write environment files: one ``NAME=value`` a line.

A value with a line break, or one that begins with a double quote, is written as a JSON string
(``KEY="line\nline"``), so that certificates and keys fit in. All other values stand as they are, so
that operators and systemd can read them.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from bedstone.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")

# Of an app and of its migrations; they are kept with each release.
APP, MIGRATE = "app.env", "migrate.env"
_OF_SERVICES = "service-"


def service_file(service: str) -> str:
    """Return the file of a service that has variables of its own: all that it gets."""
    return f"{_OF_SERVICES}{service}.env"


def load_all(directory: Path) -> dict[str, dict[str, str]]:
    """Return the environments in a directory, by file: the app's, migrations', of services.

    Raises:
        ConfigError: one of the first two isn't there, or a line is wrong.

    """
    services = sorted(path.name for path in directory.glob(f"{_OF_SERVICES}*.env"))
    return {name: load(directory / name) for name in (APP, MIGRATE, *services)}


def dumps(environment: Mapping[str, str]) -> str:
    """Return the text of an environment file, sorted by name.

    Raises:
        ValueError: a name that can't be a variable's, or a value with a NUL.

    """
    lines = []
    for name, value in sorted(environment.items()):
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} can't be the name of an environment variable.")
        if "\0" in value:
            raise ValueError(f"The value of {name} holds a NUL byte, which no program can get.")
        quoted = value.startswith('"') or len(value.splitlines()) > 1 or value.endswith("\n")
        lines.append(f"{name}={json.dumps(value) if quoted else value}\n")
    return "".join(lines)


def loads(text: str, source: str = "environment file") -> dict[str, str]:
    """Return the variables in the text of an environment file.

    Raises:
        ConfigError: a line that is neither empty, a comment nor ``NAME=value``;
            the message names ``source`` and the line's number, never its value.

    """
    environment: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not _NAME.fullmatch(name):
            raise ConfigError(f"{source}, line {number}: not of the form NAME=value.")
        if value.startswith('"'):
            try:
                value = str(json.loads(value))
            except ValueError as error:
                raise ConfigError(
                    f"{source}, line {number}: the value of {name} begins with a double quote"
                    " but isn't a JSON string."
                ) from error
        environment[name] = value
    return environment


def load(path: Path) -> dict[str, str]:
    """Return the variables in an environment file.

    Raises:
        ConfigError: the file isn't there, or a line of it is wrong.

    """
    try:
        return loads(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise ConfigError(f"{path} (environment) can't be read: {error.strerror}.") from error
