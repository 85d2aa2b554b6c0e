"""Choose which chains of WAL backups are kept: a pure function of the present ones.

A chain is a full backup with the incremental ones upon it and the WAL since. pgBackRest removes
whole chains from the oldest on, with their WAL; so the only choice is how many stay.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from bedstone.wal.info import FULL

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from bedstone.wal.info import Backup


def full_backups_to_keep(
    backups: Sequence[Backup],
    now: datetime,
    *,
    keep_days: int,
    keep_full: int,
    verified: Collection[str] = (),
) -> int:
    """Return how many of the newest full backups are kept; at least 1.

    Kept are the newest ``keep_full`` that are whole and not from the future, all that bringing
    the cluster to any moment of the last ``keep_days`` days takes, and the chain of the newest
    verified backup. A clock that jumped empties nothing: whatever it shows, the newest
    ``keep_full`` stay.

    Args:
        backups: of one repository, in any order.
        now: the present, in UTC.
        keep_days: how far back any moment can be asked for.
        keep_full: how many chains at least.
        verified: labels of backups that were restored and found good.

    """
    fulls = sorted(
        (backup for backup in backups if backup.type == FULL),
        key=lambda backup: backup.label,
        reverse=True,
    )
    needed = [keep_full, 1]

    # One with damaged pages, or made when the clock was ahead, replaces none of the others.
    sound = [
        place
        for place, backup in enumerate(fulls, start=1)
        if not backup.damaged and backup.finished_at <= now
    ]
    needed.append(sound[keep_full - 1] if len(sound) >= keep_full else len(fulls))

    # The oldest moment is reached from the newest full backup that had ended by then.
    oldest = now - timedelta(days=keep_days)
    reaching = [
        place
        for place, backup in enumerate(fulls, start=1)
        if not backup.damaged and backup.finished_at <= oldest
    ]
    needed.append(reaching[0] if reaching else len(fulls))

    chains = {backup.full for backup in backups if backup.label in verified}
    proved = [place for place, backup in enumerate(fulls, start=1) if backup.label in chains]
    if proved:
        needed.append(proved[0])
    return max(needed)
