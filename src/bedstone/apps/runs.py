"""Record which run of a unit belongs to which release, for the logs sent to a collector.

A line of the journal carries the id of the run that wrote it (``INVOCATION_ID``), also after the
slot was given to another release. rsyslog reads the file (role logs), which is a table of its own
form; a server without that role has no directory for it, and nothing is recorded.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from typing import Any

from bedstone.core import files, lock, paths
from bedstone.core.errors import BedstoneError

# A service that crashes makes one a second: lines of runs before those are sent without a release.
_KEPT = 500
_LOCK_SECONDS = 5.0
_RUN = re.compile(r"[0-9a-f]{32}")
_RELEASE = re.compile(r"[A-Za-z0-9._-]+")


def record(release: str) -> None:
    """Record that this run of its unit belongs to a release; never fails the run.

    Args:
        release: the release.

    """
    run = os.environ.get("INVOCATION_ID", "")
    path = paths.host("/var/lib/bedstone/runs/releases.json")
    if not path.parent.is_dir() or not _RUN.fullmatch(run) or not _RELEASE.fullmatch(release):
        return
    # A full disk, or a lock that is held: its lines are sent without the release.
    with (
        suppress(OSError, BedstoneError),
        lock.held("runs", "record a run", wait_seconds=_LOCK_SECONDS),
    ):
        rows = [row for row in _rows(path) if row["index"] != run]
        rows.append({"index": run, "value": f' release="{release}"'})
        table = {"version": 1, "nomatch": "", "type": "string", "table": rows[-_KEPT:]}
        files.write(path, json.dumps(table) + "\n")


def _rows(path: Any) -> list[dict[str, str]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["table"]
        return [{"index": str(row["index"]), "value": str(row["value"])} for row in found]
    except (OSError, ValueError, KeyError, TypeError):
        return []
