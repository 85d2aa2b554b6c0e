"""Send, list and fetch copies of backups at other destinations.

Of a backup, its uploads are sent first and its directory last: only what has arrived whole is found
there. A run that was killed leaves nothing that counts, and the next one sends it again.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from bedstone.backup import kept as kept_backups
from bedstone.backup import manifest, media_snapshots, retention
from bedstone.backup import settings as backup_settings
from bedstone.backup.catalog import Backup
from bedstone.backup.manifest import Manifest
from bedstone.core import clock, disk, files, paths, safe_tree
from bedstone.core.errors import BedstoneError, RefusedError
from bedstone.ledger.kinds import CONFIGURATION, DUMP, MEDIA, SERVER, UPLOADS
from bedstone.storage import restic_errors
from bedstone.storage.restic import Repository, Snapshot
from bedstone.storage.restic_errors import ResticError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from bedstone.backup.retention import Known, Rules
    from bedstone.backup.settings import Settings
    from bedstone.storage.destinations import Destination

IMAGE = "image"
LATEST = "latest"

# A copy that is running isn't removed.
_UNFINISHED = timedelta(days=2)
_DEFAULT_RESERVE = 1024 * backup_settings.MEBIBYTE


@dataclass(frozen=True)
class Remote:
    """A backup, whole, at a destination.

    Attributes:
        name: the backup's name.
        app: whose.
        started: when it was begun.
        bytes: size of its directory.
        kinds: ``dump``, and ``media`` when its uploads are a snapshot of their own.
        point: a release's restore point, of the database alone.
        snapshots: kind -> snapshot.

    """

    name: str
    app: str
    started: datetime
    bytes: int
    kinds: tuple[str, ...]
    point: bool = False
    snapshots: Mapping[str, Snapshot] = field(default_factory=dict)

    @property
    def full(self) -> bool:
        """Return whether it holds all of the app's data: a restore point doesn't."""
        return not self.point

    @property
    def from_the_future(self) -> bool:
        """Return whether the clock was wrong when it was made, or is now."""
        return clock.is_ahead(self.started)


def listed(destination: Destination, app: str) -> list[Remote]:
    """Return an app's whole backups at a destination, the newest first.

    Raises:
        BedstoneError: the repository can't be read: unreachable, another key, damaged.

    """
    return whole(snapshots_of(Repository(destination)), app)


def snapshots_of(repository: Repository) -> list[Snapshot]:
    """Return all snapshots of a repository; none when there is no repository.

    Raises:
        BedstoneError: the repository can't be read.

    """
    try:
        return repository.snapshots()
    except ResticError as error:
        if error.reason == restic_errors.MISSING:
            return []
        raise


def whole(snapshots: Sequence[Snapshot], app: str) -> list[Remote]:
    """Return the backups of an app that are whole in a list of snapshots, the newest first.

    Those from the future come last: one of them would be the newest for years and would hide that
    no other arrives.
    """
    media = {s.original: s for s in of_kind(snapshots, app, MEDIA)}
    found: dict[str, Remote] = {}
    for dump in of_kind(snapshots, app, DUMP):
        name = dump.tags.get("backup", "")
        parts = {DUMP: dump}
        if uploads := dump.tags.get("media"):
            if uploads not in media:
                continue
            parts[MEDIA] = media[uploads]
        found[name] = Remote(
            name=name,
            app=app,
            started=datetime.fromisoformat(dump.tags.get("started") or dump.time.isoformat()),
            bytes=int(dump.tags.get("bytes") or 0),
            kinds=tuple(parts),
            point=bool(dump.tags.get("point")),
            snapshots=parts,
        )
    return sorted(
        found.values(),
        key=lambda remote: (not remote.from_the_future, remote.started, remote.name),
        reverse=True,
    )


def of_kind(snapshots: Sequence[Snapshot], app: str, kind: str) -> list[Snapshot]:
    """Return the snapshots of an app and a kind, the oldest first.

    Those from the future come before all, so that none of them is taken for the newest.
    """
    found = [s for s in snapshots if (s.tags.get("app"), s.tags.get("kind")) == (app, kind)]
    return sorted(found, key=lambda s: (not clock.is_ahead(s.time), s.time))


def missing(
    local: Sequence[Backup],
    there: Sequence[Remote],
    *,
    app: str,
    settings: Settings,
    known: Known,
) -> list[Backup]:
    """Return the backups of this server that a destination should have and hasn't, oldest first.

    A new destination gets the newest one; from then on nothing is left out. What retention would
    forget there isn't sent, and restore points aren't: they undo a release of this server, and are
    of no use to one that is rebuilt.
    """
    names = {remote.name for remote in there}
    full = [backup for backup in local if backup.full and not backup.from_the_future]
    if not full:
        return []
    since = min((remote.started for remote in there if remote.full), default=_started(full[0]))
    wanted = [backup for backup in full if backup.name not in names and _started(backup) >= since]
    kept = retention.reasons(
        [*wanted, *(as_backup(remote) for remote in there)],
        app=app,
        now=datetime.now(UTC),
        rules=kept_backups.rules(settings),
        known=known,
    )
    return sorted((backup for backup in wanted if kept.get(backup.name)), key=_started)


def send(
    repository: Repository, backup: Backup, *, local: Repository, there: Sequence[Snapshot]
) -> str:
    """Send one backup, its uploads and then its directory, and return the snapshot's id.

    :func:`listed` shows whether it has arrived.

    Args:
        repository: where to.
        backup: what.
        local: this server's repository, which has the uploads.
        there: the snapshots that the destination already has.

    Raises:
        BedstoneError: it failed; what has arrived of it doesn't count.

    """
    found = backup.manifest
    if found is None:
        raise RefusedError(backup.problem or f"{backup.path} isn't a backup.")
    wrong = list(manifest.damages(backup.path, found, contents=True))
    if wrong:
        raise BedstoneError(
            f"{backup.path} is damaged, so it isn't copied.",
            hint=f"Make a new one: `bedstone backup {found.app}`.",
            details="\n".join(wrong[:20]),
        )
    tags = {
        "app": found.app,
        "kind": DUMP,
        "backup": found.name,
        "started": found.started.astimezone(UTC).isoformat(),
        "bytes": str(found.bytes),
        **({"point": "1"} if found.restore_point else {}),
    }
    if found.media is not None and found.media.engine == manifest.RESTIC:
        tags["media"] = found.media.snapshot or ""
        if tags["media"] not in {snapshot.original for snapshot in there}:
            repository.copy(local, tags["media"])
    sent, changed = repository.backup(backup.path.parent, [backup.name], tags)
    if changed:
        repository.drop(sent)
        raise BedstoneError(f"{backup.path} was removed while it was copied.")
    return sent


def fetch(
    destination: Destination,
    app: str,
    name: str,
    into: Path,
    *,
    kind: str = DUMP,
    watch: Callable[[], None] | None = None,
) -> Path:
    """Fetch a backup, uploads, the configuration or an image from a destination, all or nothing.

    Args:
        destination: where from.
        app: whose; "" for the configuration.
        name: the backup's name, or ``latest``; of an image, the release's id.
        into: a directory, made if it isn't there; the fetched data is below it.
        kind: ``dump``: the backup's directory, each byte checked by its manifest (its uploads
            follow by ``media.unpack``, which finds them there); ``media``: the directory of its
            uploads; ``uploads``: likewise, also of a copy between two backups, by its name, and of
            a backup that isn't whole; ``configuration``: see :mod:`bedstone.offsite.host_state`;
            ``image``: what `docker load` takes.
        watch: called repeatedly while it runs; its exception stops it.

    Returns:
        What was fetched: ``into/NAME`` (dump), ``into/media`` (media, uploads),
        ``into/configuration``, ``into/APP.tar`` (image).

    Raises:
        RefusedError: it isn't there, or there is too little disk space.
        BedstoneError: unreachable, another key, damaged.

    """
    repository = Repository(destination)
    found = _find(repository, app, name, kind)
    paths.ensure_private(into)
    _require_room(repository, found, into)
    entry = into / f".fetch-{secrets.token_hex(4)}"
    try:
        repository.restore(found.id, entry, watch=watch or (lambda: _still(into)))
        source, target = _target(entry, found, into, app, kind)
        if kind == DUMP:
            _check(source, destination)
            media_snapshots.mark_origin(source, destination.name)
        if kind in {MEDIA, UPLOADS}:
            safe_tree.disarm(source)
        files.remove_tree(target)
        source.rename(target)
    finally:
        files.remove_tree(entry)
    return target


def manifest_of(destination: Destination, remote: Remote) -> Manifest:
    """Return what a backup at a destination holds, without fetching the backup.

    Raises:
        ManifestError: it isn't what was sent.
        ResticError: it can't be read.

    """
    path = Path("/", remote.name)
    text = Repository(destination).read(remote.snapshots[DUMP].id, str(path / manifest.FILE))
    return manifest.parse(text, path)


def as_backup(remote: Remote) -> Backup:
    """Return a backup elsewhere as retention judges those of this server."""
    described = Manifest(
        app=remote.app,
        name=remote.name,
        label=None,
        host="",
        program="",
        release=None,
        started=remote.started,
        finished=remote.started,
        database=None,
        media=None,
        files={},
        restore_point=remote.point,
    )
    return Backup(Path(remote.name), described, None)


def expired(
    there: Sequence[Remote],
    *,
    app: str,
    settings: Settings,
    known: Known,
    protected: Collection[str] = (),
    rules: Rules | None = None,
) -> list[Remote]:
    """Return the backups at a destination that have served their time, by the rules in force."""
    gone = retention.expired(
        [as_backup(remote) for remote in there],
        app=app,
        now=datetime.now(UTC),
        rules=rules or kept_backups.rules(settings),
        known=known,
        protected=protected,
    )
    names = {backup.name for backup in gone}
    return [remote for remote in there if remote.name in names]


def orphans(snapshots: Sequence[Snapshot], app: str) -> list[str]:
    """Return the ids of uploads at a destination whose backup never arrived, nor will."""
    needed = {s.tags.get("media") for s in of_kind(snapshots, app, DUMP)}
    old = datetime.now(UTC) - _UNFINISHED
    return [
        s.id for s in of_kind(snapshots, app, MEDIA) if s.original not in needed and s.time < old
    ]


def expired_configurations(snapshots: Sequence[Snapshot], settings: Settings) -> list[str]:
    """Return the ids of the configurations that have served their time."""
    found = {str(s.tags.get("backup")): s for s in of_kind(snapshots, SERVER, CONFIGURATION)}
    remotes = [Remote(name, SERVER, s.time, 0, ()) for name, s in found.items()]
    gone = expired(remotes, app=SERVER, settings=settings, known=retention.Known())
    return [found[remote.name].id for remote in gone]


def _started(backup: Backup) -> datetime:
    assert backup.manifest is not None
    return backup.manifest.started


def _find(repository: Repository, app: str, name: str, kind: str) -> Snapshot:
    snapshots = snapshots_of(repository)
    if kind in {DUMP, MEDIA}:
        there = whole(snapshots, app)
        full = [remote for remote in there if remote.full]
        chosen = full[0] if name == LATEST and full else None
        chosen = chosen or next((remote for remote in there if remote.name == name), None)
        if chosen and kind in chosen.snapshots:
            return chosen.snapshots[kind]
        names = [remote.name for remote in there]
    else:
        found = of_kind(snapshots, app, kind)
        if kind == UPLOADS:
            found = [*of_kind(snapshots, app, MEDIA), *found]
        fits = [s for s in found if name in {LATEST, s.tags.get("backup")}]
        if fits:
            return fits[-1]
        names = [s.tags.get("backup", "") for s in reversed(found)]
    whose = f" of {app}" if app != SERVER else ""
    what = "no backup" if kind == DUMP else f"no {kind}"
    raise RefusedError(
        f"There is {what}{whose} {name!r} at {repository.destination.name}.",
        hint=f"There are: {', '.join(names[:10])}." if names else "There is none at all.",
    )


def _target(entry: Path, found: Snapshot, into: Path, app: str, kind: str) -> tuple[Path, Path]:
    if kind == CONFIGURATION:
        return entry, into / CONFIGURATION
    present = sorted(entry.iterdir())
    if len(present) != 1:
        raise BedstoneError(f"The snapshot {found.id[:8]} holds {len(present)} entries, not one.")
    target = {MEDIA: MEDIA, UPLOADS: MEDIA, IMAGE: f"{app}.tar"}.get(kind, present[0].name)
    return present[0], into / target


def _check(directory: Path, destination: Destination) -> None:
    found = manifest.read(directory)
    wrong = list(manifest.damages(directory, found, contents=True))
    if wrong:
        raise BedstoneError(
            f"{directory.name}, brought back from {destination.name}, isn't what was sent.",
            hint="Take another one, and make a new one as soon as there is a server to back up.",
            details="\n".join(wrong[:20]),
        )


def _require_room(repository: Repository, found: Snapshot, into: Path) -> None:
    needed = repository.count(found.id).bytes
    what = f"What is brought back from {repository.destination.name}"
    disk.require(into, needed, _reserve(), what)


def _still(into: Path) -> None:
    disk.still(into, _reserve(), "The fetch")


def _reserve() -> int:
    if backup_settings.path().exists():
        return backup_settings.load().reserve_bytes
    return _DEFAULT_RESERVE
