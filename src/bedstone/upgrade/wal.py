"""Continue the WAL archive with the new cluster."""

from __future__ import annotations

import logging
import os
import re

from bedstone.core import files, names, paths
from bedstone.core.errors import BedstoneError
from bedstone.storage import destinations
from bedstone.system.systemd import Systemd
from bedstone.wal import stanza
from bedstone.wal.stanza import Stanza

logger = logging.getLogger(__name__)

_CONFIGURATION = "/etc/pgbackrest/pgbackrest.conf"
_PATH = re.compile(r"^pg1-path=.*$", re.MULTILINE)
# PostgreSQL's major version -> the first version of pgBackRest that supports it.
_KNOWN_SINCE = {16: (2, 48), 17: (2, 52), 18: (2, 55)}


def obstacle(major: int) -> str | None:
    """Return why the write-ahead log of a version could not be archived, or None."""
    if not paths.host(_CONFIGURATION).exists():
        return None
    found = stanza.program_version()
    needed = _KNOWN_SINCE.get(major)
    if found is None or needed is None or found >= needed:
        return None
    return (
        f"pgBackRest {found[0]}.{found[1]}, which archives the write-ahead log, doesn't know"
        f" PostgreSQL {major}: upgrade it to {needed[0]}.{needed[1]} or newer"
        " (`apt-get install pgbackrest`)"
    )


def follow(major: int) -> None:
    """Begin a new archive for the serving cluster, and a full backup of it.

    Nothing before the change can be replayed into the new cluster, so the recovery window begins
    again with this backup; what is there of the old cluster stays until its retention ends.

    Args:
        major: the version that serves.

    """
    configuration = paths.host(_CONFIGURATION)
    if not configuration.exists():
        return
    try:
        known = destinations.load()
        if known.point_in_time is None:
            return
        _point_to(major)
        Stanza(known).upgrade()
        Systemd().start_soon(names.FULL_BACKUP_UNIT)
    except (BedstoneError, OSError) as error:
        reason = error.text() if isinstance(error, BedstoneError) else str(error)
        logger.warning(
            "The write-ahead log isn't archived yet; PostgreSQL keeps it until it is. %s\n"
            "`bedstone wal ready` and `bedstone wal full` put it right after a run of"
            " provision.yml.",
            reason,
        )
    else:
        logger.info("A new archive of the write-ahead log has begun; a full backup is being made.")


def _point_to(major: int) -> None:
    configuration = paths.host(_CONFIGURATION)
    before = configuration.read_text(encoding="utf-8")
    after = _PATH.sub(f"pg1-path=/var/lib/postgresql/{major}/main", before)
    if after != before:
        # In place: owner and mode stay, and a killed run leaves the whole old or new one.
        status = configuration.stat()
        files.write(configuration, after, mode=status.st_mode & 0o777)
        os.chown(configuration, status.st_uid, status.st_gid)
