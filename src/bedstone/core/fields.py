"""Read values out of a parsed JSON file; every error names the file and the place in it."""

from __future__ import annotations

import re
from typing import Any

from bedstone.core.errors import ConfigError

# Of an app, a service, a job: part of names of images, networks, units and containers, and Docker
# takes no repository that ends in a dash.
NAME = re.compile(r"^[a-z](?:[a-z0-9-]{0,29}[a-z0-9])?$")


class Fields:
    """The values of one file that Ansible writes, checked on the way."""

    def __init__(self, source: str) -> None:
        """Take the file's name, for the complaints."""
        self.source = source

    def fail(self, where: str, problem: str) -> ConfigError:
        """Return the complaint about a place in the file."""
        return ConfigError(
            f"{self.source}: {where} {problem}",
            hint="Ansible writes this file: run `ansible-playbook playbooks/site.yml` again.",
        )

    def name(self, value: Any, where: str) -> str:
        """Return a name of an app, a service or a job."""
        if not isinstance(value, str) or not NAME.fullmatch(value):
            raise self.fail(
                where,
                f"holds {value!r}; a name begins with a letter, holds up to 31 small letters,"
                " digits and dashes, and does not end with a dash.",
            )
        return value

    def url_path(self, value: Any, where: str) -> str | None:
        """Return a path of URLs, or None."""
        if value is None:
            return None
        if not isinstance(value, str) or not value.startswith("/"):
            raise self.fail(where, f"is {value!r}; a path begins with a slash.")
        return value

    def string(self, value: Any, where: str) -> str:
        """Return a text that isn't empty."""
        if not isinstance(value, str) or not value:
            raise self.fail(where, f"is {value!r}; a text is needed.")
        return value

    def optional_string(self, value: Any, where: str) -> str | None:
        """Return a text that isn't empty, or None."""
        return None if value is None else self.string(value, where)

    def boolean(self, value: Any, where: str) -> bool:
        """Return true or false."""
        if not isinstance(value, bool):
            raise self.fail(where, f"is {value!r}; it is true or false.")
        return value

    def integer(self, value: Any, where: str, least: int, most: int) -> int:
        """Return a whole number within limits."""
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.fail(
                where, f"is {value!r}; a whole number from {least} to {most} is needed."
            )
        return value

    def number(self, value: Any, where: str) -> float:
        """Return a number above 0."""
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise self.fail(where, f"is {value!r}; a number above 0 is needed.")
        return float(value)

    def items(self, value: Any, where: str) -> list[Any]:
        """Return a list."""
        if not isinstance(value, list):
            raise self.fail(where, f"is {value!r}; a list is needed.")
        return value

    def mapping(self, value: Any, where: str) -> dict[str, Any]:
        """Return an object."""
        if not isinstance(value, dict):
            raise self.fail(where, f"is {value!r}; an object is needed.")
        return value

    def strings(self, value: Any, where: str) -> tuple[str, ...]:
        """Return a list of texts."""
        return tuple(self.string(item, where) for item in self.items(value, where))

    def command(self, value: Any, where: str) -> tuple[str, ...]:
        """Return a program and its arguments, of which any may be empty but the program."""
        parts = tuple(self.text(item, where) for item in self.items(value, where))
        if parts:
            self.string(parts[0], where)
        return parts

    def string_mapping(self, value: Any, where: str) -> dict[str, str]:
        """Return an object of texts, which may be empty."""
        return {
            key: self.text(item, f"{where}.{key}")
            for key, item in self.mapping(value, where).items()
        }

    def text(self, value: Any, where: str) -> str:
        """Return a text, which may be empty."""
        if not isinstance(value, str):
            raise self.fail(where, f"is {value!r}; a text is needed.")
        return value

    def choice(self, value: Any, where: str, choices: tuple[str, ...]) -> str:
        """Return one of a few texts."""
        if value not in choices:
            raise self.fail(where, f"is {value!r}; it is one of {', '.join(choices)}.")
        return str(value)
