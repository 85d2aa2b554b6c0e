"""Run one slot's container as the main process of a systemd unit.

The container belongs to Docker and lives on when this process or dockerd
restarts; this process makes it visible to systemd: ready when healthy, its
output in the journal, ended when it ends, stopped when the unit is stopped.
"""

from __future__ import annotations

import queue
import re
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bedstone import config, container, environment, network, paths, probe, slots
from bedstone.docker import Docker
from bedstone.errors import BedstoneError, CommandError
from bedstone.systemd import notify

if TYPE_CHECKING:
    from types import FrameType

    from bedstone.config import App, Service
    from bedstone.container import Container
    from bedstone.slots import Slot

# How long a service without a port has to stay up to count as healthy.
STABLE_SECONDS = 3.0
# Between two probes: soon at first, then seldom, since each is a line in the app's log.
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS, _PAUSE_GROWTH = 0.2, 2.0, 1.2
_RECONNECT_EVERY_SECONDS = 0.5
_LAST_LINES_SECONDS = 5.0
# Beyond a service's own time to stop; systemd's limit is a minute.
_DOCKER_AWAY_SECONDS = 40.0
_STOP = "stop"
_TIMESTAMP = re.compile(rb"^(\d{4}-\d\d-\d\dT[0-9:.]+(?:Z|[+-]\d\d:\d\d)) (.*)$", re.DOTALL)


class Supervisor:
    """One slot's container, seen through until it ends."""

    def __init__(self, app: App, service: Service, slot: Slot, docker: Docker) -> None:
        self.app = app
        self.service = service
        self.slot = slot
        self.docker = docker
        self.events: queue.SimpleQueue[str | int] = queue.SimpleQueue()

    def run(self) -> int:
        """Start the container (or take over one that runs), and return its exit code.

        Raises:
            BedstoneError: it couldn't be started, or never got healthy.

        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        variables = environment.load(paths.release(self.app.name, self.slot.release) / "app.env")
        wanted = container.for_service(self.app, self.service, self.slot, variables)
        adopted = self._start(wanted)
        follower = Follower(wanted.name, since=_now() if adopted else b"")
        follower.start()
        going_on = f"STATUS=Serving release {self.slot.release}"
        threading.Thread(
            target=report_end, args=(self.docker, wanted.name, self.events, going_on), daemon=True
        ).start()
        try:
            return self._see_through(wanted)
        finally:
            # Its last lines first: they go with the container.
            follower.finish()
            self.docker.remove(wanted.name)

    def _see_through(self, wanted: Container) -> int:
        if (event := self._until_healthy()) is None:
            notify("READY=1", f"STATUS=Serving release {self.slot.release}")
            event = self.events.get()
        if event == _STOP:
            notify("STOPPING=1", "STATUS=Letting the last requests finish")
            stop(self.docker, wanted.name, self.service.stop_seconds)
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
                return True
            self.docker.remove(wanted.name)
        network.ensure(self.docker, self.app)
        self.docker.start(wanted)
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
                self.docker.stop(self._name, self.service.stop_seconds)
                raise BedstoneError(
                    f"{self.service.name} wasn't healthy within {limit:g} seconds: {answer.said}.",
                    hint="A longer `health_timeout_seconds`, another `health` path, or"
                    " `health: null` to wait for the port alone.",
                )

    def _probe(self, seconds_up: float) -> probe.Answer:
        service = self.service
        if service.port is None or self.slot.address is None:
            limit = min(STABLE_SECONDS, float(service.health_timeout_seconds))
            return probe.Answer(seconds_up >= limit, f"up for {seconds_up:.0f} seconds")
        if service.health is None:
            return probe.port(self.slot.address, service.port)
        host = self.app.main_domain or "localhost"
        return probe.service(
            self.slot.address, service.port, service.health, host, accepted=service.accept_status
        )

    @property
    def _name(self) -> str:
        return container.name_of(self.app.name, self.service.name, self.slot.name)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.events.put(_STOP)


class Follower(threading.Thread):
    """Copies a container's output to standard output, line by line, each line once."""

    def __init__(self, name: str, since: bytes = b"") -> None:
        super().__init__(daemon=True)
        self._container = name
        self._last = since
        self._finishing = threading.Event()

    def run(self) -> None:
        """Follow until told to finish, again and again when dockerd restarts."""
        while True:
            self._follow()
            if self._finishing.wait(_RECONNECT_EVERY_SECONDS):
                return

    def finish(self) -> None:
        """Let the last lines come, but not for ever."""
        self._finishing.set()
        self.join(_LAST_LINES_SECONDS)

    def _follow(self) -> None:
        argv = ["docker", "logs", "--follow", "--timestamps"]
        seen = self._last
        if seen:
            argv += ["--since", seen.decode("ascii")]
        with subprocess.Popen(
            [*argv, self._container],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process:
            if process.stdout is None:
                return
            for line in process.stdout:
                found = _TIMESTAMP.match(line)
                # What has no time is docker's own complaint that dockerd went away.
                if found is not None and found[1] > seen:
                    self._last = max(self._last, found[1])
                    sys.stdout.buffer.write(found[2])
                    sys.stdout.buffer.flush()


def report_end(
    docker: Docker, name: str, events: queue.SimpleQueue[str | int], going_on: str = "STATUS="
) -> None:
    """Put a container's exit code into a queue, whatever becomes of dockerd in the meantime.

    Args:
        docker: where it runs.
        name: the container.
        events: gets the exit code.
        going_on: what systemd is told when dockerd is back and the container runs still.

    """
    while True:
        try:
            events.put(docker.wait(name))
        except CommandError:
            try:
                present = docker.container(name)
            except CommandError:
                # dockerd restarts; with live-restore the container goes on.
                notify("STATUS=Docker doesn't answer; the container goes on by itself")
                time.sleep(_RECONNECT_EVERY_SECONDS)
                continue
            if present is not None and present.running:
                notify(going_on)
                continue
            events.put(present.exit_code if present is not None else 1)
        return


def stop(docker: Docker, name: str, seconds: int) -> None:
    """Stop a container, also when dockerd restarts just then: the container would go on for ever.

    Args:
        docker: where it runs.
        name: the container.
        seconds: when they have passed it gets SIGKILL.

    Raises:
        CommandError: Docker can't stop it, or stays away.

    """
    deadline = time.monotonic() + seconds + _DOCKER_AWAY_SECONDS
    while True:
        try:
            docker.stop(name, seconds)
        except CommandError:
            if _has_ended(docker, name):
                return
            if time.monotonic() > deadline:
                raise
            notify("STATUS=Docker doesn't answer; the container is stopped when it does")
            time.sleep(_RECONNECT_EVERY_SECONDS)
        else:
            return


def _has_ended(docker: Docker, name: str) -> bool:
    try:
        present = docker.container(name)
    except CommandError:
        return False
    return present is None or not present.running


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
