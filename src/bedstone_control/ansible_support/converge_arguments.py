"""Check the arguments of the `converge` action before any file is rendered or sent."""

from __future__ import annotations

import difflib
import posixpath
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

OWNERSHIP = {"owner": "str", "group": "str", "mode": "mode"}
FLAGS = {"sensitive": "bool", "create_only": "bool"}
# What each list holds: the key's name and kind; a required key's kind ends in "!".
ENTRIES: dict[str, dict[str, str]] = {
    "attributes": {"match": "pattern!", **OWNERSHIP, **FLAGS},
    "files": {
        "path": "path!",
        "template": "str",
        "variables": "dict",
        "content": "text",
        "source": "str",
        **OWNERSHIP,
        **FLAGS,
    },
    "directories": {"path": "path!", **OWNERSHIP},
    "links": {"path": "path!", "target": "str!"},
    "validate": {"command": "words!"},
    "commands": {"command": "words!", "when_changed": "patterns", "creates": "path"},
    "units": {
        "name": "unit!",
        "enabled": "bool",
        "state": "state",
        "masked": "bool",
        "reload_on": "patterns",
        "restart_on": "patterns",
    },
}
SCALARS = {
    "name": "manifest",
    "tree": "str",
    "packages": "strings",
    "absent": "paths",
    "keep": "patterns",
}
UNIT_ENDINGS = (".service", ".timer", ".socket", ".path", ".mount", ".target", ".slice")
EXAMPLES = {
    "str": "text",
    "text": "text",
    "path": "an absolute path like /etc/nginx/nginx.conf",
    "pattern": "an absolute pattern like /etc/nginx/**",
    "patterns": 'a list of absolute patterns like ["/etc/nginx/**"]',
    "paths": "a list of absolute paths like [/etc/nginx/sites-enabled/default]",
    "strings": "a list of names like [nginx, openssl]",
    "words": "a list of words like [nginx, -t, -q]",
    "mode": 'octal digits in quotes like "0640"',
    "bool": "true or false",
    "dict": "a dictionary like {port: 8000}",
    "state": "started or stopped",
    "unit": "a unit's full name like nginx.service",
    "manifest": "small letters, digits, dots and dashes, like nginx-sites",
}


def check(arguments: dict[str, Any]) -> dict[str, Any]:
    """Check the arguments of a converge task.

    Args:
        arguments: as written in the task, with their expressions evaluated.

    Returns:
        The same, with empty lists for what is left out and without keys that hold null.

    Raises:
        ValueError: what is wrong, where, and an example of a right value; all problems at once.

    """
    problems: list[str] = []
    known = [*SCALARS, *ENTRIES]
    checked: dict[str, Any] = {key: [] for key in ("packages", "absent", "keep", *ENTRIES)}
    for key, value in arguments.items():
        if key not in known:
            problems.append(unknown(key, known, "converge"))
        elif value is None:
            continue
        elif key in SCALARS:
            _check_value(value, SCALARS[key], key, problems)
            checked[key] = value
        elif not isinstance(value, list):
            problems.append(f"{key} is a list, not {_kind(value)}.")
        else:
            checked[key] = [
                _check_entry(entry, ENTRIES[key], f"{key}[{number}]", problems)
                for number, entry in enumerate(value)
            ]
    if not problems:
        _check_together(checked, problems)
    if problems:
        raise ValueError("\n".join(problems))
    return checked


def unknown(key: str, known: list[str], where: str) -> str:
    """Return that a key isn't known, with the nearest one that is."""
    near = difflib.get_close_matches(str(key), known, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"Known are {', '.join(known)}."
    return f"{where} does not know {key!r}. {hint}"


def _check_entry(
    entry: Any, known: dict[str, str], where: str, problems: list[str]
) -> dict[str, Any]:
    if not isinstance(entry, dict):
        problems.append(f"{where} is a dictionary with {', '.join(known)}, not {_kind(entry)}.")
        return {}
    label = entry.get("path") or entry.get("name") or entry.get("match")
    where = f"{where} ({label})" if isinstance(label, str) else where
    checked = {key: value for key, value in entry.items() if value is not None}
    for key, value in checked.items():
        if key not in known:
            problems.append(unknown(key, list(known), where))
        else:
            _check_value(value, known[key].rstrip("!"), f"{where} {key}", problems)
    problems.extend(
        f"{where} needs {key}: {EXAMPLES[kind.rstrip('!')]}."
        for key, kind in known.items()
        if kind.endswith("!") and key not in checked
    )
    return checked


def _check_value(value: Any, kind: str, where: str, problems: list[str]) -> None:
    if kind in {"patterns", "paths", "strings", "words"}:
        single = {"patterns": "pattern", "paths": "path"}.get(kind, "str")
        if not isinstance(value, list) or (kind == "words" and not value):
            problems.append(f"{where} is {EXAMPLES[kind]}, not {_kind(value)}.")
            return
        for number, item in enumerate(value):
            _check_value(item, single, f"{where}[{number}]", problems)
    elif not _fits(value, kind):
        shown = f"{value!r}" if kind not in {"text", "dict"} else _kind(value)
        problems.append(f"{where} is {EXAMPLES[kind]}, not {shown}.")


def _fits(value: Any, kind: str) -> bool:
    if kind == "bool":
        return isinstance(value, bool)
    if kind == "dict":
        return isinstance(value, dict)
    if not isinstance(value, str):
        return False
    rules: dict[str, Callable[[str], bool]] = {
        "path": lambda text: text not in {"/", "//"} and _is_normal(text),
        "pattern": lambda text: text.startswith("/"),
        "mode": lambda text: re.fullmatch(r"0?[0-7]{3,4}", text) is not None,
        "state": lambda text: text in {"started", "stopped"},
        "unit": lambda text: text.endswith(UNIT_ENDINGS) and not re.search(r"[\s/]", text),
        "manifest": lambda text: re.fullmatch(r"[a-z0-9][a-z0-9._-]*", text) is not None,
        "text": lambda _: True,
    }
    return rules.get(kind, bool)(value)


def _is_normal(path: str) -> bool:
    return path.startswith("/") and posixpath.normpath(path) == path and path[:2] != "//"


def _check_together(checked: dict[str, Any], problems: list[str]) -> None:
    for number, entry in enumerate(checked["files"]):
        given = [key for key in ("template", "content", "source") if key in entry]
        if len(given) != 1:
            problems.append(
                f"files[{number}] ({entry['path']}) needs exactly one of template, content and "
                f"source, and has {' and '.join(given) or 'none'}."
            )
        if "variables" in entry and "template" not in entry:
            problems.append(f"files[{number}] ({entry['path']}) has variables but no template.")
    if checked["attributes"] and "tree" not in checked:
        problems.append("attributes are for the files of a tree, and there is no tree.")
    problems.extend(
        f"commands[{number}] never runs: it needs when_changed (patterns of paths) or creates."
        for number, entry in enumerate(checked["commands"])
        if not entry.get("when_changed") and "creates" not in entry
    )


def check_paths(declared: list[str], absent: list[str]) -> None:
    """Refuse a path that is declared twice, or declared and absent.

    Raises:
        ValueError: which one.

    """
    twice = sorted({path for path in declared if declared.count(path) > 1})
    if twice:
        raise ValueError(f"Declared twice: {', '.join(twice)}. Each path belongs in one place.")
    both = sorted(set(declared) & set(absent))
    if both:
        raise ValueError(f"Declared and absent at once: {', '.join(both)}.")


def _kind(value: Any) -> str:
    names = {str: "text", int: "a number", bool: "true or false", dict: "a dictionary"}
    names |= {list: "a list", type(None): "null", float: "a number"}
    for kind, name in names.items():
        if type(value) is kind:
            return name
    return "text" if isinstance(value, str) else type(value).__name__
