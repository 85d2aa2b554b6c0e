"""Raise an alarm when another host finds this one's backups damaged, or doesn't report in time.

On a server that verifies its own backups, the failed unit raises the alarm. What another host has
found, or has not tried, is read here from its marks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bedstone.backup import verify_settings
from bedstone.notify.alarms import Alarm
from bedstone.notify.report import report as report_alarms
from bedstone.verify import status

if TYPE_CHECKING:
    from bedstone.backup.settings import Settings

_SCOPE = "verifications"


def report(settings: Settings) -> tuple[str, ...]:
    """Report the verifications' alarms to the hooks; return warnings."""
    how = verify_settings.load()
    command = f"{how.host} proves them: `journalctl -u bedstone-verify@{how.origin}` there."
    red: list[Alarm] = []
    if how.host is not None:
        for entry in settings.apps:
            found = status.app_status(entry.app, None)
            if found is not None and found["problem"]:
                words = f"{entry.app}: {found['problem']}"
                red.append(Alarm(entry.app, "red", words, command, entry.app))
        for place in status.of_wal():
            if place["problem"]:
                words = f"WAL at {place['destination']}: {place['problem']}"
                red.append(Alarm(f"/{place['destination']}", "red", words, command))
    return report_alarms(_SCOPE, red, about="Backups aren't proved as they should be:")
