"""Call systemd."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

from bedstone.core.errors import CommandError, printable
from bedstone.core.process import Runner, run

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

# `Result` of a unit that was started too often: systemd doesn't start it again by itself.
START_LIMIT = "start-limit-hit"
# What :func:`is_at_limit` looks at.
LIMIT_PROPERTIES = (
    *("ActiveState", "Result", "Restart", "NRestarts"),
    *("StartLimitBurst", "StartLimitIntervalUSec"),
)

_JOURNAL_SECONDS = 15.0
_MOMENT = "%a %Y-%m-%d %H:%M:%S UTC"


@dataclass(frozen=True)
class UnitState:
    """A unit's state in systemd's words, and whether it starts at boot."""

    active: str
    sub: str
    enabled: bool

    @property
    def is_active(self) -> bool:
        """Return whether it runs and has said that it is ready."""
        return self.active == "active"


def moment(shown: str | None) -> datetime | None:
    """Return the moment that :meth:`Systemd.properties` shows, or None for "never"."""
    try:
        return datetime.strptime(shown or "", _MOMENT).replace(tzinfo=UTC)
    except ValueError:
        return None


def is_at_limit(shown: Mapping[str, str]) -> bool:
    """Return whether a unit was started so often that systemd leaves it alone.

    Its `Result` stays that of the last failure when the limit is hit by systemd's own restart
    (seen with 257): then the count tells.

    Args:
        shown: the unit's :data:`LIMIT_PROPERTIES`, as :meth:`Systemd.properties` returns them.

    """
    if shown.get("ActiveState") != "failed":
        return False
    is_limited = shown.get("StartLimitIntervalUSec", "0") != "0"
    is_restarted = shown.get("Restart", "no") != "no"
    burst, count = (int(shown.get(name) or 0) for name in ("StartLimitBurst", "NRestarts"))
    return shown.get("Result") == START_LIMIT or (
        is_limited and is_restarted and 0 < burst <= count
    )


class Systemd:
    """systemd on this server."""

    def __init__(self, runner: Runner = run) -> None:
        self._run = runner

    def start(self, units: Sequence[str], *, timeout: float) -> None:
        """Start units, even beyond their limit of starts, and wait until they are ready.

        Raises:
            CommandError: one of them failed, or ``timeout`` seconds have passed.

        """
        self._forget_failures(units)
        self._run(["systemctl", "start", *units], timeout=timeout)

    def start_soon(self, unit: str) -> None:
        """Start a unit (again, if it failed) without waiting for it."""
        self._forget_failures([unit])
        self._run(["systemctl", "start", "--no-block", unit])

    def run_soon(
        self,
        unit: str,
        command: Sequence[str],
        *,
        description: str,
        on_failure: str,
        then: str | None = None,
    ) -> None:
        """Run a command once in a unit made for it, without waiting for it.

        Args:
            unit: the unit's name; one of the same name that failed is forgotten first.
            command: the program and its arguments.
            description: what it is.
            on_failure: the unit that is started when it fails.
            then: a command line that follows, whatever became of it.

        """
        self._forget_failures([unit])
        properties = [f"OnFailure={on_failure}", "Type=exec", "UMask=0077"]
        if then:
            properties.append(f"ExecStopPost=-{then}")
        argv = ["systemd-run", "--quiet", "--no-block", f"--unit={unit}"]
        argv += [f"--description={description}", *(f"--property={each}" for each in properties)]
        self._run([*argv, "--", *command])

    def running(self, pattern: str) -> list[str]:
        """Return the services and timers with names that fit a pattern and that run or start."""
        output = self._run(
            [
                "systemctl", "list-units", "--plain", "--no-legend", "--state=active,activating",
                "--type=service,timer", pattern,
            ]
        ).stdout  # fmt: skip
        return [line.split()[0] for line in output.splitlines() if line.strip()]

    def clock_is_synchronized(self, *, timeout: float) -> bool:
        """Return whether a time service keeps the kernel's clock right."""
        output = self._run(
            ["timedatectl", "show", "--property=NTPSynchronized", "--value"], timeout=timeout
        ).stdout
        return output.strip() == "yes"

    def active(self, unit: str) -> str:
        """Return a unit's state in one word: ``active``, ``activating``, ``inactive``..."""
        return self._run(["systemctl", "is-active", unit], check=False).stdout.strip()

    def restart(self, units: Sequence[str], *, timeout: float) -> None:
        """Stop and start units, even beyond their limit of starts; wait until they are ready."""
        self._forget_failures(units)
        self._run(["systemctl", "restart", *units], timeout=timeout)

    def stop(self, units: Sequence[str], *, timeout: float | None) -> None:
        """Stop units, and forget that they failed.

        Args:
            units: the units.
            timeout: in seconds; None for as long as systemd gives each unit.

        Raises:
            CommandError: one of them still runs.

        """
        if not units:
            return
        try:
            self._run(["systemctl", "stop", *units], timeout=timeout)
        except CommandError:
            # systemctl also complains about a unit whose file is gone by now.
            if any(state.active != "inactive" for state in self.states(units).values()):
                raise
        self._forget_failures(units)

    def _forget_failures(self, units: Sequence[str]) -> None:
        """Forget failures and counted starts; systemd complains about units it hasn't loaded."""
        self._run(["systemctl", "reset-failed", *units], check=False)

    def enable(self, units: Sequence[str]) -> None:
        """Make units start at boot."""
        if units:
            self._run(["systemctl", "enable", "--quiet", *units])

    def disable(self, units: Sequence[str]) -> None:
        """Make units not start at boot."""
        if units:
            self._run(["systemctl", "disable", "--quiet", *units])

    def reload(self, unit: str) -> None:
        """Make a unit read its configuration again."""
        self._run(["systemctl", "reload", unit])

    def read_units(self) -> None:
        """Read the files of all units again."""
        self._run(["systemctl", "daemon-reload"])

    def states(self, units: Sequence[str]) -> dict[str, UnitState]:
        """Return the state of each of the units."""
        return {
            unit: UnitState(
                shown.get("ActiveState", ""),
                shown.get("SubState", ""),
                shown.get("UnitFileState", "") in {"enabled", "enabled-runtime"},
            )
            for unit, shown in self.properties(
                units, ("ActiveState", "SubState", "UnitFileState")
            ).items()
        }

    def properties(
        self, units: Sequence[str], names: Sequence[str], *, timeout: float = 60
    ) -> dict[str, dict[str, str]]:
        """Return properties of units as `systemctl show` prints them; moments are in UTC.

        Args:
            units: the units.
            names: the properties (org.freedesktop.systemd1(5)).
            timeout: seconds to wait for systemd's answer.

        """
        if not units:
            return {}
        output = self._run(
            ["systemctl", "show", "--property", ",".join(("Id", *names)), *units],
            env={"TZ": "UTC", "LC_ALL": "C.UTF-8"},
            timeout=timeout,
        ).stdout
        blocks = [
            dict(line.partition("=")[::2] for line in block.splitlines() if "=" in line)
            for block in output.split("\n\n")
        ]
        return {block["Id"]: block for block in blocks if "Id" in block}

    def journal(
        self,
        units: Iterable[str],
        *,
        lines: int = 30,
        since: str | None = None,
        invocation: str | None = None,
    ) -> str:
        """Return the last lines of the journal of units; nothing when journald doesn't answer.

        They explain what is told anyway, so it is no reason not to tell it.

        Args:
            units: the units.
            lines: how many lines at most.
            since: a moment in journalctl's format, for instance ``@1700000000``.
            invocation: only what came from when this run began until the next one did, by its id.

        """
        with suppress(CommandError):
            # What a process said just before its end may not be in the journal's file yet.
            self._journalctl("--sync")
            return printable(self._lines(tuple(units), lines, since, invocation))
        return ""

    def first_in_journal(self, *, after: str | None = None) -> datetime | None:
        """Return the moment of the journal's oldest entry, or of the first one after a cursor.

        Args:
            after: the cursor (`__CURSOR`); where its entry is gone, the next one counts.

        """
        # `+1`: from the front (systemd 254).
        argv = ["--output", "json", "--output-fields", "_PID", "--lines", "+1"]
        argv += ["--after-cursor", after] if after else []
        with suppress(ValueError, KeyError):
            entry = json.loads(self._journalctl(*argv).partition("\n")[0])
            return datetime.fromtimestamp(int(entry["__REALTIME_TIMESTAMP"]) / 1_000_000, UTC)
        return None

    def _lines(
        self, units: Sequence[str], lines: int, since: str | None, invocation: str | None
    ) -> str:
        argv = ["--output", "cat", "--lines", str(lines)]
        began, until = self._span(invocation) if invocation else (None, None)
        if invocation and began is None:
            # The run's own lines, and what systemd said of it.
            argv += [f"_SYSTEMD_INVOCATION_ID={invocation}", "+", f"INVOCATION_ID={invocation}"]
        else:
            argv += [part for unit in units for part in ("--unit", unit)]
        if began or since:
            argv += ["--since", began or since or ""]
        if until:
            argv += ["--until", until]
        return self._journalctl(*argv)

    def _span(self, invocation: str) -> tuple[str | None, str | None]:
        """Return when a run of a unit began and when the next one did, by what systemd said.

        A process that ends at once is gone before journald asks which run it belonged to: its
        lines carry the unit's name, but not the run's id.
        """
        with suppress(ValueError, KeyError):
            own = self._journalctl("--output", "json", f"INVOCATION_ID={invocation}")
            first = json.loads(own.partition("\n")[0])
            began, unit = _moment_of(first), first.get("UNIT")
            if unit is None:
                return began, None
            for line in self._journalctl(
                "--output", "json", "--since", began, f"UNIT={unit}"
            ).splitlines():
                entry = json.loads(line)
                if entry.get("INVOCATION_ID", invocation) != invocation:
                    # journalctl shows what came at the very moment, too.
                    return began, _moment_of(entry, before=1)
            return began, None
        return None, None

    def _journalctl(self, *arguments: str) -> str:
        return self._run(
            ["journalctl", "--no-pager", *arguments], check=False, timeout=_JOURNAL_SECONDS
        ).stdout


def become_journal(units: Iterable[str], *, lines: int, follow: bool) -> NoReturn:
    """Become `journalctl` for units.

    Args:
        units: names or patterns.
        lines: how many lines at most.
        follow: show new lines until the operator stops it.

    """
    argv = ["journalctl", "--no-hostname", "--output", "short-iso", "--lines", str(lines)]
    argv += [part for unit in units for part in ("--unit", unit)]
    argv += ["--follow"] if follow else []
    sys.stdout.flush()
    os.execvp("journalctl", argv)  # noqa: S606 - no shell is needed


def _moment_of(entry: dict[str, Any], *, before: int = 0) -> str:
    """Return when an entry of the journal came (or microseconds before), as journalctl takes it."""
    return f"@{(int(entry['__REALTIME_TIMESTAMP']) - before) / 1_000_000:.6f}"
