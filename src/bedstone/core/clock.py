"""Compare moments of clocks that may be wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

# Two servers' clocks may differ by so much.
TOLERANCE = timedelta(minutes=5)
# What is made each night: a day, and what one run may take longer than the one before.
NIGHTLY = timedelta(hours=26)


def is_ahead(moment: datetime, now: datetime | None = None) -> bool:
    """Return whether a clock was wrong at a moment, or is wrong now."""
    return moment - (now or datetime.now(UTC)) > TOLERANCE
