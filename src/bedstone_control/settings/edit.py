"""Change one line of a settings file and keep every other character of it."""

from __future__ import annotations

import copy
import os
import tempfile
from pathlib import Path
from typing import Any

import yaml


class SettingsLoader(yaml.SafeLoader):
    """Reads Ansible's own tags (`!vault`, `!unsafe`) as plain texts."""


SettingsLoader.add_multi_constructor("!", lambda loader, _tag, node: loader.construct_scalar(node))


def set_in(path: Path, variable: str, key: str, value: str) -> bool:
    """Set one key of a variable that is a mapping, in place.

    Args:
        path: the YAML file.
        variable: the variable, such as `bedstone_backup`; one that the file lacks is appended.
        key: the key in it.
        value: a text that YAML needs no quotes for.

    Returns:
        Whether it was done. The file is as it was when its form is none that can be changed
        without touching the rest.

    """
    with path.open(encoding="utf-8", newline="") as stream:
        before = stream.read()
    try:
        after = changed(before, variable, key, value)
    except yaml.YAMLError:
        return False
    if after is None:
        return False
    if after != before:
        _replace(path, after)
    return True


def changed(text: str, variable: str, key: str, value: str) -> str | None:
    """Return a file's text with one key of a variable set, None when it can't be done safely.

    Raises:
        yaml.YAMLError: it is no YAML.

    """
    wanted = copy.deepcopy(_content(text))
    if not isinstance(wanted, dict):
        return None
    inner = wanted.setdefault(variable, {})
    if not isinstance(inner, dict):
        return None
    inner[key] = value
    result = _edited(text, variable, key, value)
    # The proof: read again, the file says what it said before, and this.
    return result if result is not None and _content(result) == wanted else None


def _content(text: str) -> Any:
    return yaml.load(text, Loader=SettingsLoader)  # noqa: S506 - a SafeLoader


def _edited(text: str, variable: str, key: str, value: str) -> str | None:
    """Return the text with the change where YAML's own parser says the place is."""
    end_of_line = "\r\n" if "\r\n" in text else "\n"
    document = yaml.compose(text, Loader=SettingsLoader)
    node = _value(document, variable)
    if node is None:
        gap = "" if text.endswith("\n") else end_of_line
        return f"{text}{gap}{variable}: {{{key}: {value}}}{end_of_line}"
    if not isinstance(node, yaml.MappingNode):
        return None
    present = _value(node, key)
    if present is not None:
        if not isinstance(present, yaml.ScalarNode):
            return None
        return text[: present.start_mark.index] + value + text[present.end_mark.index :]
    if node.flow_style:
        start = node.start_mark.index + 1
        return f"{text[:start]}{key}: {value}{', ' if node.value else ''}{text[start:]}"
    # Before the first key: what comes after the last one may be a comment on another part.
    start, indent = node.start_mark.index, " " * node.start_mark.column
    return f"{text[:start]}{key}: {value}{end_of_line}{indent}{text[start:]}"


def _value(node: yaml.Node | None, key: str) -> yaml.Node | None:
    """Return the value of a key in a mapping, None when there is none."""
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for name, value in node.value if name.value == key), None)


def _replace(path: Path, text: str) -> None:
    """Write a file in one step, with the rights it has; a link stays one."""
    target = path.resolve()
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as stream:
            stream.write(text)
        Path(temporary).chmod(target.stat().st_mode & 0o7777)
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
