"""The moment from which on a release serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bedstone import history

if TYPE_CHECKING:
    from bedstone.rollout.context import Rollout


def record(rollout: Rollout) -> str:
    """Make it the release that serves: from here on nothing is undone."""
    history.commit(
        rollout.connection, rollout.app.name, rollout.id, rollout.slot, rollout.operation
    )
    return rollout.id
