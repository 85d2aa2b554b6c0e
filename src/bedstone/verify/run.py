"""Verify backups: restore each where it can do no harm, and check the result.

A backup that was never restored is not verified. So each week the newest one of each app is fetched
from each destination and restored into a temporary cluster, which is removed afterwards; and so is
the cluster that the WAL leads to. Production is neither asked nor touched.

"""

from __future__ import annotations

import logging
import sqlite3
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from bedstone.backup import manifest, verify_settings
from bedstone.core import deadline, disk, lock, paths, scratch
from bedstone.core.errors import BedstoneError
from bedstone.ledger import verifications
from bedstone.ledger.kinds import DUMP, MEDIA, SERVER, WAL
from bedstone.ledger.verifications import LOCAL, Verification
from bedstone.storage import destinations
from bedstone.verify import checks, choose
from bedstone.verify import result as verify_result
from bedstone.verify import wal as verify_wal_part
from bedstone.verify.choose import NothingToVerifyError
from bedstone.verify.result import Clock, Result, ended

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from contextlib import AbstractContextManager

    from bedstone.backup.catalog import Backup
    from bedstone.backup.manifest import Manifest
    from bedstone.backup.settings import App, Settings
    from bedstone.backup.verify_settings import VerifySettings
    from bedstone.storage.destinations import Destination
    from bedstone.verify.checks import Proof
    from bedstone.wal.stanza import Stanza

logger = logging.getLogger(__name__)

# No app's name has a dot.
LOCK = "verify.throwaway"

_SHOWN = 20
KINDS = (DUMP, MEDIA, WAL)


def verify(
    settings: Settings,
    how: VerifySettings,
    app: str,
    wanted: str = "latest",
    *,
    destination: Destination | None = None,
    kinds: Collection[str] = KINDS,
    seconds: float | None = None,
) -> list[Result]:
    """Verify one backup of an app and record how it went. The caller holds :data:`LOCK`.

    Args:
        settings: this server's.
        how: how backups are verified.
        app: whose backup.
        wanted: ``latest``, a name or a path.
        destination: fetched from there; None for this server.
        kinds: the parts.
        seconds: longest time (default: that of the settings).

    Returns:
        A result for each part of the backup; one that is no success has the cause.

    Raises:
        RefusedError: there is no backup of this name.

    """
    entry = settings.app(app)
    place = destination or destinations.load().local
    results = []
    attempt = _Attempt(settings, how, entry, place, seconds or how.limit_seconds)
    for result in attempt.each(wanted, kinds):
        results.append(result)
        if _is_ours(settings, app, result.path):
            _remember(result.entry)
    return results


def verify_wal(
    settings: Settings,
    how: VerifySettings,
    stanza: Stanza,
    destination: Destination,
    *,
    seconds: float | None = None,
) -> list[Result]:
    """Verify the WAL at a destination and record how it went. The caller holds :data:`LOCK`."""
    clock = Clock()
    label: str | None = None

    def told(outcome: Proof | BaseException) -> Result:
        return verify_result.from_error(SERVER, WAL, label, None, destination.name, clock, outcome)

    what = f"The verification of the WAL at {destination.name}"
    try:
        with (
            deadline.limit(seconds or how.limit_seconds, what),
            scratch.place(
                how.directory,
                app=SERVER,
                part=WAL,
                destination=destination.name,
                origin=paths.origin(),
            ) as place,
        ):
            newest = stanza.info(destination).newest
            label = newest.label if newest else None
            outcome: Proof | BaseException = verify_wal_part.prove(
                settings, how, stanza, destination, place, watch=_watching(how, settings)
            )
    except (BedstoneError, OSError) as error:
        outcome = error
    except KeyboardInterrupt as error:
        _remember(told(ended(error)).entry)
        raise
    result = told(outcome)
    _remember(result.entry)
    return [result]


class _Attempt:
    """The verification of one backup, of which not even the name may be known yet."""

    def __init__(
        self, settings: Settings, how: VerifySettings, app: App, place: Destination, seconds: float
    ) -> None:
        self.settings = settings
        self.how = how
        self.app = app
        self.place = place
        self.deadline = time.monotonic() + seconds
        self.chosen: Backup | None = None
        self.fetching = choose.Fetching()

    def watch(self) -> None:
        """Watch the disk space."""
        disk.still(self.how.directory, self.settings.reserve_bytes, "The verification")

    def limit(self) -> AbstractContextManager[None]:
        """Return a block that may take what is left of the time."""
        what = f"The verification of {self.app.app}"
        return deadline.limit(self.deadline - time.monotonic(), what)

    def result(self, kind: str, clock: Clock, outcome: Proof | Exception) -> Result:
        """Return how it went with a part."""
        name = self.chosen.name if self.chosen else self.fetching.name
        path = str(self.chosen.path) if self.chosen and self.place.is_local else None
        return verify_result.from_error(
            self.app.app, kind, name, path, self.place.name, clock, outcome
        )

    def each(self, wanted: str, kinds: Collection[str]) -> Iterator[Result]:
        """Yield how it went with each part."""
        # Until the backup is known, all parts that the app should have are concerned.
        parts: list[str] = [
            *([DUMP] if self.app.database and DUMP in kinds else []),
            *([MEDIA] if self.app.media and MEDIA in kinds else []),
        ]
        if not parts:
            return
        clock = Clock()
        with ExitStack() as stack:
            try:
                with self.limit():
                    self.chosen, notes = stack.enter_context(self._chosen(wanted))
            except (BedstoneError, OSError) as error:
                if self.place.is_local and not isinstance(error, NothingToVerifyError):
                    raise
                yield from [self.result(kind, clock, error) for kind in parts]
                return
            except KeyboardInterrupt as error:
                yield from [self.result(kind, clock, ended(error)) for kind in parts]
                raise
            for note in notes:
                logger.warning("%s: %s", self.app.app, note)
            yield from self._parts(self.chosen, parts, kinds, clock)

    def _parts(
        self, chosen: Backup, parts: list[str], kinds: Collection[str], clock: Clock
    ) -> Iterator[Result]:
        try:
            found = _checked(self.app, chosen)
            parts = [kind for kind in manifest.kinds(found) if kind in kinds]
            disk.require(
                self.how.directory,
                checks.needed_bytes(found),
                self.settings.reserve_bytes,
                f"The verification of {chosen.name}",
            )
            with self.limit():
                wrong = checks.damages(chosen, found)
        except (BedstoneError, OSError) as error:
            yield from [self.result(kind, clock, error) for kind in parts]
            return
        except KeyboardInterrupt as error:
            yield from [self.result(kind, clock, ended(error)) for kind in parts]
            raise
        for kind in parts:
            clock = Clock()
            try:
                _refuse(chosen, wrong.get(kind))
                proof = self._prove(chosen, found, kind)
            except (BedstoneError, OSError) as error:
                yield self.result(kind, clock, _vanished(chosen) or error)
            except KeyboardInterrupt as error:
                yield self.result(kind, clock, ended(error))
                raise
            else:
                yield self.result(kind, clock, proof)

    @contextmanager
    def _chosen(self, wanted: str) -> Iterator[tuple[Backup, list[str]]]:
        """Find the backup, and fetch it when it is elsewhere; what was fetched goes afterwards."""
        name = self.app.app
        if self.place.is_local:
            yield choose.choose(
                self.settings.directory / name,
                self.app,
                wanted,
                choose.restore_points(name),
            )
            return
        with self._place(DUMP, None) as directory:
            yield choose.fetch(
                self.place, self.app, wanted, directory / "fetched", self.fetching,
                watch=self.watch,
            )  # fmt: skip

    def _prove(self, backup: Backup, found: Manifest, kind: str) -> Proof:
        with self._place(kind, backup.name) as place, self.limit():
            if kind == DUMP:
                assert found.database is not None
                return checks.prove_dump(
                    backup,
                    found.database,
                    self.app,
                    place,
                    checks=self.how.checks.get(self.app.app, ()),
                    jobs=self.settings.jobs,
                    watch=self.watch,
                )
            assert found.media is not None
            return checks.prove_media(
                backup, found.media, place, destination=self.place.name, watch=self.watch
            )

    def _place(self, kind: str, backup: str | None) -> AbstractContextManager[Path]:
        return scratch.place(
            self.how.directory,
            app=self.app.app,
            backup=backup,
            part=kind,
            destination=self.place.name,
            origin=paths.origin(),
        )


def _refuse(backup: Backup, damages: Sequence[str] | None) -> None:
    if damages:
        raise BedstoneError(
            f"{backup.path} is damaged: {damages[0]}.", details="\n".join(damages[1:_SHOWN])
        )


def _checked(app: App, backup: Backup) -> Manifest:
    if backup.manifest is None:
        raise BedstoneError(backup.problem or f"{backup.path} isn't a backup.")
    if backup.manifest.app != app.app:
        raise BedstoneError(
            f"{backup.path} is a backup of {backup.manifest.app}, not of {app.app}.",
            hint="Somebody has put it there: see whose it is, and move it back.",
        )
    if not manifest.kinds(backup.manifest):
        raise BedstoneError(f"{backup.path} holds neither a dump nor media.")
    return backup.manifest


def _watching(how: VerifySettings, settings: Settings) -> Callable[[], None]:
    return lambda: disk.still(how.directory, settings.reserve_bytes, "The verification")


def _vanished(backup: Backup) -> BedstoneError | None:
    if backup.path.exists():
        return None
    return NothingToVerifyError(
        f"{backup.name} was removed while it was being verified.",
        hint="Its time was over, or somebody removed it: verify the newest one.",
    )


def _is_ours(settings: Settings, app: str, path: str | None) -> bool:
    # Copies elsewhere are verified, too, but are none of this server's backups.
    return path is None or Path(path).resolve().parent == (settings.directory / app).resolve()


def _remember(entry: Verification) -> None:
    try:
        if paths.origin() is not None:
            entry = replace(entry, host=verify_settings.load().host)
        verifications.record(entry)
    except (BedstoneError, sqlite3.Error) as error:
        logger.warning("the ledger didn't take the record: %s", error)


@contextmanager
def alone(purpose: str, *, wait_seconds: float = 0) -> Iterator[None]:
    """Hold :data:`LOCK` for a block; a refused caller gets the holder in the message."""
    try:
        with lock.held(LOCK, purpose, wait_seconds=wait_seconds):
            yield
    except lock.LockedError as error:
        holder = lock.owner(LOCK)
        raise lock.LockedError(
            f"Another verification is running: {holder.words()}." if holder else error.message,
            hint="One at a time is enough for this server. Wait until it is through.",
        ) from None


def clear(how: VerifySettings) -> None:
    """Remove what killed runs left, and record that they were killed."""
    for about in scratch.clear(how.directory):
        logger.warning(
            "removed what an interrupted verification of %s left.", about.get("app") or "the WAL"
        )
        moment = datetime.now(UTC).isoformat()
        # One directory is shared by the verifications of all origins.
        with paths.of_origin(about.get("origin")):
            _remember(
                Verification(
                    app=str(about.get("app")),
                    kind=str(about.get("part")),
                    backup=about.get("backup"),
                    destination=str(about.get("destination") or LOCAL),
                    state="prevented",
                    started_at=str(about.get("since") or moment),
                    finished_at=moment,
                    seconds=0.0,
                    error="It was killed before it was through.",
                )
            )
