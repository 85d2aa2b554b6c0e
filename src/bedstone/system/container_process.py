"""Watch and stop the first process of a running container without dockerd.

dockerd may be away: systemd starts it only after units ordered after it have stopped, so a stop
that needed it would wait for itself. A pidfd is the kernel's own handle of the process: it needs
no other program, and can't mean a later process with the same number.
"""

from __future__ import annotations

import os
import re
import select
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from bedstone.core.errors import BedstoneError

if TYPE_CHECKING:
    from bedstone.system.docker import ContainerFacts

# The kernel ends what a container holds after SIGKILL; only a hanging disk takes longer.
_KILL_SECONDS = 20.0
_REAL_TIME = re.compile(r"^RT(MIN|MAX)([+-]\d+)?$")


class ContainerProcess:
    """The first process of a container, which may have ended already."""

    def __init__(self, facts: ContainerFacts) -> None:
        self.container = facts.name
        self.id = facts.id
        self.stop_signal = facts.stop_signal or "SIGTERM"
        # A pidfd, None when the process has ended.
        self.descriptor = _open(facts)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the process has ended; return whether it has."""
        if self.descriptor is None:
            return True
        poll = select.poll()
        poll.register(self.descriptor, select.POLLIN)
        return bool(poll.poll(None if seconds is None else max(seconds, 0) * 1000))

    def stop(self, seconds: float) -> bool:
        """Send the stop signal, and SIGKILL when ``seconds`` have passed; return whether it was.

        Raises:
            BedstoneError: it runs on even so.

        """
        self._send(signal_number(self.stop_signal))
        if self.wait(seconds):
            return False
        self._send(signal.SIGKILL)
        if not self.wait(_KILL_SECONDS):
            raise BedstoneError(
                f"The container {self.container} runs on although it was killed.",
                hint="A process that waits for a disk ends when the disk answers: see `dmesg`.",
            )
        return True

    def _send(self, number: int) -> None:
        if self.descriptor is None:
            return
        try:
            signal.pidfd_send_signal(self.descriptor, number)
        except ProcessLookupError:
            return


def signal_number(name: str) -> int:
    """Return the number of a signal as Docker writes it: SIGTERM, TERM, 15 or RTMIN+3.

    Raises:
        BedstoneError: there is no such signal.

    """
    plain = name.strip().upper().removeprefix("SIG")
    if plain.isdigit() and 0 < int(plain) <= signal.SIGRTMAX:
        return int(plain)
    if found := _REAL_TIME.match(plain):
        base = signal.SIGRTMIN if found[1] == "MIN" else signal.SIGRTMAX
        return int(base) + int(found[2] or 0)
    try:
        return int(signal.Signals[f"SIG{plain}"])
    except KeyError:
        raise BedstoneError(
            f"{name!r} is no signal.", hint="Its name, for example `stop_signal: SIGQUIT`."
        ) from None


def _open(facts: ContainerFacts) -> int | None:
    """Return a pidfd of a container's first process, None when it has ended."""
    if not facts.running or facts.pid <= 0:
        return None
    try:
        descriptor = os.pidfd_open(facts.pid)
    except ProcessLookupError:
        return None
    # Until now the number could have become another process's.
    try:
        groups = Path(f"/proc/{facts.pid}/cgroup").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        groups = ""
    if facts.id not in groups:
        os.close(descriptor)
        return None
    return descriptor
