"""Running programs of the host: lists only, errors that show what was said."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from functools import cache

from testbed.errors import TestbedError

# What an error quotes of a program's output, from its end.
QUOTED_LINES = 25
# Daemons' tools live in sbin, which is not on every user's PATH.
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"])


def say(message: str) -> None:
    """Print a line of progress to stderr, so that stdout stays for answers."""
    print(message, file=sys.stderr, flush=True)


def which(command: str) -> str | None:
    """Return the full path of a command, sbin included, or None."""
    return shutil.which(command, path=SEARCH_PATH)


def run(
    command: Sequence[str],
    *,
    check: bool = True,
    timeout_seconds: float | None = None,
    input_text: str | None = None,
    env: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program and return what it said.

    Args:
        command: the program and its arguments.
        check: raise when it fails.
        timeout_seconds: give up after this long.
        input_text: what it reads on standard input (nothing by default).
        env: its whole environment (this program's by default).

    Raises:
        TestbedError: the program is missing, failed or took too long.

    """
    try:
        done = subprocess.run(
            list(command),
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            input=input_text if input_text is not None else "",
            env=env,
        )
    except FileNotFoundError as error:
        raise TestbedError(f"{command[0]} is not installed.", "Run: make setup") from error
    except subprocess.TimeoutExpired as error:
        raise TestbedError(
            f"{' '.join(command[:3])} did not end within {timeout_seconds} seconds."
        ) from error
    if check and done.returncode:
        raise TestbedError(failure(command, done))
    return done


def failure(command: Sequence[str], done: subprocess.CompletedProcess[str]) -> str:
    """Return the message for a failed program, with the end of its output."""
    said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-QUOTED_LINES:]
    return "\n".join([f"{' '.join(command[:3])} failed ({done.returncode}):", *said])


@cache
def as_root() -> tuple[str, ...]:
    """Return what to put before a command that needs root: nothing, or sudo.

    Raises:
        TestbedError: the user is not root and there is no sudo.

    """
    if os.geteuid() == 0:
        return ()
    sudo = which("sudo")
    if sudo is None:
        raise TestbedError(
            "The testbed runs containers as root, and this user is not root and has no sudo.",
            "Run it as root, or install sudo and allow this user to use it.",
        )
    return (sudo,)


def podman(
    arguments: Iterable[str], *, check: bool = True, timeout_seconds: float | None = 300
) -> subprocess.CompletedProcess[str]:
    """Run podman as root. See `run` for the arguments.

    Its warnings are about this machine's configuration (networks of other programs, for example),
    and would hide in an error what went wrong.
    """
    return run(
        [*as_root(), which("podman") or "podman", "--log-level=error", *arguments],
        check=check,
        timeout_seconds=timeout_seconds,
    )
