"""Raise an alarm when another host finds this one's backups damaged, or doesn't report in time.

On a server that verifies its own backups, the failed unit raises the alarm. What another host has
found, or has not tried, is read here from its marks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bedstone.backup import verify_settings
from bedstone.notify import alarms, events
from bedstone.verify import status

if TYPE_CHECKING:
    from bedstone.backup.settings import Settings

_SCOPE = "verifications"


def report(settings: Settings) -> tuple[str, ...]:
    """Report to the hooks what has turned red, and what has been so for a day; return warnings.

    An alarm that no hook could deliver is reported again the next time.
    """
    how = verify_settings.load()
    red: dict[str, tuple[str | None, str]] = {}
    if how.host is not None:
        for entry in settings.apps:
            found = status.app_status(entry.app, None)
            if found is not None and found["problem"]:
                red[entry.app] = (entry.app, f"{entry.app}: {found['problem']}")
        for place in status.of_wal():
            if place["problem"]:
                name = f"/{place['destination']}"
                red[name] = (None, f"WAL at {place['destination']}: {place['problem']}")
    due = alarms.due(_SCOPE, red)
    if not due:
        return ()
    concerned = {red[name][0] for name in due}
    first = red[due[0]][1]
    more = f", and {len(due) - 1} more" if len(due) > 1 else ""
    taken, warnings = events.send(
        events.Event(
            kind="failure",
            # What concerns more than one app goes to every hook.
            app=concerned.pop() if len(concerned) == 1 else None,
            title=f"Backups aren't proved as they should be: {first}{more}.",
            error=first,
            hint=f"{how.host} proves them: `journalctl -u bedstone-verify@{how.origin}` there.",
            details="\n".join(red[name][1] for name in due),
        )
    )
    if not taken:
        alarms.again(_SCOPE, due)
    return warnings
