"""Parse the command line and run the command.

Each command module has ``register(subparsers)``, which adds its parser and sets
``func`` to a callable that takes the parsed arguments and returns the exit code.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Any

from bedstone import __version__
from bedstone.cli import logs
from bedstone.core import errors
from bedstone.core.errors import BedstoneError
from bedstone.ledger import database

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001

logger = logging.getLogger(__name__)

# Command -> module. Only the module of the command that is called is imported: where
# no compiled modules can be had, each import from the zipapp is compiled again.
COMMANDS: dict[str, str] = {
    "status": "bedstone.cli.status",
    "alarms": "bedstone.cli.alarms",
    "metrics": "bedstone.cli.metrics",
    "certificates": "bedstone.cli.certificates",
    "release": "bedstone.cli.release",
    "rollback": "bedstone.cli.rollback",
    "restart": "bedstone.cli.rollback",
    "watch": "bedstone.cli.operation",
    "settle": "bedstone.cli.operation",
    "operation": "bedstone.cli.operation",
    "releases": "bedstone.cli.releases",
    "logs": "bedstone.cli.daily",
    "exec": "bedstone.cli.daily",
    "run": "bedstone.cli.daily",
    "console": "bedstone.cli.daily",
    "job": "bedstone.cli.job",
    "maintenance": "bedstone.cli.maintenance",
    "notify": "bedstone.cli.notify",
    "retire": "bedstone.cli.retire",
    "ledger": "bedstone.cli.ledger",
    "supervise": "bedstone.cli.supervise",
    "backup": "bedstone.cli.backup",
    "backups": "bedstone.cli.backups",
    "restore": "bedstone.cli.restore",
    "verify": "bedstone.cli.verify",
    "copy": "bedstone.cli.destinations",
    "destinations": "bedstone.cli.destinations",
    "wal": "bedstone.cli.wal",
    "summary": "bedstone.cli.summary",
    "retention": "bedstone.cli.retention",
    "rebuild": "bedstone.cli.rebuild",
    "upgrade": "bedstone.cli.upgrade",
    "compare-squash": "bedstone.cli.compare_squash",
    "replica": "bedstone.cli.replica",
    "promote": "bedstone.cli.replica",
    "demote": "bedstone.cli.replica",
}

# These only read, work in the serving release, or reconcile: none needs a readable ledger.
WITHOUT_LEDGER = {
    *(
        "status",
        "alarms",
        "summary",
        "metrics",
        "certificates",
        "releases",
        "logs",
        "watch",
        "settle",
        "maintenance",
        "notify",
        "compare-squash",
    ),
    *("replica", "promote", "demote"),
    *("console", "run", "exec", "job"),
}

# Their units have SyslogLevelPrefix=no, for an app's own lines: there a priority would be text.
WITHOUT_PRIORITIES = {"supervise", "job"}

# The user's purpose -> its commands, as `bedstone --help` lists them.
GROUPS: dict[str, tuple[str, ...]] = {
    "look": ("status", "alarms", "summary", "releases", "logs", "watch", "metrics"),
    "change what serves": (
        "release",
        "rollback",
        "restart",
        "maintenance",
        "certificates",
        "settle",
        "retire",
    ),
    "work in an app": ("console", "run", "exec", "job"),
    "data": (
        "backup",
        "backups",
        "verify",
        "restore",
        "copy",
        "destinations",
        "retention",
        "rebuild",
        "wal",
        "upgrade",
        "replica",
        "promote",
        "demote",
        "ledger",
    ),
    "before a release": ("compare-squash",),
    "systemd runs these": ("operation", "supervise", "notify"),
}

_DESCRIPTION = "Releases, backups and the daily work with the apps on this server."

_EPILOG = """\
a usual day:
    bedstone status                  # is all well?
    bedstone release payments        # the declared version, beside the old one
    bedstone rollback payments       # the one before serves again
    bedstone logs payments web -f    # what it prints
    bedstone console payments        # its shell
    bedstone backup payments         # before something risky

exit codes:
  0  done (or nothing to do)
  1  failed; standard error says what, and what to do
  2  not understood: wrong command or argument
  3  understood and refused: somebody else is at it, or it would harm

Each command has its own help with examples: `bedstone release --help`.
"""


def build_parser(modules: Sequence[str] | None = None) -> argparse.ArgumentParser:
    """Return the parser with the commands of the given modules (all by default)."""
    parser = argparse.ArgumentParser(
        prog="bedstone",
        usage="bedstone [-h] [--version] COMMAND ...",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"bedstone {__version__}")
    subparsers = parser.add_subparsers(
        # The epilog lists them, by groups.
        help=argparse.SUPPRESS,
        metavar="COMMAND",
        required=True,
        prog="bedstone",
    )
    for module in modules if modules is not None else dict.fromkeys(COMMANDS.values()):
        importlib.import_module(module).register(subparsers)
    parser.epilog = f"{_listing(subparsers)}\n\n{_EPILOG}"
    return parser


def _listing(subparsers: Subparsers) -> str:
    """Return the commands by groups, each with its summary."""
    entries = {entry.dest: entry.help or "" for entry in subparsers._get_subactions()}  # noqa: SLF001
    margin = 4 + max(map(len, COMMANDS)) + 2
    width = max(shutil.get_terminal_size().columns - 2, 40)
    parts = []
    for group, names in GROUPS.items():
        lines = [
            textwrap.fill(
                entries[name],
                width,
                initial_indent=f"    {name}".ljust(margin),
                subsequent_indent=" " * margin,
            )
            for name in names
            if name in entries
        ]
        parts += ["\n".join([f"{group}:", *lines])] if lines else []
    return "\n\n".join(parts)


def add_command(
    subparsers: Subparsers,
    name: str,
    func: Callable[[argparse.Namespace], int],
    *,
    summary: str,
    description: str = "",
    examples: Sequence[str] = (),
    **options: Any,
) -> argparse.ArgumentParser:
    """Add a command and return its parser, to which the caller adds arguments.

    Args:
        subparsers: what ``register`` was given.
        name: the command.
        func: called with the parsed arguments; returns the exit code.
        summary: one line for the list of commands.
        description: what it does, for its own help.
        examples: lines that can be copied.
        options: further arguments of ``add_parser``.

    """
    epilog = ""
    if examples:
        epilog = "examples:\n" + "\n".join(f"  {line}" for line in examples)
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.\n\n{description}".rstrip(),
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        **options,
    )
    parser.set_defaults(func=func)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    module = COMMANDS.get(arguments[0]) if arguments else None
    parser = build_parser([module] if module else None)
    # What follows `--` is another program's command line: none of it is ours.
    own, dashes, rest = _split(arguments)
    parsed = _parsed(parser, own)
    parsed.rest = rest
    if dashes and not getattr(parsed, "takes_rest", False):
        parser.error("this command takes nothing after `--`")
    needs_root = getattr(parsed, "needs_root", True)
    if needs_root and os.geteuid() != 0 and not os.environ.get("BEDSTONE_ROOT"):
        print("bedstone works as root: put `sudo` in front.", file=sys.stderr)
        return 1
    if arguments and arguments[0] in WITHOUT_LEDGER:
        database.stand_in = _stand_in
    errors.mask_with(_hide)
    logs.configure(priorities=arguments[0] not in WITHOUT_PRIORITIES)
    try:
        return int(parsed.func(parsed))
    except BedstoneError as error:
        logger.error("%s", error.text())  # noqa: TRY400 - a person reads it
        return error.exit_code
    except KeyboardInterrupt:
        print("bedstone: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (`| head`) has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    finally:
        database.stand_in = None


def _stand_in(error: database.UnreadableError) -> sqlite3.Connection:
    """Connect to the replacement of an unreadable ledger; its module is seldom needed."""
    module = importlib.import_module("bedstone.release.ledger_rebuild")
    connection: sqlite3.Connection = module.stand_in(error)
    return connection


def _hide(text: str) -> str:
    from bedstone.notify import redact  # noqa: PLC0415 - read when something is said, not at each start

    return redact.hide_all(text)


def _parsed(parser: argparse.ArgumentParser, arguments: list[str]) -> argparse.Namespace:
    """Parse; an optional positional may come after options, which only newer argparse takes.

    Python 3.11's argparse gives `--yes` in `restore APP --yes NAME` no NAME any more: by then it
    has taken it for left out. A command names the one that it has by the default `late`.
    """
    parsed, extra = parser.parse_known_args(arguments)
    late = getattr(parsed, "late", None)
    if len(extra) == 1 and late and not extra[0].startswith("-") and not getattr(parsed, late):
        setattr(parsed, late, extra[0])
    elif extra:
        parser.error(f"unrecognized arguments: {' '.join(extra)}")
    return parsed


def _split(arguments: list[str]) -> tuple[list[str], bool, list[str]]:
    if "--" not in arguments:
        return arguments, False, []
    place = arguments.index("--")
    return arguments[:place], True, arguments[place + 1 :]
