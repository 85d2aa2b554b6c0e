"""``bedstone verify``: restore a backup where it harms nobody, and look at what came out.

What was never restored is not known to be a backup. So each week the newest one of each app is
restored into a cluster of its own, which is gone afterwards; production is neither asked nor
touched.
"""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bedstone import (
    backup_settings,
    ledger,
    lock,
    space,
    throwaway_place,
    verify_choice,
    verify_history,
    verify_limit,
    verify_parts,
    verify_settings,
)
from bedstone.cli import add_command
from bedstone.errors import BedstoneError, CommandError, RefusedError
from bedstone.interrupts import terminable
from bedstone.run import run
from bedstone.throwaway import ThrowawayError
from bedstone.verify_choice import NothingToVerifyError
from bedstone.verify_history import DUMP, LOCAL, MEDIA, Verification
from bedstone.verify_limit import OutOfTimeError
from bedstone.verify_parts import Proof

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

    from bedstone.backup_settings import App, Settings
    from bedstone.catalogue import Backup
    from bedstone.cli import Subparsers
    from bedstone.manifest import Manifest
    from bedstone.verify_settings import VerifySettings

# No app's name has a dot.
LOCK = "verify.throwaway"

_NICE = 19
_SHOWN = 20
_HINT = (
    "Don't count on this backup. Make a new one (`bedstone backup {app}`) and verify it;"
    " `bedstone backups {app} --check` tells which others are intact."
)


@dataclass(frozen=True)
class Result:
    """How the verification of one part of a backup went.

    Attributes:
        entry: what the ledger gets.
        path: the backup's directory, or None when there is none.
        said: what was proved, or nothing.
        problem: what was wrong, or None.

    """

    entry: Verification
    path: str | None
    said: str
    problem: BedstoneError | None

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            **asdict(self.entry),
            "path": self.path,
            "said": self.said,
            "hint": self.problem.hint if self.problem else None,
            "details": self.problem.details if self.problem else "",
        }


def register(subparsers: Subparsers) -> None:
    """Add the command to the command line."""
    parser = add_command(
        subparsers,
        "verify",
        _command,
        summary="prove backups by restoring them where they harm nobody",
        description=(
            "Takes the newest full backup of each app, checks every byte of it, restores its dump\n"
            "into a throwaway PostgreSQL cluster (own directory, own socket, no network) and\n"
            "compares the rows of every table, asks the app's `backup_checks`, looks for broken\n"
            "tables and indexes (amcheck), unpacks the media and counts. Then all of it is\n"
            "removed. Production is not touched. Runs at the lowest priority.\n\n"
            "The ledger keeps how it went; `bedstone backups` and `bedstone status` show it.\n\n"
            "Exit code 1: a backup isn't what it should be; 3: it could not be found out (no\n"
            "room, no time, no backup, or another verification is running)."
        ),
        examples=(
            "bedstone verify",
            "bedstone verify payments",
            "bedstone verify payments --backup backup_20261120_020000",
            "bedstone verify --json | jq '.verifications[] | select(.state != \"succeeded\")'",
        ),
    )
    parser.add_argument(
        "app", metavar="APP", nargs="*", help="the apps (default: all of this server)"
    )
    parser.add_argument(
        "--backup",
        metavar="NAME",
        default="latest",
        help="a name that `bedstone backups` lists, or a path (default: latest)",
    )
    parser.add_argument(
        "--clean-up",
        action="store_true",
        help="only remove what a killed verification left, if there is something",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def verify(
    settings: Settings,
    how: VerifySettings,
    app: str,
    wanted: str = "latest",
    *,
    seconds: float | None = None,
) -> list[Result]:
    """Verify one backup of an app and record how it went. The caller holds :data:`LOCK`.

    Args:
        settings: this server's.
        how: how backups are verified.
        app: whose backup.
        wanted: ``latest``, a name or a path.
        seconds: longest time (default: that of the settings).

    Returns:
        A result for each part of the backup; one that is no success tells why.

    Raises:
        RefusedError: there is no backup of this name.

    """
    entry = settings.app(app)
    results = []
    for result in _each(settings, how, entry, wanted, seconds or how.limit_seconds):
        results.append(result)
        if _is_ours(settings, app, result.path):
            _remember(result.entry)
    return results


def _each(
    settings: Settings, how: VerifySettings, app: App, wanted: str, seconds: float
) -> Iterator[Result]:
    deadline = time.monotonic() + seconds
    watch = _watching(how, settings)
    # Until the backup is known, all parts that the app should have are concerned.
    parts: Sequence[str] = [
        *([DUMP] if app.database else []),
        *([MEDIA] if app.media else []),
    ]
    clock = _Clock()
    try:
        chosen, notes = verify_choice.choose(
            settings.directory / app.app, app, wanted, verify_choice.restore_points(app.app)
        )
    except NothingToVerifyError as error:
        yield from [_result(app, kind, None, clock, error) for kind in parts]
        return
    for note in notes:
        print(f"bedstone: {app.app}: {note}", file=sys.stderr)
    try:
        found = _checked(app, chosen)
        parts = verify_history.kinds(found)
        space.require(
            how.directory,
            verify_parts.needed_bytes(found),
            settings.reserve_bytes,
            f"The verification of {chosen.name}",
        )
        with verify_limit.limit(deadline - time.monotonic(), _what(app)):
            wrong = verify_parts.damages(chosen, found)
    except (BedstoneError, OSError) as error:
        yield from [_result(app, kind, chosen, clock, error) for kind in parts]
        return
    except KeyboardInterrupt as error:
        yield from [_result(app, kind, chosen, clock, _ended(error)) for kind in parts]
        raise
    for kind in parts:
        clock = _Clock()
        try:
            _refuse(chosen, wrong.get(kind))
            proof = _prove(settings, how, app, chosen, kind, deadline, watch)
        except (BedstoneError, OSError) as error:
            yield _result(app, kind, chosen, clock, _vanished(chosen) or error)
        except KeyboardInterrupt as error:
            yield _result(app, kind, chosen, clock, _ended(error))
            raise
        else:
            yield _result(app, kind, chosen, clock, proof)


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
    if not verify_history.kinds(backup.manifest):
        raise BedstoneError(f"{backup.path} holds neither a dump nor media.")
    return backup.manifest


def _prove(
    settings: Settings,
    how: VerifySettings,
    app: App,
    backup: Backup,
    kind: str,
    deadline: float,
    watch: Callable[[], None],
) -> Proof:
    found = backup.manifest
    assert found is not None
    with (
        throwaway_place.place(how.directory, app=app.app, backup=backup.name, part=kind) as place,
        verify_limit.limit(deadline - time.monotonic(), _what(app)),
    ):
        if kind == DUMP:
            assert found.database is not None
            return verify_parts.prove_dump(
                backup,
                found.database,
                app,
                place,
                checks=how.checks.get(app.app, ()),
                jobs=settings.jobs,
                watch=watch,
            )
        assert found.media is not None
        return verify_parts.prove_media(backup, found.media, place, watch=watch)


def _watching(how: VerifySettings, settings: Settings) -> Callable[[], None]:
    return lambda: space.still(how.directory, settings.reserve_bytes, "The verification")


def _what(app: App) -> str:
    return f"The verification of {app.app}"


class _Clock:
    """When something began."""

    def __init__(self) -> None:
        self.started = datetime.now(UTC)
        self._began = time.monotonic()

    def seconds(self) -> float:
        """Return how long it has taken, whatever the server's clock did."""
        return round(time.monotonic() - self._began, 1)


def _result(
    app: App, kind: str, backup: Backup | None, clock: _Clock, outcome: Proof | Exception
) -> Result:
    proof = outcome if isinstance(outcome, Proof) else None
    problem = None if isinstance(outcome, Proof) else _as_problem(app, outcome)
    state = "succeeded" if problem is None else "prevented" if _prevents(problem) else "failed"
    error = None
    if problem is not None:
        error = "\n".join([problem.message, *problem.details.splitlines()[:3]])
    return Result(
        entry=Verification(
            app=app.app,
            kind=kind,
            backup=backup.name if backup else None,
            destination=LOCAL,
            state=state,
            started_at=clock.started.isoformat(),
            finished_at=datetime.now(UTC).isoformat(),
            seconds=clock.seconds(),
            rows=proof.rows if proof else None,
            bytes=proof.bytes if proof else None,
            error=error,
        ),
        path=str(backup.path) if backup else None,
        said=proof.said if proof else "",
        problem=problem,
    )


def _as_problem(app: App, error: Exception) -> BedstoneError:
    """Return what went wrong with a hint; a disk that is full is told as that."""
    if isinstance(error, OSError):
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return _full(str(error))
        error = BedstoneError(f"It could not be verified: {error}.")
    assert isinstance(error, BedstoneError)
    if os.strerror(errno.ENOSPC) in f"{error.message}\n{error.details}":
        return _full(error.details or error.message)
    if error.hint is None and not _prevents(error):
        return BedstoneError(error.message, _HINT.format(app=app.app), error.details)
    return error


def _full(details: str) -> space.DiskFullError:
    return space.DiskFullError(
        "The verification was stopped: the disk is full.",
        hint="Make room (`df -h`), or verify on another disk (`backup_verify_directory`).",
        details=details,
    )


def _prevents(error: BedstoneError) -> bool:
    """Return whether an error says nothing about the backup itself."""
    return isinstance(error, (RefusedError, OutOfTimeError, ThrowawayError, _EndedError))


class _EndedError(BedstoneError):
    """Somebody, or a shutdown, ended it."""


def _ended(error: KeyboardInterrupt) -> _EndedError:
    del error
    return _EndedError("It was ended before it was through.")


def _vanished(backup: Backup) -> BedstoneError | None:
    if backup.path.exists():
        return None
    return NothingToVerifyError(
        f"{backup.name} was removed while it was being verified.",
        hint="Its time was over, or somebody removed it: verify the newest one.",
    )


def _is_ours(settings: Settings, app: str, path: str | None) -> bool:
    # What lies elsewhere is proved, too, but is none of this server's backups.
    return path is None or Path(path).resolve().parent == (settings.directory / app).resolve()


def _remember(entry: Verification) -> None:
    try:
        verify_history.record(entry)
    except (BedstoneError, sqlite3.Error) as error:
        print(f"bedstone: the ledger didn't take the record: {error}", file=sys.stderr)


@contextmanager
def _alone(purpose: str) -> Iterator[None]:
    try:
        with lock.held(LOCK, purpose):
            yield
    except lock.LockedError as error:
        holder = lock.owner(LOCK)
        raise lock.LockedError(
            f"Another verification is running: {holder.words()}." if holder else error.message,
            hint="One at a time is enough for this server. Wait until it is through.",
        ) from None


def _clear(how: VerifySettings) -> None:
    """Remove what killed runs left, and record that they were killed."""
    for about in throwaway_place.clear(how.directory):
        print(
            f"bedstone: removed what an interrupted verification of {about.get('app')} left.",
            file=sys.stderr,
        )
        moment = datetime.now(UTC).isoformat()
        _remember(
            Verification(
                app=str(about.get("app")),
                kind=str(about.get("part")),
                backup=about.get("backup"),
                destination=LOCAL,
                state="prevented",
                started_at=str(about.get("since") or moment),
                finished_at=moment,
                seconds=0.0,
                error="It was killed before it was through.",
            )
        )


def _longest_ago_first(names: Sequence[str]) -> list[str]:
    """Return the apps in such an order that each has its turn, even if time is short."""
    last: dict[str, str] = {}
    with suppress(BedstoneError, sqlite3.Error), ledger.opened() as connection:
        for name in names:
            attempts = verify_history.of_app(connection, name)
            last[name] = attempts[0].finished_at if attempts else ""
    return sorted(dict.fromkeys(names), key=lambda name: last.get(name, ""))


def _lowest_priority() -> None:
    os.nice(_NICE)
    # In a container without the right to, it is only less polite.
    with suppress(CommandError):
        run(["ionice", "--class", "3", "--pid", str(os.getpid())], check=False)


def _command(arguments: argparse.Namespace) -> int:
    settings = backup_settings.load()
    how = verify_settings.load()
    names = arguments.app or [entry.app for entry in settings.apps]
    for name in names:
        settings.app(name)
    if arguments.backup != "latest" and len(names) != 1:
        raise RefusedError(
            "--backup names one backup of one app.",
            hint="Say which: `bedstone verify payments --backup backup_20261120_020000`.",
        )
    _lowest_priority()
    with terminable(), _alone(f"bedstone verify {' '.join(arguments.app)}".rstrip()):
        _clear(how)
        if arguments.clean_up:
            return 0
        results = []
        deadline = time.monotonic() + how.limit_seconds
        for name in _longest_ago_first(names):
            left = max(deadline - time.monotonic(), 0.001)
            for result in verify(settings, how, name, arguments.backup, seconds=left):
                results.append(result)
                if not arguments.json:
                    _tell(result)
    if arguments.json:
        shown = [result.as_json() for result in results]
        whole = all(result.problem is None for result in results)
        print(json.dumps({"ok": whole, "verifications": shown}, indent=2))
    elif not names:
        print("There is nothing to verify: no app on this server has data.")
    states = {result.entry.state for result in results}
    return 1 if "failed" in states else 3 if "prevented" in states else 0


def _tell(result: Result) -> None:
    entry = result.entry
    of_what = f"the {entry.kind} of {entry.backup}" if entry.backup else f"the {entry.kind}"
    if result.problem is None:
        print(
            f"{entry.app}: {of_what} is verified in {entry.seconds:.1f} s: {result.said}.",
            flush=True,
        )
        return
    verdict = "FAILED" if entry.state == "failed" else "could not be verified"
    print(f"bedstone: {entry.app}: {of_what} {verdict}: {result.problem.text()}", file=sys.stderr)
