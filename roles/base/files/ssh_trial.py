#!/usr/bin/python3
"""Try sshd's algorithms: the previous ones come back unless a new login keeps these.

    ssh-trial try SECONDS   remember the present ones, and put them back after SECONDS
    ssh-trial keep          end the trial
    ssh-trial rollback      put the previous ones back

The file with the previous ones exists for as long as a trial is under way, and each end takes it
away first: a trial that was kept isn't rolled back, and the reverse.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ALGORITHMS = Path("/etc/ssh/sshd_config.d/11-bedstone.conf")
# Empty when there was no file. In /run, like the timer: a reboot ends both.
PREVIOUS = Path("/run/bedstone-ssh-previous.conf")
UNIT = "bedstone-ssh-back"


def begin(seconds: int) -> None:
    """Let the server go back to the previous algorithms after some seconds."""
    # A second run within a trial: what is in place now was not confirmed by a login.
    _stop_timer()
    if not PREVIOUS.exists():
        new = PREVIOUS.with_suffix(".new")
        new.write_bytes(ALGORITHMS.read_bytes() if ALGORITHMS.exists() else b"")
        new.replace(PREVIOUS)
    subprocess.run(
        ["systemd-run", "--quiet", "--collect", f"--unit={UNIT}", f"--on-active={seconds}",
         str(Path(__file__).resolve()), "rollback"],
        check=True,
    )  # fmt: skip


def keep() -> None:
    """End the trial: the present algorithms stay.

    Raises:
        FileNotFoundError: the server has gone back already.

    """
    PREVIOUS.unlink()
    _stop_timer()


def rollback() -> None:
    """Put the previous algorithms back.

    Raises:
        FileNotFoundError: the trial was kept.

    """
    taken = PREVIOUS.rename(PREVIOUS.with_suffix(".taken"))
    content = taken.read_bytes()
    if content:
        new = ALGORITHMS.with_suffix(".previous")
        new.write_bytes(content)
        new.chmod(0o644)
        new.replace(ALGORITHMS)
    else:
        ALGORITHMS.unlink(missing_ok=True)
    taken.unlink()
    subprocess.run(["systemctl", "reload", "ssh.service"], check=True)


def _stop_timer() -> None:
    # Of no concern when there is none, which is the usual case.
    subprocess.run(
        ["systemctl", "stop", f"{UNIT}.timer", f"{UNIT}.service"], check=False, capture_output=True
    )


def main() -> int:
    """Run the command line's action and return the exit code."""
    action, *arguments = sys.argv[1:]
    try:
        if action == "try":
            begin(int(arguments[0]))
        else:
            {"keep": keep, "rollback": rollback}[action]()
    except FileNotFoundError:
        sys.stderr.write("the trial of sshd's algorithms is over\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
