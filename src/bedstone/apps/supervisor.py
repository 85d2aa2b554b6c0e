"""Run one slot's container as the main process of a systemd unit.

The container belongs to Docker and lives on when this process or dockerd
restarts; this process makes it visible to systemd: ready when healthy, its
output in the journal, ended when it ends, stopped when the unit is stopped.
dockerd starts and removes the container, and is needed for nothing else.
"""

from __future__ import annotations

import queue
import signal
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bedstone.apps import config, containers, environment, network, slots
from bedstone.core import paths
from bedstone.core.errors import BedstoneError, CommandError
from bedstone.system import container, http_check
from bedstone.system.container_output import Follower, Pipes, dockerd_runs
from bedstone.system.container_process import ContainerProcess
from bedstone.system.docker import Docker
from bedstone.system.systemd import notify

if TYPE_CHECKING:
    from types import FrameType

    from bedstone.apps.config import App, Service
    from bedstone.apps.slots import Slot
    from bedstone.system.container import Container

# How long a service without a port has to stay up to count as healthy.
STABLE_SECONDS = 3.0
# Between two probes: soon at first, then seldom, since each is a line in the app's log.
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS, _PAUSE_GROWTH = 0.2, 2.0, 1.2
_ASK_AGAIN_SECONDS = 0.1
# dockerd may be stopping: systemd starts it again only once this process has ended.
_REMOVE_SECONDS = 10.0
_STOP = "stop"
# How the line begins that a release looks for.
KILLED = "Killed: it ran on for"


class Supervisor:
    """One slot's container, seen through until it ends."""

    def __init__(self, app: App, service: Service, slot: Slot, docker: Docker) -> None:
        self.app = app
        self.service = service
        self.slot = slot
        self.docker = docker
        self.events: queue.SimpleQueue[str | int] = queue.SimpleQueue()
        self.process: ContainerProcess

    def run(self) -> int:
        """Start the container (or take over one that runs), and return its exit code.

        Raises:
            BedstoneError: it couldn't be started, or never got healthy.

        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        variables = environment.load(paths.release(self.app.name, self.slot.release) / "app.env")
        wanted = containers.for_service(self.app, self.service, self.slot, variables)
        adopted = self._start(wanted)
        follower = Follower(wanted.name, since=_now() if adopted else b"")
        pipes = Pipes(self.process.id)
        follower.start()
        pipes.start()
        threading.Thread(
            target=report_end, args=(self.docker, self.process, self.events), daemon=True
        ).start()
        try:
            return self._see_through()
        finally:
            # Its last lines first: they go with the container.
            pipes.finish()
            follower.finish()
            remove(self.docker, wanted.name)

    def _see_through(self) -> int:
        if (event := self._until_healthy()) is None:
            notify("READY=1", f"STATUS=Serving release {self.slot.release}")
            event = self.events.get()
        if event == _STOP:
            notify("STOPPING=1", "STATUS=Letting the last requests finish")
            stop(self.process, self.service.stop_seconds)
            return 0
        return int(event)

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

    def _until_healthy(self) -> str | int | None:
        """Wait until the service is healthy; return an event that came before, if any."""
        started = time.monotonic()
        limit = float(self.service.health_timeout_seconds)
        pause = _FIRST_PAUSE_SECONDS
        while True:
            answer = self._probe(time.monotonic() - started)
            if answer.ok:
                return None
            notify(f"STATUS=Waiting until it is healthy: {answer.said}")
            try:
                return self.events.get(timeout=pause)
            except queue.Empty:
                pause = min(pause * _PAUSE_GROWTH, _LONGEST_PAUSE_SECONDS)
            if time.monotonic() - started > limit:
                stop(self.process, self.service.stop_seconds)
                raise BedstoneError(
                    f"{self.service.name} wasn't healthy within {limit:g} seconds: {answer.said}.",
                    hint="A longer `health_timeout_seconds`, another `health` path, or"
                    " `health: null` to wait for the port alone.",
                )

    def _probe(self, seconds_up: float) -> http_check.Answer:
        service = self.service
        if service.port is None or self.slot.address is None:
            limit = min(STABLE_SECONDS, float(service.health_timeout_seconds))
            return http_check.Answer(seconds_up >= limit, f"up for {seconds_up:.0f} seconds")
        if service.health is None:
            return http_check.port(self.slot.address, service.port)
        host = self.app.main_domain or "localhost"
        return http_check.service(
            self.slot.address, service.port, service.health, host, accepted=service.accept_status
        )

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.events.put(_STOP)


def started(docker: Docker, wanted: Container) -> ContainerProcess:
    """Start a container and return its first process."""
    docker.start(wanted)
    present = docker.container(wanted.name)
    if present is None:
        raise BedstoneError(f"The container {wanted.name} was removed as soon as it had started.")
    return ContainerProcess(present)


def report_end(
    docker: Docker, process: ContainerProcess, events: queue.SimpleQueue[str | int]
) -> None:
    """Put a container's exit code into a queue once it has ended and dockerd says which."""
    process.wait()
    while True:
        try:
            present = docker.container(process.container)
        except CommandError:
            notify("STATUS=The container has ended; Docker, which knows how, doesn't answer")
        else:
            # dockerd hears of the end a moment after the kernel.
            if present is None or not present.running:
                events.put(present.exit_code if present is not None else 1)
                return
        time.sleep(_ASK_AGAIN_SECONDS)


def stop(process: ContainerProcess, seconds: int) -> None:
    """Stop a container, and say so when it had to be killed.

    Args:
        process: its first process.
        seconds: when they have passed it gets SIGKILL.

    """
    if process.stop(seconds):
        print(f"{killed_words(process.stop_signal, seconds)}", flush=True)


def killed_words(stop_signal: str, seconds: int) -> str:
    """Return the journal's message on a container that had to be killed."""
    return (
        f"{KILLED} {seconds} s after {stop_signal}: requests and tasks in it were cut off. If it"
        " ends by another signal, declare it: `stop_signal: SIGINT` (uWSGI, which reloads at"
        " SIGTERM), `stop_signal: SIGQUIT`; if it needs longer: `stop_seconds`."
    )


def remove(docker: Docker, name: str) -> None:
    """Remove a container that has ended, if dockerd is there.

    Without it the next start of the slot, or the release that ends it, does.
    """
    if not dockerd_runs():
        return
    with suppress(CommandError):
        docker.remove(name, timeout=_REMOVE_SECONDS)


def _now() -> bytes:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z").encode("ascii")


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
