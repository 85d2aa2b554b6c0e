"""Find values that YAML changes: text was expected, and a number, a time or a boolean arrives.

`1.10` is the number 1.1, `0755` is 493, `12:30` is 750 and `no` is false (YAML 1.1,
https://yaml.org/type/). A number is taken only where it reads as it was written.
"""

from __future__ import annotations

import datetime as dt
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin

from pydantic import BaseModel

from bedstone_control.ansible_support.plain import plain
from bedstone_control.checks.context import as_yaml
from bedstone_control.roles import environment
from bedstone_control.roles.registry import ROLES
from bedstone_control.settings.root import Settings

if TYPE_CHECKING:
    from bedstone_control.checks.context import Context, Place
    from bedstone_control.checks.problems import Problem

_CHANGED = (bool, int, float, dt.date, dt.time)


def check(context: Context) -> list[Problem]:
    """Check every place of the settings where a text is meant."""
    problems = []
    for name, field in Settings.model_fields.items():
        value = context.loaded.get(f"bedstone_{name}")
        if value is not None:
            problems += list(_below(context, (f"bedstone_{name}",), field.annotation, value))
    return problems


def _below(
    context: Context, place: Place, kind: Any, value: Any, own: Any = None
) -> Iterator[Problem]:
    """Go through a value along its type; ``own`` is its key, as it was loaded."""
    kinds = _alternatives(kind)
    if isinstance(value, Mapping):
        for key, item in value.items():
            for inner in kinds:
                member = _member(inner, str(key))
                yield from _below(context, (*place, str(key)), member, item, key)
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        items = [get_args(inner)[0] for inner in kinds if get_origin(inner) is list]
        for index, item in enumerate(value):
            for inner in items:
                yield from _below(context, (*place, index), inner, item)
    elif kinds and all(inner is str for inner in kinds):
        problem = _scalar(context, place, value, own)
        if problem is not None:
            yield problem


def _member(kind: Any, key: str) -> Any:
    """Return the type of what a mapping of a type holds under a key; None's when it has no such."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        field = kind.model_fields.get(key)
        return type(None) if field is None else field.annotation
    return get_args(kind)[1] if get_origin(kind) is dict else type(None)


def _alternatives(kind: Any) -> list[Any]:
    """Return the types that a type stands for, without `| None` and annotations."""
    if hasattr(kind, "__metadata__"):
        return _alternatives(kind.__origin__)
    if get_origin(kind) in {Union, types.UnionType}:
        return [found for part in get_args(kind) for found in _alternatives(part)]
    return [] if kind is type(None) else [kind]


def _scalar(context: Context, place: Place, value: Any, own: Any) -> Problem | None:
    """Return a problem where a text is meant and something else would arrive."""
    bare = plain(value)
    if bare is None:
        return _null(context, place)
    if not isinstance(bare, _CHANGED):
        return None
    written = context.written_of(value, own)
    if isinstance(bare, bool):
        right = written or str(bare).lower()
        found = f"YAML reads {written or 'this'} as {str(bare).lower()}"
        message = f"{found}, and a text is meant; put it in quotes."
    elif isinstance(bare, int | float) and written == str(bare):
        return None
    elif isinstance(bare, dt.date | dt.time):
        right = written or str(bare)
        message = "YAML reads this as a date, and a text is meant; put it in quotes."
    elif written is None:
        right = str(bare)
        message = (
            f"YAML makes {bare} of this, and how it was written is lost on the way; put it in "
            "quotes."
        )
    else:
        right = written
        message = f"YAML makes {bare} of {written}, and a text is meant; put it in quotes."
    last = place[-1]
    example = {last: right} if isinstance(last, str) else [right]
    return context.problem(place, message, _quoted(example))


def _null(context: Context, place: Place) -> Problem | None:
    """Return a problem for a variable without a value that has no default to take away."""
    match place:
        case ("bedstone_apps", _, "env", name):
            others: Any = {}
        case ("bedstone_apps", int(index), "services", _, "env", name):
            # A service may do without a variable of its app.
            others = context.loaded["bedstone_apps"][index].get("env") or {}
        case _:
            return None
    if name in environment.default_variables(ROLES) or name in others:
        return None
    message = (
        "There is no value. `null` takes a default variable away, and this is none of them; an "
        "empty text is written as quotes."
    )
    return context.problem(place, message, _quoted({name: ""}))


def _quoted(example: Any) -> str:
    """Return a value as YAML whose texts stand in double quotes."""
    if isinstance(example, list):
        return f'["{example[0]}"]'
    ((name, text),) = example.items()
    return f'{as_yaml(name)}: "{text}"'
