"""Runs programs and describes how they ended."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

# A terminal's width and a user's language must not change what a program prints.
ENVIRONMENT = {
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "SYSTEMD_PAGER": "cat",
    "SYSTEMD_COLORS": "0",
}


class ConvergeError(Exception):
    """Something the reader can act on went wrong; the text says what and where."""


@dataclasses.dataclass(frozen=True)
class Ended:
    """A program's exit code, and both of its outputs as text."""

    code: int
    output: str
    errors: str

    def text(self) -> str:
        """Return what it printed, errors first, without empty lines around."""
        return "\n".join(part.strip() for part in (self.errors, self.output) if part.strip())


class Runner(Protocol):
    """Runs a program; the tests put their own in this place."""

    def __call__(
        self,
        command: list[str],
        *,
        prepare: Callable[[], None] | None = None,
        timeout_seconds: float = 600,
    ) -> Ended:
        """Run `command` (no shell) and return how it ended."""


def run(
    command: list[str],
    *,
    prepare: Callable[[], None] | None = None,
    timeout_seconds: float = 600,
) -> Ended:
    """Run a program without a shell.

    Args:
        command: the program and its arguments.
        prepare: is called in the new process before the program starts.
        timeout_seconds: the program is killed when it takes longer.

    Raises:
        ConvergeError: the program doesn't exist or took too long.

    """
    proxies = {key: value for key, value in os.environ.items() if key.lower().endswith("_proxy")}
    try:
        done = subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env={**proxies, **ENVIRONMENT},
            preexec_fn=prepare,
            timeout=timeout_seconds,
        )
    except FileNotFoundError as error:
        raise ConvergeError(f"There is no program {command[0]} on this server.") from error
    except PermissionError as error:
        raise ConvergeError(f"{command[0]} can't be run on this server: {error}") from error
    except subprocess.TimeoutExpired as error:
        raise ConvergeError(
            f"`{' '.join(command)}` did not end within {timeout_seconds:.0f} seconds."
        ) from error
    return Ended(done.returncode, done.stdout, done.stderr)
