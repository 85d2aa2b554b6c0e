"""List the backups and the moments that can be restored."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bedstone.cli import backups
from bedstone.cli.main import main
from bedstone.core.errors import BedstoneError
from bedstone.pitr import window as past_window
from bedstone.pitr.window import Window
from bedstone.storage import destinations
from bedstone.wal.stanza import Stanza

if TYPE_CHECKING:
    from bedstone.backup.settings import App, Settings


def print_list(settings: Settings, app: App, *, as_json: bool) -> int:
    """Print what could be restored of an app, and return the exit code."""
    windows, problems = moments() if app.database is not None else ([], {})
    if as_json:
        shown: dict[str, Any] = {
            "app": app.app,
            "backups": backups.listing(settings, app.app),
            "moments": [window.as_json() for window in windows],
            "problems": problems,
        }
        print(json.dumps(shown, indent=2))
        return 0
    main(["backups", app.app])
    print()
    for window in windows:
        print(window.words())
    for name, problem in problems.items():
        print(f"{name} can't be asked: {problem}")
    if not windows and not problems:
        print("No WAL is kept, so there are no moments between the backups.")
    return 0


def moments() -> tuple[list[Window], dict[str, str]]:
    """Return the recovery window of each destination, and the destinations that can't be asked."""
    declared = destinations.load()
    if declared.point_in_time is None:
        return [], {}
    stanza = Stanza(declared)
    windows, problems = [], {}
    for destination in stanza.repositories:
        try:
            windows.append(past_window.compute(stanza, destination))
        except BedstoneError as error:
            problems[destination.name] = error.message
    return windows, problems
