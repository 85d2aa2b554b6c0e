"""Run one slot's container as the main process of a systemd unit.

The container belongs to Docker and lives on when this process or dockerd
restarts; this process makes it visible to systemd: ready when healthy, its
output in the journal, ended when it ends, stopped when the unit is stopped.
dockerd starts and removes the container, and is needed for nothing else.

Once the container runs, this process replaces itself by container_watch, which
needs a sixth of the memory; a child process probes until the service is healthy.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import marshal
import os
import pkgutil
import signal
import sys
import tempfile
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bedstone.apps import (
    config,
    containers,
    environment,
    liveness,
    maintenance,
    network,
    runs,
    slots,
)
from bedstone.core import lock, paths
from bedstone.core.errors import BedstoneError
from bedstone.system import container, container_watch, http_check
from bedstone.system.container_process import ContainerProcess, signal_number
from bedstone.system.container_watch import STOP_SIGNALS, Prober, killed_words
from bedstone.system.docker import Docker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

    from bedstone.apps.config import App, Service
    from bedstone.apps.slots import Slot
    from bedstone.system.container import Container

logger = logging.getLogger(__name__)

# How long a service without a port has to stay up to count as healthy.
STABLE_SECONDS = 3.0
# Between two probes: soon at first, then seldom, since each is a line in the app's log.
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS, _PAUSE_GROWTH = 0.2, 2.0, 1.2


class Supervisor:
    """One slot's container, seen through until it ends."""

    def __init__(self, app: App, service: Service, slot: Slot, docker: Docker) -> None:
        self.app = app
        self.service = service
        self.slot = slot
        self.docker = docker
        self.process: ContainerProcess
        self._asked_to_stop = False

    def run(self) -> int:
        """Start the container (or take over one that runs), and return its exit code.

        Raises:
            BedstoneError: it couldn't be started.

        """
        for number in STOP_SIGNALS:
            signal.signal(number, self._on_signal)
        runs.record(self.slot.release)
        # The program's file may be replaced by another version while the container starts.
        program = _program()
        own = self.service.environment_file is not None
        file = environment.service_file(self.service.name) if own else environment.APP
        variables = environment.load(paths.release(self.app.name, self.slot.release) / file)
        wanted = containers.for_service(self.app, self.service, self.slot, variables)
        adopted = self._start(wanted)
        descriptor, pid = self._probe_in_child()
        process = self.process.descriptor
        # They wait from here on until the next program handles them.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        if self._asked_to_stop:
            signal.raise_signal(signal.SIGTERM)
        arguments = {
            "container": self.process.container,
            "id": self.process.id,
            "process": "" if process is None else process,
            "stop_signal": signal_number(self.process.stop_signal),
            "stop_signal_name": self.process.stop_signal,
            "stop_seconds": self.service.stop_seconds,
            "since": time.time_ns() if adopted else 0,
            "prober": descriptor,
            "prober_pid": pid,
            **self._liveness_arguments(),
        }
        words = [f"{name}={value}" for name, value in arguments.items()]
        return _become(program, words, [process, descriptor])

    def _liveness_arguments(self) -> dict[str, object]:
        """Return what container_watch needs to ask from now on whether the service still works."""
        wanted, now = self.service.liveness, datetime.now(UTC)
        if wanted is None:
            return {}
        app, key = self.app.name, self.slot.key
        before = liveness.prune(app, key, now)
        arguments: dict[str, object] = {
            "liveness_every": wanted.every_seconds,
            "liveness_timeout": wanted.timeout_seconds,
            "liveness_failures": liveness.failures(wanted, before, now),
            "liveness_paused_by": f"{maintenance.path(app)}:{lock.path(app)}",
            "liveness_record": liveness.record(app, key),
        }
        if wanted.command is not None:
            body = {"AttachStdout": True, "AttachStderr": True, "Cmd": wanted.command}
            return {**arguments, "liveness_command": json.dumps(body)}
        return {
            **arguments,
            "liveness_request": http_check.request(wanted.path or "/", self._domain),
            "liveness_address": self.slot.address,
            "liveness_port": self.service.port,
            "liveness_accepted": " ".join(str(each) for each in self.service.accept_status),
        }

    @property
    def _domain(self) -> str:
        return self.app.main_domain or "localhost"

    def _start(self, wanted: Container) -> bool:
        """Start the container; return whether it ran already."""
        present = self.docker.container(wanted.name)
        if present is not None:
            labels = present.labels
            if (
                present.running
                and labels.get(container.LABEL_SPECIFICATION) == wanted.specification()
            ):
                # This process was killed, its container was not: it still serves.
                self.process = ContainerProcess(present)
                return True
            self.docker.remove(wanted.name)
        network.ensure(self.docker, self.app)
        self.process = started(self.docker, wanted)
        return False

    def _probe_in_child(self) -> tuple[int, int]:
        """Probe in a child process; return the pipe it writes messages into, and its id."""
        reading, writing = os.pipe()
        pid = os.fork()
        if pid:
            os.close(writing)
            return reading, pid
        try:
            for number in STOP_SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            os.close(reading)

            def say(message: bytes) -> None:
                os.write(writing, message + b"\0")

            try:
                self.until_healthy(say)
            except BedstoneError as error:
                say(Prober.FAILED + error.text().encode())
        except BaseException:  # noqa: BLE001 - the parent's code must not run here
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(0)

    def until_healthy(self, say: Callable[[bytes], None]) -> None:
        """Probe until the service is healthy, and write messages for systemd.

        Raises:
            BedstoneError: it isn't within its limit.

        """
        started = time.monotonic()
        limit = float(self.service.health_timeout_seconds)
        pause = _FIRST_PAUSE_SECONDS
        while True:
            answer = self._probe(time.monotonic() - started)
            if answer.ok:
                say(Prober.READY + f"\nSTATUS=Serving release {self.slot.release}".encode())
                return
            # An answer is the app's text: it must begin no message of its own.
            said = " ".join(answer.said.replace("\0", " ").split())
            say(f"STATUS=Waiting until it is healthy: {said}".encode())
            time.sleep(pause)
            pause = min(pause * _PAUSE_GROWTH, _LONGEST_PAUSE_SECONDS)
            if time.monotonic() - started > limit:
                raise BedstoneError(
                    f"{self.service.name} wasn't healthy within {limit:g} seconds: {answer.said}.",
                    hint="A longer `health_timeout_seconds`, another `health` path, or"
                    " `health: null` to wait for the port alone.",
                )

    def _probe(self, seconds_up: float) -> http_check.Answer:
        """Ask whether it can serve, and then what is asked from then on: a mistake shows now."""
        answer = self._probe_readiness(seconds_up)
        wanted = self.service.liveness
        if wanted is None or not answer.ok:
            return answer
        if wanted.command is not None:
            name = self.process.container
            said = self.docker.run_in(name, wanted.command, timeout=wanted.timeout_seconds)
            return http_check.Answer(not said, f"liveness: {said or 'its command succeeded'}")
        if wanted.path == self.service.health:
            return answer
        answer = http_check.service(
            self.slot.address or "",
            self.service.port or 0,
            wanted.path or "/",
            self._domain,
            accepted=self.service.accept_status,
            seconds=wanted.timeout_seconds,
        )
        return http_check.Answer(answer.ok, f"liveness: {answer.said}")

    def _probe_readiness(self, seconds_up: float) -> http_check.Answer:
        service = self.service
        if service.port is None or self.slot.address is None:
            limit = min(STABLE_SECONDS, float(service.health_timeout_seconds))
            return http_check.Answer(seconds_up >= limit, f"up for {seconds_up:.0f} seconds")
        if service.health is None:
            return http_check.port(self.slot.address, service.port)
        return http_check.service(
            self.slot.address,
            service.port,
            service.health,
            self._domain,
            accepted=service.accept_status,
        )

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._asked_to_stop = True


def _program() -> bytes:
    """Return container_watch as compiled code: what Python has in a .pyc file."""
    source = pkgutil.get_data(container_watch.__package__ or "", "container_watch.py")
    if source is None:
        raise BedstoneError("container_watch.py is missing in the program.")
    code = compile(source, container_watch.__name__, "exec", dont_inherit=True, optimize=2)
    # No flags, no time and no size of a source to compare with.
    return importlib.util.MAGIC_NUMBER + bytes(12) + marshal.dumps(code)


def _become(program: bytes, arguments: Sequence[str], inherited: Sequence[int | None]) -> int:
    """Replace this process by a program, which inherits descriptors; systemd sees the same one."""
    # A file without a name: nothing is left of it, and no other version replaces it.
    with tempfile.TemporaryFile(dir=paths.ensure_private(paths.runtime())) as file:
        file.write(program)
        file.flush()
        descriptor = file.fileno()
        for each in (descriptor, *inherited):
            if each is not None:
                os.set_inheritable(each, True)
        python = [sys.executable, "-I", "-S", f"/proc/self/fd/{descriptor}"]
        os.execv(python[0], [*python, f"program={descriptor}", *arguments])  # noqa: S606


def started(docker: Docker, wanted: Container) -> ContainerProcess:
    """Start a container and return its first process."""
    docker.start(wanted)
    present = docker.container(wanted.name)
    if present is None:
        raise BedstoneError(f"The container {wanted.name} was removed as soon as it had started.")
    return ContainerProcess(present)


def stop(process: ContainerProcess, seconds: int) -> None:
    """Stop a container, and say so when it had to be killed.

    Args:
        process: its first process.
        seconds: when they have passed it gets SIGKILL.

    """
    if process.stop(seconds):
        logger.info(killed_words(process.stop_signal, seconds))


def supervise(app_name: str, service_name: str, slot_name: str) -> int:
    """Run what a slot's file says, and return the container's exit code.

    Raises:
        BedstoneError: no release uses the slot, or it doesn't get healthy.

    """
    slot = slots.read(app_name, f"{service_name}@{slot_name}")
    app = config.load_file(paths.release(app_name, slot.release) / "app.json")
    service = app.services.get(service_name)
    if service is None:
        raise BedstoneError(
            f"Release {slot.release} of {app_name} has no service {service_name!r}."
        )
    return Supervisor(app, service, slot, Docker()).run()
