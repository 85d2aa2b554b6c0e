"""Copy backups to all destinations; a failure at one doesn't affect the others."""

from __future__ import annotations

import logging
import sqlite3
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from bedstone.backup import catalog, kept, media_snapshots
from bedstone.core import files, lock, paths
from bedstone.core.errors import BedstoneError, RefusedError
from bedstone.ledger import copies as copies_history
from bedstone.ledger.kinds import CONFIGURATION, DUMP, SERVER
from bedstone.offsite import copies, host_state, observe, uploads, verification_reports
from bedstone.offsite.copies import IMAGE
from bedstone.storage import destinations
from bedstone.storage.restic import Repository
from bedstone.storage.restic_errors import MISSING, ResticError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bedstone.backup.catalog import Backup
    from bedstone.backup.settings import App, Settings
    from bedstone.storage.destinations import Destination, Destinations
    from bedstone.storage.restic import Snapshot

logger = logging.getLogger(__name__)

# No app's name has a dot.
LOCK = "copies.run"

_WEEK = 7 * 86_400
# Releases and backups that follow each other for ever would keep a run from its end.
_ROUNDS = 3
# A name that is used for nothing else: the run to a destination as a whole.
RUN = "run"


@dataclass
class Result:
    """The result of a run at one destination.

    Attributes:
        destination: its name.
        sent: sentences of what has arrived.
        removed: names of the obsolete ones.
        problems: what went wrong.

    """

    destination: str
    sent: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    problems: list[BedstoneError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "destination": self.destination,
            "sent": self.sent,
            "removed": self.removed,
            "notes": self.notes,
            "problems": [
                {"error": e.message, "hint": e.hint, "details": e.details} for e in self.problems
            ],
        }


def run(
    settings: Settings,
    known: Destinations,
    *,
    wanted: Sequence[Destination],
    apps: Sequence[App],
    backup: str | None = None,
    configuration: bool = True,
    anew: bool = False,
    wait_seconds: float = 0,
    say: Callable[[str], None] = lambda _: None,
) -> list[Result]:
    """Send what is missing at destinations, remove obsolete copies, and record what is there.

    Args:
        settings: this server's.
        known: all destinations.
        wanted: the destinations to send to.
        apps: whose backups.
        backup: the only one to send, a restore point too (of one app); by default, what is missing.
        configuration: send that, and the images of the releases that serve, too.
        anew: create a repository again where one is gone.
        wait_seconds: how long to wait for another run to end.
        say: called with the text of each step.

    Returns:
        A result for each destination.

    Raises:
        LockedError: another run is running.

    """
    with lock.held(LOCK, "bedstone copy", wait_seconds=wait_seconds):
        # Of a run that was killed: an image is large.
        files.remove_tree(host_state.place() / IMAGE)
        begun = datetime.now(UTC)
        sends = [_One(settings, known, place, Result(place.name), say) for place in wanted]
        for one in sends:
            one.send(apps, backup, configuration=configuration, anew=anew)
        # This may take long, so it comes before the look for what asked for a run during this one.
        _tidy(settings, known.local, say)
        for _ in range(_ROUNDS):
            # Backups made during this run asked for a run, and this one was it.
            if backup is not None or not _asked_since(begun):
                break
            begun = datetime.now(UTC)
            for one in sends:
                if not one.result.problems:
                    one.send(apps, None, configuration=configuration, anew=False)
        return [one.result for one in sends]


@dataclass(frozen=True)
class _Sent:
    """A copy that was sent, and has to be seen at the destination before it counts."""

    app: str
    kind: str
    name: str
    started: datetime
    snapshot: str
    said: str
    size: int | None = None


class _One:
    """The run at one destination."""

    def __init__(
        self,
        settings: Settings,
        known: Destinations,
        place: Destination,
        result: Result,
        say: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._known = known
        self._place = place
        self.result = result
        self._say = say
        self._repository = Repository(place)
        self._local = Repository(known.local)
        self._sent: list[_Sent] = []

    def send(
        self, apps: Sequence[App], backup: str | None, *, configuration: bool, anew: bool
    ) -> None:
        """Send and remove copies there; errors are in the result."""
        started = datetime.now(UTC)
        try:
            self._send(apps, backup, configuration=configuration, anew=anew, started=started)
        except sqlite3.Error as error:
            # A damaged ledger, or a disk that is full, keeps no other destination from its copy.
            self._failed(SERVER, RUN, None, started, BedstoneError(f"The ledger fails: {error}."))

    def _send(
        self,
        apps: Sequence[App],
        backup: str | None,
        *,
        configuration: bool,
        anew: bool,
        started: datetime,
    ) -> None:
        self._sent.clear()
        self._say(f"{self._place.name}: looks at {self._place.words()}")
        seen = None
        try:
            snapshots = self._ready(anew=anew)
        except (BedstoneError, OSError) as error:
            self._failed(SERVER, RUN, None, started, error)
        else:
            for app in apps:
                self._app(app, backup, snapshots)
            if configuration:
                self._configuration(snapshots)
            seen = self._read_back()
        if seen is not None:
            # What failed before a backup's turn came is over.
            copies_history.record(SERVER, RUN, None, self._place.name, started)
            seen = self._forget(apps, seen)
        observe.measure(self._settings, self._place, seen)

    def _ready(self, *, anew: bool) -> list[Snapshot]:
        try:
            return self._repository.snapshots()
        except ResticError as error:
            if error.reason != MISSING:
                raise
        if not anew:
            self._never_used()
        self._say(f"{self._place.name}: makes the repository")
        like = None
        if self._known.local.restic and self._known.local.restic.exists():
            like = self._local
        self._repository.ready(like)
        return []

    def _never_used(self) -> None:
        last = copies_history.last_arrival(self._place.name)
        if last is not None:
            raise RefusedError(
                f"The repository at {self._place.name} ({self._repository.location}) is gone: the"
                f" last copy arrived there {last[:16]} UTC.",
                hint="Is a disk not mounted there, or the path another one now? If it is lost,"
                f" `bedstone copy --destination {self._place.name} --new-repository` begins anew.",
            )

    def _app(self, app: App, backup: str | None, snapshots: list[Snapshot]) -> None:
        started = datetime.now(UTC)
        try:
            todo = self._todo(app, backup, snapshots)
        except (BedstoneError, OSError, sqlite3.Error) as error:
            self._failed(app.app, DUMP, backup, started, error)
            return
        for each in todo:
            self._say(f"{self._place.name}: {app.app}: sends {each.name}")
            self._backup(app.app, each, snapshots)

    def _todo(self, app: App, backup: str | None, snapshots: list[Snapshot]) -> list[Backup]:
        home = self._settings.directory / app.app
        there = copies.whole(snapshots, app.app)
        if backup is not None:
            found = catalog.load(catalog.resolve(home, backup))
            return [] if found.name in {remote.name for remote in there} else [found]
        return copies.missing(
            catalog.backups(home),
            there,
            app=app.app,
            settings=self._settings,
            known=kept.known(app.app, self._place.name),
        )

    def _backup(self, app: str, backup: Backup, there: Sequence[Snapshot]) -> None:
        started, begun = datetime.now(UTC), time.monotonic()
        try:
            sent = copies.send(self._repository, backup, local=self._local, there=there)
        except (BedstoneError, OSError) as error:
            self._failed(app, DUMP, backup.name, started, error)
            return
        size = backup.manifest.bytes if backup.manifest else 0
        said = f"{app}: {backup.name} in {time.monotonic() - begun:.1f} s"
        self._sent.append(_Sent(app, DUMP, backup.name, started, sent, said, size))

    def _configuration(self, there: Sequence[Snapshot]) -> None:
        started = datetime.now(UTC)
        directory = host_state.place() / CONFIGURATION
        try:
            self._say(f"{self._place.name}: sends the configuration")
            contents = host_state.collect(directory)
            name, sent = host_state.send(self._repository, contents, directory)
        except (BedstoneError, OSError, sqlite3.Error) as error:
            self._failed(SERVER, CONFIGURATION, None, started, error)
            return
        finally:
            files.remove_tree(directory)
        said = "the configuration of this server"
        self._sent.append(_Sent(SERVER, CONFIGURATION, name, started, sent, said))
        for app, release, image in host_state.missing_images(there, contents):
            self._image(app, release, image)

    def _image(self, app: str, release: str, image: str) -> None:
        if not host_state.has_docker():
            self.result.notes.append(
                f"the image of {app} isn't copied: there is no Docker on this server"
            )
            return
        started = datetime.now(UTC)
        archive = None
        try:
            self._say(f"{self._place.name}: sends the image of {app} {release}")
            archive = host_state.save_image(app, release, image, self._settings.reserve_bytes)
            sent = host_state.send_image(self._repository, app, release, archive)
        except (BedstoneError, OSError) as error:
            self._failed(app, IMAGE, release, started, error)
            return
        finally:
            if archive is not None:
                archive.unlink(missing_ok=True)
        said = f"{app}: the image of {release}"
        self._sent.append(_Sent(app, IMAGE, release, started, sent, said))

    def _read_back(self) -> list[Snapshot] | None:
        """Return the snapshots now at the destination, and judge by them what was sent."""
        try:
            seen = self._repository.snapshots()
        except (BedstoneError, OSError) as error:
            for sent in self._sent:
                self._failed(sent.app, sent.kind, sent.name, sent.started, error)
            return None
        for sent in self._sent:
            found = next((s for s in seen if s.id.startswith(sent.snapshot)), None)
            if found is None or not self._is_whole(sent, seen):
                lost = BedstoneError(
                    f"{sent.said} was sent to {self._place.name}, but isn't there."
                )
                self._failed(sent.app, sent.kind, sent.name, sent.started, lost)
                continue
            copies_history.record(
                sent.app,
                sent.kind,
                sent.name,
                self._place.name,
                sent.started,
                snapshot=found.id,
                size=sent.size,
            )
            self.result.sent.append(sent.said)
        return seen

    def _is_whole(self, sent: _Sent, seen: Sequence[Snapshot]) -> bool:
        whole = copies.whole(seen, sent.app)
        return sent.kind != DUMP or sent.name in {remote.name for remote in whole}

    def _forget(self, apps: Sequence[App], snapshots: list[Snapshot]) -> list[Snapshot]:
        """Remove obsolete copies and return the rest; a copy that stays is no error."""
        if self._place.immutable:
            # Retention is the other side's, which a server that was broken into can't change.
            return snapshots
        doomed: list[str] = []
        removed: list[str] = []
        try:
            for app in apps:
                there = copies.whole(snapshots, app.app)
                gone = copies.expired(
                    there,
                    app=app.app,
                    settings=self._settings,
                    known=kept.known(app.app, self._place.name),
                    protected={there[0].name} if there else (),
                )
                removed += [remote.name for remote in gone]
                doomed += [s.id for remote in gone for s in remote.snapshots.values()]
                doomed += copies.orphans(snapshots, app.app)
                doomed += uploads.obsolete(snapshots, app.app)
            doomed += copies.expired_configurations(snapshots, self._settings)
            names = [app.app for app in self._settings.apps]
            doomed += host_state.superfluous(snapshots, names)
            doomed += verification_reports.expired(snapshots)
            self._repository.forget(doomed)
            self.result.removed += removed
            if _prune_is_due(self._place.name):
                self._say(f"{self._place.name}: frees what no copy needs")
                self._repository.prune()
                _pruned(self._place.name)
        except (BedstoneError, OSError, sqlite3.Error) as error:
            text = error.message if isinstance(error, BedstoneError) else str(error)
            self.result.notes.append(f"old copies were not removed: {text}")
        return [snapshot for snapshot in snapshots if snapshot.id not in doomed]

    def _failed(
        self, app: str, kind: str, backup: str | None, started: datetime, error: Exception
    ) -> None:
        told = error if isinstance(error, BedstoneError) else BedstoneError(f"{error}.")
        self.result.problems.append(told)
        try:
            copies_history.record(app, kind, backup, self._place.name, started, error=told.message)
        except (BedstoneError, sqlite3.Error) as unrecorded:
            logger.warning("nothing was recorded: %s", unrecorded)


def _asked_since(moment: datetime) -> bool:
    try:
        return copies_history.asked_since(moment)
    except (BedstoneError, sqlite3.Error) as error:
        logger.warning("whether a copy was requested during this one is unknown: %s", error)
        return False


def _tidy(settings: Settings, local: Destination, say: Callable[[str], None]) -> None:
    """Free, once a week, what no backup of this server needs of its own repository."""
    if not destinations.has_key() or local.restic is None or not local.restic.exists():
        return
    if not _prune_is_due(local.name):
        return
    try:
        say("local: frees what no backup needs")
        for app in settings.apps:
            present = catalog.backups(settings.directory / app.app)
            media_snapshots.forget(app.app, (), present)
        Repository(local).prune()
        _pruned(local.name)
    except BedstoneError as error:
        logger.warning("local: nothing was freed: %s", error.text())


def _mark(destination: str) -> Path:
    return paths.state() / "pruned" / destination


def _prune_is_due(destination: str) -> bool:
    mark = _mark(destination)
    try:
        return abs(time.time() - mark.stat().st_mtime) > _WEEK
    except FileNotFoundError:
        # A new repository has nothing to free.
        _pruned(destination)
        return False


def _pruned(destination: str) -> None:
    mark = _mark(destination)
    paths.ensure_private(mark.parent)
    mark.touch()
