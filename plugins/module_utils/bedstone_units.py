"""systemd units: what state they are in and how they come into the wanted one."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from bedstone_run import ConvergeError, Runner
else:
    from ansible.module_utils.bedstone_run import ConvergeError

PROPERTIES = "Id,Type,LoadState,ActiveState,SubState,UnitFileState,NeedDaemonReload,CanReload"
RUNNING = ("active", "activating", "reloading")
ENABLED = ("enabled", "enabled-runtime", "generated", "alias", "indirect")
JOURNAL_LINES = 25
# Only what a unit said since this run began belongs to its failure.
LOADED_AT = int(time.time())
# systemd calls a service of these types started before its program has done anything, so a
# program that ends at once is noticed only by looking for a moment.
UNCERTAIN_TYPES = ("simple", "exec", "idle")
LOOK_SECONDS, LOOK_INTERVAL_SECONDS = 0.6, 0.15
UNIT_DIRECTORY = "/etc/systemd/system/"
UNIT_SUFFIXES = (".service", ".timer", ".socket", ".path", ".mount", ".target", ".slice")


@dataclasses.dataclass(frozen=True)
class WantedUnit:
    """A unit as it should be; None leaves that side of it alone."""

    name: str
    enabled: bool | None = None
    state: str | None = None
    masked: bool | None = None
    reload_on: tuple[str, ...] = ()
    restart_on: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class UnitStatus:
    """A unit's state in systemd."""

    load: str = "not-found"
    active: str = "inactive"
    sub: str = "dead"
    file: str = ""
    stale: bool = False
    can_reload: bool = False
    uncertain: bool = False

    @property
    def running(self) -> bool:
        """Return whether the unit is up or starting."""
        return self.active in RUNNING

    @property
    def broken(self) -> bool:
        """Return whether the unit failed, or fails repeatedly."""
        ended = self.uncertain and not self.running
        return ended or self.active == "failed" or self.sub == "auto-restart"


def show(names: list[str], run: Runner) -> dict[str, UnitStatus]:
    """Get the status of all units from systemd in one call.

    Raises:
        ConvergeError: systemd doesn't answer.

    """
    if not names:
        return {}
    ended = run(["systemctl", "show", f"--property={PROPERTIES}", "--", *names])
    blocks = [block for block in ended.output.split("\n\n") if block.strip()]
    if ended.code != 0 or len(blocks) != len(names):
        raise ConvergeError(
            f"systemd could not be asked for {', '.join(names)} (exit {ended.code}): {ended.text()}"
        )
    return dict(zip(names, map(_status, blocks), strict=True))


def _status(block: str) -> UnitStatus:
    values = dict(line.partition("=")[::2] for line in block.strip().splitlines())
    return UnitStatus(
        load=values.get("LoadState", "not-found"),
        active=values.get("ActiveState", "inactive"),
        sub=values.get("SubState", "dead"),
        file=values.get("UnitFileState", ""),
        stale=values.get("NeedDaemonReload") == "yes",
        can_reload=values.get("CanReload") == "yes",
        uncertain=values.get("Type") in UNCERTAIN_TYPES,
    )


def actions_for(wanted: WantedUnit, status: UnitStatus, pending: str | None) -> list[str]:
    """Return what has to be done to a unit, in order, as systemctl's verbs.

    Args:
        wanted: the unit as it should be.
        status: the unit as it is.
        pending: "reload" or "restart" when a change of files asks for it, else None.

    """
    actions = []
    masked = status.file in ("masked", "masked-runtime")
    if wanted.masked is False and masked:
        actions.append("unmask")
    if wanted.enabled is True and status.file not in ENABLED:
        actions.append("enable")
    if wanted.enabled is False and status.file.startswith("enabled"):
        actions.append("disable")
    if wanted.state == "stopped":
        if status.running:
            actions.append("stop")
    elif wanted.state == "started" and not status.running:
        actions.append("start")
    elif pending and status.running:
        actions.append("restart" if pending == "restart" or not status.can_reload else "reload")
    if wanted.masked is True and not masked:
        actions.append("mask")
    return actions


def check_possible(wanted: WantedUnit, status: UnitStatus) -> None:
    """Refuse what systemd can't do, in words that say what to change.

    Raises:
        ConvergeError: the unit doesn't exist, is masked, or can't be enabled.

    """
    if wanted.masked is not None and status.load in ("not-found", "masked"):
        return
    if status.load == "not-found" and (wanted.enabled or wanted.state == "started"):
        raise ConvergeError(
            f"There is no unit {wanted.name} on this server. Is its name right, and does its file "
            "or package belong to this converge?"
        )
    if status.load == "masked" and wanted.state == "started":
        raise ConvergeError(
            f"{wanted.name} is masked on this server and can't be started. Somebody wanted that; "
            f"undo it with `systemctl unmask {wanted.name}` or `masked: false`."
        )
    if status.load in ("bad-setting", "error"):
        raise ConvergeError(
            f"systemd can't read {wanted.name}: its state is {status.load}. "
            f"`systemd-analyze verify {wanted.name}` on the server says why."
        )
    if wanted.enabled and status.file == "static":
        raise ConvergeError(
            f"{wanted.name} can't be enabled: it has no [Install] section (state static). "
            "Remove `enabled` from it, or give the unit a WantedBy=."
        )


def act(action: str, name: str, run: Runner, hide_secrets: Callable[[str], str]) -> None:
    """Run one of `actions_for`'s actions.

    Raises:
        ConvergeError: systemd refused, or the unit failed; holds the journal's last lines.

    """
    if action in ("start", "restart"):
        # systemd limits starts for the sake of programs that crash; this one is requested, however
        # often the unit was restarted in the last minute.
        run(["systemctl", "reset-failed", "--", name])
    ended = run(["systemctl", action, "--", name])
    if ended.code != 0:
        raise failed(action, name, ended.text(), run, hide_secrets)


def failed(
    action: str, name: str, said: str, run: Runner, hide_secrets: Callable[[str], str]
) -> ConvergeError:
    """Describe a unit's failure, with its journal."""
    options = [f"--since=@{LOADED_AT}", f"--lines={JOURNAL_LINES}", "--no-pager", "--output=cat"]
    # What a program says just before it ends may not be in the journal's file yet.
    run(["journalctl", "--sync"])
    journal = run(["journalctl", f"--unit={name}", *options])
    return ConvergeError(
        hide_secrets(
            f"`systemctl {action} {name}` failed. {said}\n"
            f"The last lines of its journal:\n{journal.output.strip() or '(none)'}"
        )
    )


def check_they_stay_up(
    touched: dict[str, str], run: Runner, hide_secrets: Callable[[str], str]
) -> None:
    """Check units that were just started, reloaded or restarted until it is clear that they run.

    Args:
        touched: what was done to which unit, by the unit's name.
        run: runs a program.
        hide_secrets: takes the content of sensitive files out of a text.

    Raises:
        ConvergeError: one failed or ended; holds the journal's last lines.

    """
    limit = time.monotonic() + LOOK_SECONDS
    while touched:
        statuses = show(list(touched), run)
        for name, status in statuses.items():
            if status.broken:
                said = f"It is now in the state {status.active} ({status.sub})."
                raise failed(touched[name], name, said, run, hide_secrets)
        unclear = any(status.uncertain for status in statuses.values())
        if not unclear or time.monotonic() > limit:
            return
        time.sleep(LOOK_INTERVAL_SECONDS)


def reload_daemon(run: Runner) -> None:
    """Make systemd read its unit files again (`daemon-reload`).

    Raises:
        ConvergeError: systemd refused.

    """
    ended = run(["systemctl", "daemon-reload"])
    if ended.code != 0:
        raise ConvergeError(f"`systemctl daemon-reload` failed: {ended.text()}")


def unit_of(path: str) -> str | None:
    """Return the unit whose own file this is, or None (drop-ins and other files)."""
    name = path.removeprefix(UNIT_DIRECTORY)
    is_unit = path.startswith(UNIT_DIRECTORY) and "/" not in name and name.endswith(UNIT_SUFFIXES)
    return name if is_unit else None


def retire(name: str, run: Runner) -> None:
    """Stop and disable a unit whose file is about to be removed, with all its instances.

    Raises:
        ConvergeError: it could not be stopped.

    """
    stem, _, suffix = name.rpartition(".")
    pattern = f"{stem}*.{suffix}" if stem.endswith("@") else name
    ended = run(["systemctl", "stop", "--", pattern])
    if ended.code != 0 and "not loaded" not in ended.text():
        raise ConvergeError(f"{pattern} is to be removed but can't be stopped: {ended.text()}")
    run(["systemctl", "disable", "--", name])
