"""Format the age of an event and the time until one."""

from __future__ import annotations

from datetime import UTC, datetime

_UNITS = (("day", 86_400), ("hour", 3600), ("minute", 60))


def humanize(seconds: float) -> str:
    """Return a time in its largest unit ("3 hours", "1 day", "less than a minute")."""
    for unit, length in _UNITS:
        number = int(seconds // length)
        if number:
            return f"{number} {unit}{'s' if number > 1 else ''}"
    return "less than a minute"


def since(moment: str) -> str:
    """Return how long ago an ISO 8601 moment was."""
    return humanize((datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds())


def until(moment: str) -> str:
    """Return in how long an ISO 8601 moment will be ("in 3 hours")."""
    left = (datetime.fromisoformat(moment) - datetime.now(UTC)).total_seconds()
    return f"in {humanize(left)}" if left > 0 else "now"


def short(moment: str) -> str:
    """Return an ISO 8601 moment to the minute ("2026-11-20 03:00 UTC")."""
    return f"{datetime.fromisoformat(moment).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
