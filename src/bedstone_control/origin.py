"""Where Ansible loaded a value from, and how it was written there."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml


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


def written(value: Any) -> str | None:
    """Return a scalar as its file has it, None where that can't be known.

    Ansible keeps where a number or a date was loaded from, and loses how it was written.
    """
    try:
        from ansible._internal._datatag._tags import Origin  # noqa: PLC0415 - internal: may go
    except ImportError:
        return None
    origin = Origin.get_tag(value)
    if origin is None or not origin.path or not origin.line_num or not origin.col_num:
        return None
    return _scalars(str(origin.path)).get((origin.line_num, origin.col_num))


@lru_cache(maxsize=16)
def _scalars(path: str) -> dict[tuple[int, int], str]:
    """Return the scalars of a YAML file that stand in no quotes, by line and column.

    A file that is encrypted, or gone, has none.
    """
    try:
        root = yaml.compose(Path(path).read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    found: dict[tuple[int, int], str] = {}
    waiting, seen = [root], set()
    while waiting:
        node = waiting.pop()
        if node is None or id(node) in seen:  # an alias stands for a node that was there before
            continue
        seen.add(id(node))
        if isinstance(node, yaml.ScalarNode):
            if node.style is None:
                found[node.start_mark.line + 1, node.start_mark.column + 1] = node.value
        elif isinstance(node, yaml.MappingNode):
            waiting += [part for pair in node.value for part in pair]
        else:
            waiting += node.value
    return found
