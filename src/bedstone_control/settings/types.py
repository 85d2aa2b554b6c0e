"""Define the types of the settings' schema, and the short forms that operators may write."""

from __future__ import annotations

import shlex
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


class Model(BaseModel):
    """A part of the settings: unknown keys and wrong types are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True)


def _command(value: object) -> object:
    """Accept a command as one line of text, split like a shell would."""
    if isinstance(value, str):
        try:
            return shlex.split(value)
        except ValueError as error:
            raise ValueError(f"can't be read as a command: {error}") from error
    return value


def _commands(value: object) -> object:
    """Accept one command where a list of commands is meant."""
    return [value] if isinstance(value, str) else value


def path_and_url(url: str) -> BeforeValidator:
    """Accept the bare path in the container where path and URL are meant."""
    return BeforeValidator(
        lambda value: {"path": value, "url": url} if isinstance(value, str) else value
    )


def database_or_none(value: object) -> object:
    """Accept yes and no for a database with the usual name, or none."""
    if value is True:
        return {}
    if value is False:
        return None
    return value


def all_commands(value: object) -> object:
    """Accept an empty list for an app with no commands at all."""
    if isinstance(value, list) and not value:
        return {"check": [], "migrate": [], "static": [], "console": []}
    return value


def _text(value: object) -> object:
    """Accept a number where a text is meant.

    YAML has changed some of them by now (1.10 is 1.1): the preflight, which knows what was
    written, refuses those (checks/written.py).
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return value


def _argument(value: str) -> str:
    if "\0" in value:
        raise ValueError("holds a NUL character, which ends an argument")
    return value


def _program(command: list[str]) -> list[str]:
    if command and not command[0]:
        raise ValueError("begins with an empty text where the program is named")
    return command


Text = Annotated[str, BeforeValidator(_text)]
Command = Annotated[
    list[Annotated[Text, AfterValidator(_argument)]],
    BeforeValidator(_command),
    AfterValidator(_program),
]
Commands = Annotated[list[Annotated[Command, Field(min_length=1)]], BeforeValidator(_commands)]
