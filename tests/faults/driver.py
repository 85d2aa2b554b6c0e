"""Runs on the server: one command of the installed bedstone, with a fault at a chosen place.

    python3 driver.py FAULT.json release hello --foreground

The program has no code for it. The steps are wrapped where the engine is given them, and the middle
of a step is found by counting what Python reports to audit hooks: programs started, files renamed,
made, removed, opened for writing. FAULT.json holds

    step    the step's name
    number  which of the operation's steps of that name, from 1
    place   "begin", "middle" (before event number `event`) or "end"
    how     "kill" (SIGKILL to itself), "hang" (waits for the end of the world) or "raise" (an
            OSError, as a full disk gives)
    marker  a file that is made before it strikes
    record  in place of these: a file that gets every step with its number of events
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

PROGRAM = "/usr/local/bin/bedstone"
EVENTS = {"subprocess.Popen", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.symlink"}
WRITING = os.O_WRONLY | os.O_RDWR


class Watch:
    """Tracks the present step, counts its events, and strikes."""

    def __init__(self, fault: dict[str, Any]) -> None:
        self.fault = fault
        self.seen: Counter[str] = Counter()
        self.counts: list[tuple[str, int, int]] = []
        self.armed = False
        self.events = 0
        self.inside = False

    def begin(self, name: str) -> None:
        """Note that a step begins."""
        self.seen[name] += 1
        self.armed = (name, self.seen[name]) == (self.fault.get("step"), self.fault.get("number"))
        self.events = 0
        self.inside = True
        if self.armed and self.fault["place"] == "begin":
            self.strike()

    def end(self, name: str) -> None:
        """Note that a step has done its work."""
        self.inside = False
        self.counts.append((name, self.seen[name], self.events))
        if self.armed and self.fault["place"] in {"middle", "end"}:
            # With fewer events than at the time of recording, the middle is its end.
            self.strike()

    def event(self, name: str, arguments: tuple[Any, ...]) -> None:
        """Count an event of the present step (an audit hook)."""
        if not self.inside or threading.current_thread() is not threading.main_thread():
            return
        writes = name == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
        if name not in EVENTS and not writes:
            return
        self.events += 1
        if self.armed and self.fault["place"] == "middle" and self.events == self.fault["event"]:
            self.strike()

    def strike(self) -> None:
        """Do what the fault says."""
        self.armed = self.inside = False
        Path(self.fault["marker"]).touch()
        if self.fault["how"] == "raise":
            raise OSError(errno.ENOSPC, "No space left on device (a fault of the test)")
        if self.fault["how"] == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        while True:
            signal.pause()


def wrapped(watch: Watch, step: Any) -> Any:
    """Return a step that reports when it begins and ends."""
    do: Callable[[Any], str] = step.do

    def watched(context: Any) -> str:
        watch.begin(step.name)
        try:
            said = do(context)
        except BaseException:
            watch.inside = False
            raise
        watch.end(step.name)
        return said

    return type(step)(step.name, watched, step.undo)


def main() -> int:
    """Run the command."""
    fault = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    sys.path.insert(0, PROGRAM)
    from bedstone.cli import main as cli
    from bedstone.release import transaction

    watch = Watch(fault)
    execute = transaction.execute

    def watched(steps: Sequence[Any], *rest: Any, **more: Any) -> Any:
        return execute([wrapped(watch, step) for step in steps], *rest, **more)

    transaction.execute = watched
    sys.addaudithook(watch.event)
    code = cli.main(sys.argv[2:])
    if record := fault.get("record"):
        Path(record).write_text(json.dumps(watch.counts), encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
