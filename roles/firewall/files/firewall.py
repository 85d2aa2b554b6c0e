#!/usr/bin/python3
"""Load the firewall's rules for a trial, and keep them only when a new ssh login succeeds.

firewall check         print how the loaded rules differ from the declared ones, if they do
firewall conflicts     fail when another unit would remove the rules
firewall try SECONDS   load the declared rules; the confirmed ones come back after SECONDS
firewall confirm       keep the rules on trial; from an ssh connection made after `try` only
firewall rollback      load the confirmed rules; without such rules, remove the table
"""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DECLARED = Path("/etc/bedstone/firewall.nft")
CONFIRMED = Path("/var/lib/bedstone/firewall/confirmed.nft")
# Not on the disk: a reboot ends a trial, since the unit loads the confirmed rules.
TRIAL = Path("/run/bedstone-firewall.json")
LOCK = Path("/run/bedstone-firewall.lock")
UNIT = "bedstone-firewall.service"
TIMER = "bedstone-firewall-rollback"
LIST = "nft --stateless --terse list table inet bedstone"
REMOVE = "add table inet bedstone; delete table inet bedstone"
LONGEST_DIFFERENCE = 40


class FirewallError(Exception):
    """A command can't be carried out; the message says why."""


def run(*command: str, given: str | None = None) -> str:
    """Return what a program prints.

    Raises:
        FirewallError: it failed.

    """
    ended = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise FirewallError(f"`{' '.join(command)}` failed: {ended.stderr.strip()}")
    return ended.stdout


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Keep the timer's rollback and a confirmation apart."""
    with LOCK.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def text(path: Path) -> str:
    """Return the content of a file, nothing when it doesn't exist."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def check() -> str:
    """Return how the loaded rules differ from the declared ones, nothing when they don't.

    The kernel's listing is compared with that of the same file in an empty network namespace, so
    that a rule added or deleted by hand is a difference too.
    """
    if text(CONFIRMED) != text(DECLARED):
        return "The declared rules were not confirmed yet."
    expected = run("unshare", "--net", "sh", "-c", f"nft -f {CONFIRMED} && {LIST}")
    try:
        loaded = run(*LIST.split())
    except FirewallError as error:
        return f"The rules are not loaded: {error}"
    if loaded != expected:
        lines = difflib.unified_diff(
            loaded.splitlines(), expected.splitlines(), "loaded", "declared", n=1, lineterm=""
        )
        return "\n".join(list(lines)[:LONGEST_DIFFERENCE])
    state = run("systemctl", "show", "--property=ActiveState", "--value", UNIT).strip()
    return "" if state == "active" else f"{UNIT} is {state}."


def conflicts() -> str:
    """Fail when Debian's own unit is in use: it flushes all rules, Docker's and ours included."""
    asked = ["systemctl", "show", "--property=ActiveState,UnitFileState", "--value"]
    if {"active", "enabled"} & set(run(*asked, "nftables.service").split()):
        raise FirewallError(
            "nftables.service is in use here. Its file begins with `flush ruleset`, and its stop "
            "flushes all rules as well: it would remove these, and Docker's. Declare in "
            "firewall_openings what its file opens, then: systemctl disable nftables.service, and "
            "reboot."
        )
    return ""


def try_rules(seconds: str) -> str:
    """Load the declared rules, once it is certain that the confirmed ones come back."""
    rules = DECLARED.read_text()
    with locked():
        run("nft", "--check", "--file", "-", given=rules)
        stop_timer()
        run(
            *("systemd-run", "--quiet", "--collect", f"--unit={TIMER}"),
            *(f"--on-active={int(seconds)}", "--timer-property=AccuracySec=1s"),
            *(str(Path(__file__).resolve()), "rollback"),
        )
        began = time.clock_gettime(time.CLOCK_BOOTTIME)
        write(TRIAL, json.dumps({"began": began, "rules": rules}))
        run("nft", "--file", "-", given=rules)
    return ""


def confirm() -> str:
    """Keep the rules on trial, under which this login was made."""
    with locked():
        if not (trial := text(TRIAL)):
            raise FirewallError("no rules are on trial: their time is over, or they were confirmed")
        found = json.loads(trial)
        connected = connected_at()
        if connected is None:
            raise FirewallError("this is no ssh login, so it is no proof that one works")
        if connected <= found["began"]:
            raise FirewallError("this ssh connection is older than the rules; log in again")
        CONFIRMED.parent.mkdir(parents=True, exist_ok=True)
        write(CONFIRMED, found["rules"])
        TRIAL.unlink()
        stop_timer()
        run("systemctl", "start", UNIT)
    return "confirmed"


def rollback() -> str:
    """Load the confirmed rules; without such rules, remove the table."""
    with locked():
        TRIAL.unlink(missing_ok=True)
        stop_timer()
        try:
            run("nft", "--file", str(CONFIRMED))
        except FirewallError as error:
            run("nft", REMOVE)
            return f"The firewall is off: {error}"
    return "The confirmed rules are loaded."


def stop_timer() -> None:
    """End a trial's timer, and forget a rollback that failed."""
    for command in (["stop", f"{TIMER}.timer"], ["reset-failed", f"{TIMER}.service"]):
        subprocess.run(["systemctl", *command], capture_output=True, check=False)


def connected_at() -> float | None:
    """Return when this process' ssh connection was made, in seconds since the boot.

    sshd has a process for each connection, which the sessions of a shared one (ControlMaster) are
    children of.
    """
    process = os.getppid()
    while process > 1:
        # The name, in parentheses, may hold spaces.
        name, _, rest = text(Path(f"/proc/{process}/stat")).rpartition(")")
        fields = rest.split()
        if not fields:
            return None
        if name.partition("(")[2].startswith("sshd"):
            # Fields 4 (parent) and 22 (start) of proc_pid_stat(5).
            return int(fields[22 - 3]) / os.sysconf("SC_CLK_TCK")
        process = int(fields[4 - 3])
    return None


def write(path: Path, content: str) -> None:
    """Replace a file, which a crash leaves as it was or as it will be."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w") as file:
        partial.chmod(0o644)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


COMMANDS: dict[str, Callable[..., str]] = {
    "check": check,
    "conflicts": conflicts,
    "try": try_rules,
    "confirm": confirm,
    "rollback": rollback,
}


def main(words: list[str]) -> int:
    """Carry out a command and print what it returns; return 1 and print why when it fails."""
    name, *arguments = words or [""]
    if name not in COMMANDS or len(arguments) != (name == "try"):
        sys.stderr.write(__doc__ or "")
        return 2
    try:
        said = COMMANDS[name](*arguments)
    except (FirewallError, OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{said}\n" if said else "")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
