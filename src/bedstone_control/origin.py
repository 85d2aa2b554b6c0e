"""Where Ansible loaded a value from."""

from __future__ import annotations

from typing import Any


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
