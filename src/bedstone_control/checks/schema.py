"""Check the settings against their schema: unknown keys, wrong types, missing values.

What is wrong in one place shall not hide what is wrong in another, so the wrong parts are
reported and replaced by the schema's examples, and the whole is read for the further checks.
"""

from __future__ import annotations

import copy
import types
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from bedstone_control.checks.context import as_yaml, did_you_mean, nearest
from bedstone_control.settings import renamed, root
from bedstone_control.settings.app import App
from bedstone_control.settings.root import Settings

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from bedstone_control.checks.context import Context, Place
    from bedstone_control.checks.problems import Problem

_TYPES = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping of names to values",
    "model_type": "a mapping of names to values",
    "model_attributes_type": "a mapping of names to values",
}
_KINDS = {str: "a text", bool: "true or false", int: "a number", float: "a number"}
_KINDS |= {list: "a list", dict: "a mapping", type(None): "empty"}
_MOST_REPAIRS = 100


def check(context: Context) -> tuple[list[Problem], Settings]:
    """Check the settings against the schema.

    Returns:
        The problems, and the settings with examples for what is wrong. Apps without a usable name
        are missing in them.

    """
    given = {
        name: value
        for name, value in root.from_variables(dict(context.variables)).items()
        if value is not None
    }
    problems = []
    try:
        return [], Settings.model_validate(given)
    except ValidationError as error:
        problems = [_problem(context, item) for item in error.errors(include_url=False)]
    return problems, _salvage(given)


def _problem(context: Context, error: ErrorDetails) -> Problem:
    """Make a problem of one of pydantic's errors."""
    location = tuple(part for part in error["loc"] if part != "[key]")
    place: Place = (f"bedstone_{location[0]}", *location[1:])
    kind = error["type"]
    name = str(location[-1])
    model = _model_at(location[:-1])
    if kind == "extra_forbidden":
        known = list(model.model_fields) if model else []
        new = renamed.RENAMED_KEYS.get((model.__name__, name)) if model else None
        if new is not None:
            return context.problem(place, f"`{name}` is called `{new}` now.", _example(model, new))
        match = nearest(name, known)
        example = _example(model, match or (known[0] if known else name))
        return context.problem(place, f"Unknown key `{name}`. {did_you_mean(name, known)}", example)
    example = _example(model, name) if model else _example_of_item(location)
    if kind == "missing":
        what = "The setting" if len(location) == 1 else "The key"
        return context.problem(place, f"{what} is missing.", example)
    return context.problem(place, _message(error, name), example)


def _message(error: ErrorDetails, name: str) -> str:
    """Return what is wrong with a value."""
    kind, given = error["type"], error["input"]
    if kind in _TYPES:
        return f"This must be {_TYPES[kind]}, and is {_KINDS.get(type(given), 'something else')}."
    if kind == "literal_error":
        return f"{given!r} is none of {error['ctx']['expected'].replace(' or ', ', ')}."
    if kind == "string_pattern_mismatch":
        rule = "must be lower-case letters, digits and dashes, a letter first, no dash last"
        if name == "name":
            return f"The name {given!r} can't be used: it {rule}, and be short."
        return f"{given!r} does not have the right form."
    if kind in {"too_short", "list_too_short"}:
        return "At least one entry is needed here."
    said = error["msg"]
    return (
        f"This {error['ctx']['error']}."
        if kind == "value_error"
        else f"{given!r} is out of range: {said[0].lower()}{said[1:]}."
    )


def _model_at(location: tuple[str | int, ...]) -> type[BaseModel] | None:
    """Return the model of the schema at a location."""
    current: Any = Settings
    for part in location:
        if isinstance(current, type) and issubclass(current, BaseModel):
            if part not in current.model_fields:
                return None
            current = _bare(current.model_fields[str(part)].annotation)
        else:
            arguments = get_args(current)
            current = _bare(arguments[-1]) if arguments else None
    return current if isinstance(current, type) and issubclass(current, BaseModel) else None


def _bare(annotation: Any) -> Any:
    """Return a type without `| None` and annotations."""
    while True:
        if hasattr(annotation, "__metadata__"):
            annotation = annotation.__origin__
        elif get_origin(annotation) in {Union, types.UnionType}:
            annotation = next(item for item in get_args(annotation) if item is not type(None))
        else:
            return annotation


def _example(model: type[BaseModel] | None, name: str) -> str:
    """Return a right line for a key."""
    if model is None or name not in model.model_fields:
        return name
    field = model.model_fields[name]
    key = f"bedstone_{name}" if model is Settings else name
    return as_yaml({key: (field.examples or [field.default])[0]})


def _example_of_item(location: tuple[str | int, ...]) -> str:
    """Return a right line for an entry of a list or a mapping: that of the whole."""
    for end in range(len(location) - 1, 0, -1):
        model = _model_at(location[: end - 1])
        if model and location[end - 1] in model.model_fields:
            return _example(model, str(location[end - 1]))
    return ""


def _salvage(given: dict[str, Any]) -> Settings:
    """Return the settings with right values in place of the wrong ones."""
    rest = copy.deepcopy(given)
    items = rest.pop("apps", None)
    apps = [app for item in (items if isinstance(items, list) else []) if (app := _repaired(item))]
    for name in list(rest):
        try:
            Settings.model_validate({"apps": [_ANY_APP], name: rest[name]})
        except ValidationError:
            del rest[name]
    return Settings.model_validate({"apps": [_ANY_APP], **rest}).model_copy(update={"apps": apps})


_ANY_APP = {"name": "a", "source": {"image": "a:1"}, "services": {"a": {"command": "a"}}}


def _repaired(given: Any) -> App | None:
    """Return an app with the schema's examples for what is wrong; None when it has no name."""
    app = copy.deepcopy(given)
    for _ in range(_MOST_REPAIRS):
        try:
            return App.model_validate(app)
        except ValidationError as error:
            if not _repair(app, error.errors(include_url=False)[0]):
                return None
    return None


def _repair(app: Any, error: ErrorDetails) -> bool:
    """Correct one value; return whether that was possible."""
    location = tuple(part for part in error["loc"] if part != "[key]")
    if not location or location == ("name",):
        return False
    # A short form, such as a path in place of path and url, lacks the inner locations: then the
    # whole of it is replaced.
    for end in range(len(location), 0, -1):
        parent = _at(app, location[: end - 1])
        last = location[end - 1]
        if isinstance(parent, list) and isinstance(last, int):
            del parent[last]
            return True
        if isinstance(parent, dict) and (last in parent or error["type"] == "missing"):
            model = _model_at(("apps", 0, *location[: end - 1]))
            field = model.model_fields.get(str(last)) if model else None
            if field is None or not field.examples:
                parent.pop(last, None)
            else:
                parent[last] = copy.deepcopy(field.examples[0])
            return True
    return False


def _at(value: Any, location: tuple[str | int, ...]) -> Any:
    for part in location:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return None
    return value
