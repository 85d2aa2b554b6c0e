"""Find where Ansible loaded a value from, and how it was written there."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

_Place = tuple[int, int]  # line and column, from 1


def origin_of(value: Any) -> tuple[str, int | None] | None:
    """Return the file and line a value was loaded from, None when Ansible does not say."""
    try:
        from ansible._internal._datatag._tags import Origin  # noqa: PLC0415 - internal: may go
    except ImportError:
        return None
    origin = Origin.get_tag(value)
    if origin is None or not origin.path:
        return None
    return str(origin.path), origin.line_num


def is_template(value: Any) -> bool:
    """Return whether Ansible evaluates a text; one written as `!unsafe` it takes as it is."""
    try:
        from ansible._internal._datatag._tags import (  # noqa: PLC0415 - internal: may go
            TrustedAsTemplate,
        )
    except ImportError:
        return True
    return TrustedAsTemplate.get_tag(value) is not None


def written(value: Any, key: Any = None) -> str | None:
    """Return a scalar as its file has it, None where that can't be known.

    Ansible keeps where a number or a date was loaded from, and loses how it was written. Of a
    boolean it keeps nothing; that is looked up by its key.
    """
    try:
        from ansible._internal._datatag._tags import Origin  # noqa: PLC0415 - internal: may go
    except ImportError:
        return None
    of_key = isinstance(value, bool)
    origin = Origin.get_tag(key if of_key else value)
    if origin is None or not origin.path or not origin.line_num or not origin.col_num:
        return None
    place = (origin.line_num, origin.col_num)
    return _scalars(str(origin.path))[of_key].get(place)


@lru_cache(maxsize=16)
def _scalars(path: str) -> tuple[dict[_Place, str], dict[_Place, str]]:
    """Return the scalars of a YAML file that stand in no quotes: by their place, by their key's.

    A file that is encrypted, or gone, has none.
    """
    found: dict[_Place, str] = {}
    after: dict[_Place, str] = {}
    try:
        root = yaml.compose(Path(path).read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, ValueError, yaml.YAMLError):
        return found, after
    waiting, seen = [root], set()
    while waiting:
        node = waiting.pop()
        if node is None or id(node) in seen:  # an alias stands for a node that was there before
            continue
        seen.add(id(node))
        if isinstance(node, yaml.ScalarNode):
            if node.style is None:
                found[_place(node)] = node.value
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                waiting += (key, value)
                if isinstance(value, yaml.ScalarNode) and value.style is None:
                    after[_place(key)] = value.value
        else:
            waiting += node.value
    return found, after


def _place(node: yaml.Node) -> _Place:
    return node.start_mark.line + 1, node.start_mark.column + 1
