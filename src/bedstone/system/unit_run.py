"""Start a oneshot unit and show what it prints until it ends."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from bedstone.core.errors import BedstoneError, printable

if TYPE_CHECKING:
    from bedstone.system.systemd import Systemd

_LAST_LINES_SECONDS = 5.0
_PROPERTIES = ("Result", "ExecMainStatus", "InvocationID")


def run(unit: str, manager: Systemd, *, since: float | None = None) -> dict[str, str]:
    """Start a unit (or join its run), copy its output, and return its result when it has ended.

    Args:
        unit: a service of Type=oneshot.
        manager: systemd.
        since: when the run began that goes on already, seconds since 1970.

    Returns:
        systemd's properties Result and ExecMainStatus.

    Raises:
        BedstoneError: systemd didn't start it.

    """
    before = manager.properties([unit], _PROPERTIES).get(unit, {})
    journal = _Journal(unit, time.time() if since is None else since)
    with subprocess.Popen(
        ["systemctl", "start", unit],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # Ctrl-C ends the looking on, not the unit.
        start_new_session=True,
    ) as starting:
        try:
            journal.start()
            _, complaint = starting.communicate()
        finally:
            starting.kill()
            journal.finish()
    after = manager.properties([unit], _PROPERTIES).get(unit, {})
    same_run = after.get("InvocationID") == before.get("InvocationID")
    if starting.returncode != 0 and since is None and same_run:
        raise BedstoneError(f"systemd doesn't start {unit}.", details=complaint.strip())
    return after


class _Journal(threading.Thread):
    """Copies the lines of a unit's own processes to standard output, each once."""

    def __init__(self, unit: str, since: float) -> None:
        super().__init__(daemon=True)
        self._argv = ["journalctl", "--quiet", "--no-pager", "--output", "cat"]
        self._argv += ["--since", f"@{since:.6f}", f"_SYSTEMD_UNIT={unit}"]
        self._seen = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [*self._argv, "--follow", "--no-tail"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        super().start()

    def run(self) -> None:
        """Copy until the follower ends."""
        if self._process is not None and self._process.stdout is not None:
            # A reader that has seen enough (`| head`) is found out at the end once more.
            with suppress(BrokenPipeError), self._process.stdout as stream:
                for line in stream:
                    # Half a line is shown as a whole one at the end.
                    if line.endswith(b"\n"):
                        _show(line)
                        self._seen += 1

    def finish(self) -> None:
        """Copy what the follower had not seen at the unit's end."""
        if self._process is None:
            return
        self._process.terminate()
        self.join(_LAST_LINES_SECONDS)
        self._process.wait()
        subprocess.run(["journalctl", "--sync"], check=False, capture_output=True)
        rest = subprocess.run(self._argv, check=False, capture_output=True).stdout
        for line in rest.splitlines(keepends=True)[self._seen :]:
            _show(line)


def _show(line: bytes) -> None:
    if sys.stdout.isatty():
        # A job's lines are its app's own.
        line = printable(line.decode("utf-8", "replace")).encode()
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()
