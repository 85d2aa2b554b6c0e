"""Record an upgrade before it begins, so that the next run can finish or undo it.

Until the new cluster has been found to hold what the old one held, everything is undone: the old
cluster has not been changed. After that moment, the phase ``switched``, it is finished, and from
``opened`` on, when visitors may have written to the new cluster, no automatic undo exists.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bedstone.core import files, journal, paths

if TYPE_CHECKING:
    from pathlib import Path

# Its holder works on the clusters.
LOCK = "postgresql.upgrade"

ASKED, BEGUN, SWITCHED, OPENED = "asked", "begun", "switched", "opened"


@dataclass(frozen=True)
class Journal:
    """One upgrade, or one way back.

    Attributes:
        source: the major version that serves at the beginning.
        target: the one that is to serve.
        port: on which.
        phase: how far it is.
        back: it leads back to a cluster that is there already.
        made: the target's cluster was made by this upgrade, so that undoing may drop it.
        pages: apps whose maintenance page was turned on for it.
        units: units that were stopped for it.
        healthy: apps that were healthy before.
        dark_since: when the apps were closed (ISO 8601, UTC), or None.
        caller: the name of the caller.

    """

    source: int
    target: int
    port: int
    phase: str = ASKED
    back: bool = False
    made: bool = False
    pages: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    healthy: tuple[str, ...] = ()
    dark_since: str | None = None
    caller: str = "root"

    def saved(self, **changes: Any) -> Journal:
        """Return it with changes, after it was brought to the disk with them."""
        changed = replace(self, **changes)
        journal.save(path(), changed)
        return changed


def directory() -> Path:
    """Return the directory of all records of upgrades."""
    return paths.state() / "upgrade"


def path() -> Path:
    """Return the journal's file, which is there only while an upgrade is under way."""
    return directory() / "journal.json"


def load() -> Journal | None:
    """Return the journal of the upgrade that is under way or was killed, or None.

    Raises:
        BedstoneError: the file isn't what was written.

    """
    return journal.load(
        path(),
        _made,
        of="an interrupted upgrade",
        hint="See which cluster serves (`pg_lsclusters`), turn off the maintenance pages"
        " (`bedstone maintenance APP off`) and remove the file.",
    )


def _made(document: dict[str, Any]) -> Journal:
    tuples = {name: tuple(document[name]) for name in ("pages", "units", "healthy")}
    return Journal(**{**document, **tuples})


def clear() -> None:
    """Remove it: the upgrade is finished, or undone."""
    journal.clear(path())


def record(name: str, document: dict[str, Any]) -> None:
    """Record a fact for later: ``last`` (upgrade), ``rehearsal``."""
    paths.ensure_private(directory())
    files.write(directory() / f"{name}.json", json.dumps(document, indent=2) + "\n", mode=0o600)


def recorded(name: str) -> dict[str, Any] | None:
    """Return the fact recorded under a name, or None."""
    try:
        document = json.loads((directory() / f"{name}.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def forget(name: str) -> None:
    """Remove the fact recorded under a name."""
    (directory() / f"{name}.json").unlink(missing_ok=True)
