"""Record a release as the serving one."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from bedstone.apps import slots
from bedstone.ledger import releases
from bedstone.release import ledger_rebuild

if TYPE_CHECKING:
    from bedstone.release.context import Rollout


def record(rollout: Rollout) -> str:
    """Make it the release that serves: from here on nothing is undone."""
    releases.commit(
        rollout.connection, rollout.app.name, rollout.id, rollout.slot, rollout.operation
    )
    # The ledger has decided. A full disk is no failure of the release: the next settling writes it.
    with suppress(OSError):
        ledger_rebuild.keep_record(rollout.connection, rollout.app.name, rollout.id)
        (rollout.directory.parent.parent / "retired.json").unlink(missing_ok=True)
        slots.write_serving(rollout.app.name, rollout.id, rollout.slot)
    return rollout.id
