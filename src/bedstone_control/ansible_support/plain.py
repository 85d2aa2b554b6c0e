"""Convert Ansible's tagged, lazy values to plain Python ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def plain(value: Any) -> Any:
    """Return a value with builtin types only, containers included.

    Ansible hands over subclasses of str, int, float, dict and list that carry the value's origin
    and template lazily, and an own type for texts encrypted with `!vault`.
    """
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if type(value).__name__ == "EncryptedString":
        value = str(value)
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(item) for item in value]
    for builtin, convert in ((str, str.__str__), (bool, bool), (int, int), (float, float)):
        if isinstance(value, builtin):
            return convert(value)
    return value
