"""Upgrade PostgreSQL to its next minor or a newer major version, or undo it: `bedstone upgrade`."""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from bedstone.backup import settings as backup_settings
from bedstone.backup.create import server_of
from bedstone.cli import main
from bedstone.core import lock, names, paths
from bedstone.core.errors import BedstoneError, RefusedError
from bedstone.core.signals import terminable
from bedstone.postgres.debian_cluster import AUTOMATIC, NAME, Cluster
from bedstone.system import unit_run
from bedstone.system.systemd import Systemd
from bedstone.upgrade import journal, minor, pending, preflight, rehearsal
from bedstone.upgrade import major as carry

if TYPE_CHECKING:
    from bedstone.backup.settings import Settings
    from bedstone.upgrade.journal import Journal


def register(subparsers: main.Subparsers) -> None:
    """Add the command."""
    parser = main.add_command(
        subparsers,
        "upgrade",
        run,
        summary="bring PostgreSQL to its next minor version, or to a newer major one",
        description=(
            "Without --to: installs the minor version that waits, after a backup, and says how\n"
            "long the database was away.\n\n"
            "With --to: looks for everything that stands in the way, rehearses (pg_upgrade looks\n"
            "at the running cluster, the newest backups are restored with the new version), says\n"
            "how long the apps will be dark, and asks. Then maintenance page, a last backup, a\n"
            "copy of the cluster, comparison, switch. What fails or is killed leaves the old\n"
            "cluster serving. The old one is kept, stopped, until --drop-old.\n\n"
            "Exit code 3: refused, and nothing was touched."
        ),
        examples=(
            "bedstone upgrade postgresql                      # the minor version that waits",
            "bedstone upgrade postgresql --to 17 --rehearse   # any time: nobody notices",
            "bedstone upgrade postgresql --to 17",
            "bedstone upgrade postgresql --back               # to the cluster of before",
            "bedstone upgrade postgresql --drop-old           # no way back from here",
        ),
    )
    parser.add_argument("what", metavar="postgresql", choices=("postgresql",))
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--to", metavar="MAJOR", type=int, help="a newer major version, such as 17")
    how.add_argument(
        "--back", action="store_true", help="let the cluster of before the upgrade serve again"
    )
    how.add_argument(
        "--drop-old", action="store_true", help="remove the cluster that serves no longer"
    )
    how.add_argument("--carry-out", action="store_true", help=argparse.SUPPRESS)
    how.add_argument("--settle", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--rehearse", action="store_true", help="with --to: only look and rehearse")
    parser.add_argument("--yes", action="store_true", help="don't ask")


def run(arguments: argparse.Namespace) -> int:
    """Carry out the requested upgrade, rehearsal or undo."""
    settings = backup_settings.load()
    if arguments.rehearse and arguments.to is None:
        raise BedstoneError(
            "--rehearse goes with --to.", hint="`bedstone upgrade postgresql --to 17 --rehearse`"
        )
    with terminable():
        if arguments.carry_out:
            carry.carry_out(settings)
        elif arguments.settle:
            carry.settle(settings)
        else:
            _require_nothing_under_way()
            if arguments.to is not None:
                return _to(settings, arguments.to, only=arguments.rehearse, yes=arguments.yes)
            if arguments.back:
                return _back(settings, yes=arguments.yes)
            if arguments.drop_old:
                return _drop(settings, yes=arguments.yes)
            return _minor(settings, yes=arguments.yes)
    return 0


def _require_nothing_under_way() -> None:
    if (owner := lock.owner(journal.LOCK)) is not None:
        raise lock.LockedError(
            f"{owner.words()} is at work.", hint=f"`journalctl -fu {names.UPGRADE_UNIT}` looks on."
        )
    if journal.load() is not None:
        print("An upgrade was interrupted; it is settled first.", file=sys.stderr, flush=True)
        _follow()
        if journal.load() is not None:
            raise BedstoneError(
                "The interrupted upgrade could not be settled.",
                hint=f"See `journalctl -u {names.UPGRADE_UNIT}`.",
            )


def _minor(settings: Settings, *, yes: bool) -> int:
    server = server_of(settings)
    found = pending.waiting(server.major())
    if found is None:
        print(f"PostgreSQL {server.version()} is the newest that apt knows (`apt-get update`).")
        return 0
    for obstacle in preflight.busy(settings):
        raise RefusedError(f"The database isn't restarted now: {obstacle}.")
    _ask(
        f"{found.package} {found.installed} becomes {found.candidate}. The database restarts: it"
        " is away for some seconds, open requests fail.",
        "yes",
        yes=yes,
    )
    seconds = minor.install(settings, found)
    print(f"PostgreSQL {server.version()} serves. The database was away for {seconds:.1f} s.")
    return 0


def _to(settings: Settings, major: int, *, only: bool, yes: bool) -> int:
    source, target = preflight.check(settings, major)
    _require_unit()
    found = None if only else rehearsal.recent(source, target)
    if found is None:
        found = rehearsal.rehearse(settings, source, target)
    minutes = max(round(found["dark_seconds"] / 60), 1)
    print(
        f"The rehearsal of {found['at']} went well. The apps will be closed for"
        f" {minutes} minute{'s' * (minutes > 1)} at most, about.",
        flush=True,
    )
    if only:
        return 0
    _ask(
        f"PostgreSQL {source.major} becomes {target.major}: all apps of this server are closed"
        " (maintenance page), a last backup is made, the cluster is copied and compared. Whatever"
        f" fails, {source.major} serves again.",
        str(target.major),
        yes=yes,
    )
    # The operator may have taken an hour to answer.
    preflight.check(settings, major)
    return _ask_unit(Cluster(source.major), target, settings, back=False)


def _back(settings: Settings, *, yes: bool) -> int:
    last = journal.recorded("last")
    serving = preflight.serving(settings)
    other = Cluster(int(last["other"])) if last else None
    if last is None or other is None or other == serving or not other.exists:
        raise RefusedError(
            "There is no cluster of before an upgrade to go back to.",
            hint="It is there from an upgrade until `--drop-old`. Further back lead only backups"
            " (`bedstone restore`).",
        )
    if not other.installed:
        raise RefusedError(
            f"The programs of PostgreSQL {other.major} aren't installed any longer.",
            hint=f"`apt-get install postgresql-{other.major}`.",
        )
    _require_unit()
    _ask(
        f"PostgreSQL {other.major} serves again, with the data of {last['at']}. EVERYTHING WRITTEN"
        f" SINCE IS MISSING THERE; it is kept in {serving.name}, stopped.",
        str(other.major),
        yes=yes,
    )
    return _ask_unit(serving, other, settings, back=True)


def _drop(settings: Settings, *, yes: bool) -> int:
    last = journal.recorded("last")
    serving = preflight.serving(settings)
    other = Cluster(int(last["other"])) if last else None
    if other is None or other == serving or not other.exists:
        raise RefusedError("There is no cluster of before an upgrade.")
    if other.running() or other.starts() == AUTOMATIC:
        raise RefusedError(
            f"{other.name} runs, or starts at boot: somebody uses it.",
            hint=f"`pg_lsclusters`; `pg_dropcluster --stop {other.major} {NAME}` removes it.",
        )
    only = (
        f" IT ALONE HOLDS what was written to it until {last['at']}."
        if last and last["why"] == "back"
        else ""
    )
    _ask(
        f"{other.name} is removed with its data; there is no way back to it afterwards.{only}"
        f" PostgreSQL {serving.major} goes on serving.",
        str(other.major),
        yes=yes,
    )
    with lock.held(journal.LOCK, "bedstone upgrade postgresql --drop-old"):
        other.drop()
        journal.forget("last")
    print(
        f"{other.name} is removed. Its packages can go: `apt-get purge postgresql-{other.major}"
        f" postgresql-client-{other.major}`."
    )
    return 0


def _ask_unit(source: Cluster, target: Cluster, settings: Settings, *, back: bool) -> int:
    begun = time.monotonic()
    wanted: Journal = journal.Journal(
        source=source.major,
        target=target.major,
        port=settings.port,
        back=back,
        caller=lock.caller(),
    ).saved()
    result = _follow()
    if result.get("Result") != "success" or journal.load() is not None:
        raise BedstoneError(
            f"The {'way back' if back else 'upgrade'} to PostgreSQL {wanted.target} failed; the"
            " lines above say why, and what serves.",
            hint=f"`journalctl -u {names.UPGRADE_UNIT}` has all of it.",
        )
    print(f"Done in {time.monotonic() - begun:.0f} s.")
    return 0


def _follow() -> dict[str, str]:
    return unit_run.run(names.UPGRADE_UNIT, Systemd())


def _require_unit() -> None:
    if not paths.host(f"/etc/systemd/system/{names.UPGRADE_UNIT}").exists():
        raise RefusedError(
            f"The unit {names.UPGRADE_UNIT} isn't on this server, in which an upgrade runs.",
            hint="Run the playbook `provision.yml`, whose role `postgresql` writes it.",
        )


def _ask(text: str, answer: str, *, yes: bool) -> None:
    print(text, file=sys.stderr)
    if yes:
        return
    if not sys.stdin.isatty():
        raise RefusedError(
            "This asks before it begins, and nobody is there to answer.",
            hint="Add --yes when you are sure.",
        )
    said = ""
    with suppress(EOFError):
        said = input(f"Type {answer} to go on: ")
    if said.strip() != answer:
        raise RefusedError(f"That wasn't {answer}: nothing was touched.")
