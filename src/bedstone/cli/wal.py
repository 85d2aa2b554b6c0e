"""Back the cluster up with its WAL, and list the recovery windows: `bedstone wal`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bedstone.cli import main
from bedstone.core import age, disk, lock
from bedstone.core.errors import BedstoneError
from bedstone.storage import destinations
from bedstone.system import priority
from bedstone.wal import backup as pgbackrest_run
from bedstone.wal import setup
from bedstone.wal.info import FULL
from bedstone.wal.stanza import Stanza

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from bedstone.storage.destinations import Destination
    from bedstone.wal.backup import Outcome
    from bedstone.wal.info import Backup

_DESCRIPTION = """\
PostgreSQL's write-ahead log goes to each destination as it is written; together
with a backup of the cluster it leads to any moment since. `full` begins a chain of
backups, `incremental` adds what changed. Timers make them; each goes to all
destinations, and one that fails keeps no other from its backup.

`ready` prepares the repositories and waits until WAL has arrived in each: a
convergence ends with it. `list` asks the destinations what is there.

--json prints for `full` and `incremental` {"kind", "destinations": [{"destination",
"state", "label", "type", "seconds", "bytes", "chains", "warnings", "error", "hint"}]},
for `list` [{"destination", "place", "oldest_wal", "newest_wal", "problem",
"backups"}], for `ready` {"created", "without_backup", "warnings"}.
"""


def register(subparsers: main.Subparsers) -> None:
    """Add the command."""
    parser = main.add_command(
        subparsers,
        "wal",
        wal,
        summary="back up the whole cluster with its WAL, for any point in time",
        description=_DESCRIPTION,
        examples=(
            "bedstone wal list",
            "bedstone wal full --destination offsite",
            "bedstone wal incremental",
            "bedstone wal ready --new-cluster    # after a major upgrade of PostgreSQL",
        ),
    )
    parser.add_argument("action", choices=("full", "incremental", "ready", "list"))
    parser.add_argument("--destination", metavar="NAME", help="only this one")
    parser.add_argument(
        "--new-cluster",
        action="store_true",
        help="`ready`: this cluster has replaced the one whose WAL is there",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")


def wal(arguments: argparse.Namespace) -> int:
    """Run the requested subcommand and return the exit code."""
    stanza = Stanza(destinations.load())
    if arguments.action == "ready":
        return _ready(stanza, new_cluster=arguments.new_cluster, as_json=arguments.json)
    chosen = stanza.repositories
    if arguments.destination:
        chosen = (stanza.destinations.get(arguments.destination),)
    if arguments.action == "list":
        return _list(stanza, chosen, as_json=arguments.json)
    priority.step_back()
    kind = "full" if arguments.action == "full" else "incr"
    say = (lambda text: print(text, file=sys.stderr)) if arguments.json else print
    outcomes = pgbackrest_run.everywhere(stanza, kind, chosen, say=say)  # type: ignore[arg-type]
    if arguments.json:
        shown = [_as_json(outcome) for outcome in outcomes]
        print(json.dumps({"kind": arguments.action, "destinations": shown}))
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    if len(errors) == len(outcomes) == 1:
        return errors[0].exit_code
    return 1 if errors or any(outcome.warnings for outcome in outcomes) else 0


def _as_json(outcome: Outcome) -> dict[str, Any]:
    return {
        "destination": outcome.destination,
        "state": "failed" if outcome.error else "succeeded",
        "label": outcome.backup.label if outcome.backup else None,
        "type": outcome.backup.type if outcome.backup else None,
        "seconds": round(outcome.seconds, 1),
        "bytes": outcome.backup.bytes if outcome.backup else None,
        "chains": outcome.kept,
        "warnings": list(outcome.warnings),
        "error": outcome.error.message if outcome.error else None,
        "hint": outcome.error.hint if outcome.error else None,
    }


def _ready(stanza: Stanza, *, new_cluster: bool, as_json: bool) -> int:
    # A backup that runs at the same time has a repository.
    with lock.held("wal-ready", "bedstone wal ready", wait_seconds=60):
        found = setup.prepare(stanza, new_cluster=new_cluster)
    if as_json:
        print(json.dumps(asdict(found)))
        return 0
    for name in found.created:
        print(f"{name}: made a repository")
    for warning in found.warnings:
        print(f"but {warning}", file=sys.stderr)
    print("WAL arrives at each destination that can be reached.")
    return 0


def _list(stanza: Stanza, chosen: Sequence[Destination], *, as_json: bool) -> int:
    shown: list[dict[str, Any]] = []
    for destination in chosen:
        entry: dict[str, Any] = {
            "destination": destination.name,
            "place": destination.words(),
            "oldest_wal": None,
            "newest_wal": None,
            "problem": None,
            "backups": [],
        }
        try:
            info = stanza.info(destination)
        except BedstoneError as error:
            entry["problem"] = error.message
        else:
            entry |= {
                "oldest_wal": info.oldest_wal,
                "newest_wal": info.newest_wal,
                "problem": None if info.exists else "there is no repository",
                "backups": [_backup_as_json(backup) for backup in info.backups],
            }
        shown.append(entry)
    if as_json:
        print(json.dumps(shown))
    else:
        print("\n\n".join(_lines(entry) for entry in shown))
    return 1 if any(entry["problem"] for entry in shown) else 0


def _backup_as_json(backup: Backup) -> dict[str, Any]:
    return {
        "label": backup.label,
        "type": backup.type,
        "started_at": backup.started_at.isoformat(),
        "finished_at": backup.finished_at.isoformat(),
        "bytes": backup.bytes,
        "original_bytes": backup.original_bytes,
        "damaged": backup.damaged,
    }


def _lines(entry: dict[str, Any]) -> str:
    lines = [f"{entry['destination']} ({entry['place']})"]
    if entry["problem"]:
        lines.append(f"  {entry['problem']}")
    for backup in entry["backups"]:
        word = "full" if backup["type"] == FULL else "  incremental"
        damaged = "  DAMAGED PAGES" if backup["damaged"] else ""
        lines.append(
            f"  {word:<13} {backup['label']:<33} {disk.human(backup['bytes']):>10}"
            f"  {age.since(backup['finished_at'])} ago{damaged}"
        )
    if entry["newest_wal"]:
        lines.append(f"  WAL from {entry['oldest_wal']} to {entry['newest_wal']}")
    return "\n".join(lines)
