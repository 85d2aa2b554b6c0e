"""Find, name and judge the backups of an app in a directory.

The directory is the truth: a backup that was copied away and back is one again, without any other
record.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bedstone.backup import manifest as manifests
from bedstone.backup.manifest import Manifest, ManifestError
from bedstone.core import clock
from bedstone.core.errors import RefusedError

NAME = re.compile(r"backup_\d{8}_\d{6}")
INCOMPLETE = ".incomplete-"
DELETING = ".deleting-"
LATEST = "latest"


@dataclass(frozen=True)
class Backup:
    """A directory with a backup's name.

    ``manifest`` is None when it carries none of ours; ``problem`` is what is wrong
    with it at a glance (missing or truncated files), or None.
    """

    path: Path
    manifest: Manifest | None
    problem: str | None

    @property
    def name(self) -> str:
        """The backup's name."""
        return self.path.name

    @property
    def good(self) -> bool:
        """Return whether all its files are there in their full size."""
        return self.manifest is not None and self.problem is None

    @property
    def full(self) -> bool:
        """Return whether it is good and holds all of the app's data: a restore point doesn't."""
        return self.good and self.manifest is not None and not self.manifest.restore_point

    @property
    def from_the_future(self) -> bool:
        """Return whether the clock was wrong when it was made, or is now."""
        return self.manifest is not None and clock.is_ahead(self.manifest.started)

    @property
    def age(self) -> timedelta | None:
        """Time since it was begun."""
        return datetime.now(UTC) - self.manifest.started if self.manifest else None


def load(path: Path) -> Backup:
    """Return the backup in a directory, judged without reading its contents."""
    try:
        manifest = manifests.read(path)
    except ManifestError as error:
        return Backup(path, None, error.message)
    return Backup(path, manifest, next(manifests.damages(path, manifest, contents=False), None))


def backups(directory: Path) -> list[Backup]:
    """Return what has a backup's name in an app's directory, newest first."""
    if not directory.is_dir():
        return []
    names = (entry for entry in directory.iterdir() if NAME.fullmatch(entry.name))
    return sorted(
        (load(entry) for entry in names if entry.is_dir() and not entry.is_symlink()),
        # The manifest has the time; a name alone may have been given by hand.
        key=lambda backup: (
            backup.manifest.started.timestamp() if backup.manifest else 0.0,
            backup.name,
        ),
        reverse=True,
    )


def usable(directory: Path, *, points: bool = False) -> list[Backup]:
    """Return an app's complete backups, newest first.

    One from the future isn't among them: it would be the newest for years.

    Args:
        directory: the app's backups.
        points: restore points, too.

    """
    return [
        found
        for found in backups(directory)
        if (found.good if points else found.full) and not found.from_the_future
    ]


def newest(directory: Path, *, points: bool = False) -> Backup | None:
    """Return the first of :func:`usable`, or None."""
    return next(iter(usable(directory, points=points)), None)


def leftovers(directory: Path) -> list[Path]:
    """Return what a killed backup or removal left in an app's directory."""
    if not directory.is_dir():
        return []
    return sorted(
        entry
        for entry in directory.iterdir()
        for prefix in (INCOMPLETE, DELETING)
        if entry.name.startswith(prefix) and NAME.fullmatch(entry.name.removeprefix(prefix))
    )


def free_name(directory: Path, moment: datetime) -> str:
    """Return the name for a backup begun at ``moment``: a second later if it is taken."""
    while True:
        name = f"backup_{moment:%Y%m%d_%H%M%S}"
        if not any(
            (directory / f"{prefix}{name}").exists() for prefix in ("", INCOMPLETE, DELETING)
        ):
            return name
        moment += timedelta(seconds=1)


def resolve(directory: Path, wanted: str) -> Path:
    """Return the directory of the backup that an operator asked for.

    Args:
        directory: the app's backups.
        wanted: ``latest`` (the newest complete one that is no restore point), a backup's name,
            or a path.

    Raises:
        RefusedError: there is no such backup; lists those that are there.

    """
    if wanted == LATEST:
        found = newest(directory)
        if found is None:
            good = [backup for backup in backups(directory) if backup.good]
            but = "."
            if any(backup.full for backup in good):
                but = " but some from the future: is the clock right (`date`)?"
            elif good:
                but = " but restore points, which hold the database alone."
            raise RefusedError(
                f"There is no complete backup in {directory}{but}", hint=_present(directory)
            )
        return found.path
    candidate = Path(wanted)
    if "/" not in wanted:
        candidate = directory / wanted
    # `restore APP .../manifest.json` and a trailing slash mean the same backup.
    if candidate.name == manifests.FILE:
        candidate = candidate.parent
    if not candidate.is_dir():
        raise RefusedError(f"There is no backup {wanted!r}.", hint=_present(directory))
    if candidate.name.startswith((INCOMPLETE, DELETING)):
        raise RefusedError(
            f"{candidate.name} isn't a finished backup: the run that made or removed it was"
            " interrupted.",
            hint=_present(directory),
        )
    return candidate.resolve()


def _present(directory: Path) -> str:
    names = [
        backup.name if backup.full else f"{backup.name} (restore point)"
        for backup in backups(directory)
        if backup.good
    ]
    if not names:
        return f"No complete backup is in {directory}."
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""  # noqa: PLR2004
    return f"Complete ones: {', '.join(names[:5])}{more} (`bedstone backups` lists them)."
