"""Replace `${database.host}` and its like in environment values and file contents."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# Ends the name of a secret's value before its last rotation.
PREVIOUS = ".previous"
_PLACEHOLDER = re.compile(r"\$\$\{|\$\{([^}]*)\}")


def used(text: str) -> list[str]:
    """Return the names of the placeholders in a text, in order."""
    return [match[1] for match in _PLACEHOLDER.finditer(text) if match[1] is not None]


def expand(text: str, values: Mapping[str, str]) -> str:
    """Replace the placeholders of a text; `$${` stands for a plain `${`.

    Raises:
        ValueError: a placeholder is not among the values.

    """

    def replace(match: re.Match[str]) -> str:
        if match[1] is None:
            return "${"
        if match[1] not in values:
            known = ", ".join(f"${{{name}}}" for name in values)
            raise ValueError(f"Unknown placeholder ${{{match[1]}}}; known are {known}.")
        return values[match[1]]

    return _PLACEHOLDER.sub(replace, text)
