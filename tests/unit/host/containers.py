"""Docker as the supervisor sees it, with a real process in place of a container."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import Any

from bedstone.system.container import Container
from bedstone.system.docker import ContainerFacts

# Ends at SIGTERM with 0, at SIGQUIT with 3, at SIGUSR1 with 7; no signal comes too early for it.
PROGRAM = """
import signal, sys
codes = {signal.SIGTERM: 0, signal.SIGQUIT: 3, signal.SIGUSR1: 7}
signal.pthread_sigmask(signal.SIG_BLOCK, codes)
print("ready", flush=True)
sys.exit(codes[signal.sigwait(codes)])
"""


class Docker:
    """Keeps one container; `looks` are answers given before the true ones."""

    def __init__(self) -> None:
        # Of a shell, in place of PROGRAM.
        self.program: str | None = None
        self.stop_signal: str | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self._processes: list[subprocess.Popen[bytes]] = []
        self.present: ContainerFacts | None = None
        self.started: list[Container] = []
        self.removed: list[str] = []
        self.looks: list[ContainerFacts | Exception | None] = []
        # Answers given once it was asked what has been started.
        self.after: list[ContainerFacts | Exception | None] = []

    def container(self, name: str) -> ContainerFacts | None:
        if self.looks:
            look = self.looks.pop(0)
            if isinstance(look, Exception):
                raise look
            return look
        if self.process is None:
            return self.present if self.present and self.present.name == name else None
        facts = ContainerFacts(
            name,
            running=self.process.poll() is None,
            exit_code=self.process.returncode or 0,
            labels={},
            pid=self.process.pid,
            stop_signal=self.stop_signal,
        )
        self.looks, self.after = self.after, []
        return facts

    def start(self, container: Container) -> None:
        self.started.append(container)
        argv = ["bash", "-c", self.program or ""]
        if self.program is None:
            argv = [sys.executable, "-S", "-E", "-c", PROGRAM]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._processes.append(self.process)
        if self.process.stdout is not None and (self.program is None or "echo" in self.program):
            # It is ready for signals.
            self.process.stdout.readline()

    def end(self) -> None:
        """Let the container end by itself, with 7."""
        if self.process is not None:
            self.process.send_signal(signal.SIGUSR1)

    def remove(self, name: str, **_: Any) -> None:
        self.removed.append(name)
        self.kill()

    def kill(self) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()
        self._processes.clear()
