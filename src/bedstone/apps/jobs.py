"""List an app's jobs with their state in systemd, and run a job in a separate container."""

from __future__ import annotations

import os
import queue
import signal
import threading
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from bedstone.apps import config, containers, current, network
from bedstone.apps.supervisor import remove, report_end, started, stop
from bedstone.core import lock, names
from bedstone.core.errors import BedstoneError
from bedstone.system import container_hints, systemd
from bedstone.system.container_output import Follower, Pipes, recent
from bedstone.system.container_process import ContainerProcess
from bedstone.system.docker import Docker

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import FrameType

    from bedstone.apps.config import Job
    from bedstone.apps.current import Current
    from bedstone.system.container import Container
    from bedstone.system.systemd import Systemd

# As a shell reports what SIGTERM has ended: the job is not done.
EXIT_STOPPED = 143
_EXIT_KILLED = 137
_STOP = "stop"
_RUNNING = {"active", "activating", "deactivating", "reloading"}
_UNIT_PROPERTIES = (
    "ActiveState",
    "LoadState",
    "Result",
    "ExecMainStatus",
    "ExecMainStartTimestamp",
    "ExecMainExitTimestamp",
    "LastTriggerUSec",
    "NextElapseUSecRealtime",
)


@dataclass(frozen=True)
class State:
    """The state of a job in systemd; times are ISO 8601 in UTC.

    Attributes:
        job: its name.
        schedule: a time of systemd.time(7), or None: it runs by hand alone.
        unit: the service that runs it.
        installed: whether systemd has that unit.
        running: whether it runs now.
        result: ``succeeded`` or ``failed``, None when it hasn't ended since the server's boot.
        error: systemd's word for a failure (``exit-code``, ``timeout``, ...).
        exit_code: of the last run.
        last_run: when it last began.
        last_end: when it last ended.
        next_run: when it will begin next.

    """

    job: str
    schedule: str | None
    unit: str
    installed: bool
    running: bool
    result: str | None
    error: str | None
    exit_code: int | None
    last_run: str | None
    last_end: str | None
    next_run: str | None

    def as_json(self) -> dict[str, Any]:
        """Return all of it for a machine."""
        return asdict(self)


class NotYetError(BedstoneError):
    """The job is declared, but the release that serves doesn't have it yet."""


def declared(app: str) -> dict[str, Job]:
    """Return an app's declared jobs; of one that is declared no more, its release's.

    Raises:
        BedstoneError: there is no such app.

    """
    try:
        return dict(config.load(app).jobs)
    except BedstoneError as error:
        with suppress(BedstoneError):
            return dict(current.load(app).app.jobs)
        raise error from None


def states(app: str, jobs: Iterable[Job], manager: Systemd, *, timeout: float = 60) -> list[State]:
    """Return the state of jobs in systemd.

    Args:
        app: whose jobs they are.
        jobs: the jobs.
        manager: systemd.
        timeout: seconds to wait for its answer.

    """
    wanted = list(jobs)
    units = [names.job_unit(app, job.name) for job in wanted]
    timers = [unit.removesuffix(".service") + ".timer" for unit in units]
    shown = manager.properties([*units, *timers], _UNIT_PROPERTIES, timeout=timeout)
    return [
        _state(job, unit, shown.get(unit, {}), shown.get(timer, {}))
        for job, unit, timer in zip(wanted, units, timers, strict=True)
    ]


def _state(job: Job, unit: str, service: dict[str, str], timer: dict[str, str]) -> State:
    begun = _iso(service.get("ExecMainStartTimestamp"))
    ended = _iso(service.get("ExecMainExitTimestamp"))
    running = service.get("ActiveState") in _RUNNING
    error = service.get("Result") if service.get("Result") != "success" else None
    done = ended is not None and not running
    return State(
        job=job.name,
        schedule=job.schedule,
        unit=unit,
        installed=service.get("LoadState") == "loaded",
        running=running,
        result=None if not (done or error) or running else "failed" if error else "succeeded",
        error=None if running else error,
        exit_code=int(service.get("ExecMainStatus") or 0) if done else None,
        # A timer remembers its last run over a reboot, a service doesn't.
        last_run=begun or _iso(timer.get("LastTriggerUSec")),
        last_end=ended,
        next_run=_iso(timer.get("NextElapseUSecRealtime")),
    )


def _iso(shown: str | None) -> str | None:
    found = systemd.moment(shown)
    return found.isoformat(timespec="seconds") if found else None


def find(app: str, name: str) -> tuple[Current, Job]:
    """Return the release that serves and its job.

    Raises:
        NotYetError: the job comes with the next release.
        BedstoneError: there is no such app or job.

    """
    known = declared(app)
    with suppress(BedstoneError):
        known |= current.load(app).app.jobs
    if name not in known:
        raise BedstoneError(
            f"{app} has no job {name!r}; it has {', '.join(known) or 'none'}.",
            hint="Jobs are declared under `jobs` of the app in the settings.",
        )
    try:
        found = current.load(app)
    except BedstoneError:
        raise NotYetError(
            f"{app} hasn't been released yet: the job {name} runs once it has.",
            hint=f"`bedstone release {app}` releases it.",
        ) from None
    if name not in found.app.jobs:
        raise NotYetError(
            f"The job {name} is declared, but release {found.release} of {app}, which serves,"
            " was made before it: it runs from the next release on.",
            hint=f"`bedstone release {app}` makes one.",
        )
    return found, found.app.jobs[name]


def run(app: str, name: str, docker: Docker | None = None) -> int:
    """Run a job in a container of its own of the release that serves; return its exit code.

    Raises:
        BedstoneError: it runs already, took too long, or couldn't be started.

    """
    docker = docker or Docker()
    found, job = find(app, name)
    with ExitStack() as held:
        # A name of an app or of another lock has no dot in it.
        key = f"{app}.{name}"
        try:
            held.enter_context(lock.held(key, f"job {name} of {app}"))
        except lock.LockedError as error:
            owner = lock.owner(key)
            raise lock.LockedError(
                f"The job {name} of {app} runs already"
                + (f", since {owner.since} (process {owner.pid})." if owner else "."),
                hint=f"`bedstone job {app} {name}` looks on until it ends;"
                f" `systemctl stop {names.job_unit(app, name)}` ends it.",
            ) from error
        wanted = container_of(found, job)
        if (present := docker.container(wanted.name)) is not None:
            # The lock was free: the process that looked after it was killed.
            print("The container of a run that was killed is ended first.", flush=True)
            stop(ContainerProcess(present), wanted.stop_seconds)
            docker.remove(wanted.name)
        network.ensure(docker, found.app)
        with _signals() as events:
            process = started(docker, wanted)
            print(f"The job {name} of {app} runs in release {found.release}.", flush=True)
            return _see_through(docker, wanted, process, job, events)


def container_of(found: Current, job: Job) -> Container:
    """Return the container of a job in the release that serves."""
    made = containers.for_command(
        found.app,
        found.release,
        found.made,
        found.environment(),
        job.command,
        kind=f"job-{job.name}",
    )
    return replace(made, memory_mb=job.memory_mb or made.memory_mb, cpus=job.cpus, pids=job.pids)


def _see_through(
    docker: Docker,
    wanted: Container,
    process: ContainerProcess,
    job: Job,
    events: queue.SimpleQueue[str | int],
) -> int:
    follower, pipes = Follower(wanted.name), Pipes(process.id)
    follower.start()
    pipes.start()
    threading.Thread(target=report_end, args=(docker, process, events), daemon=True).start()
    try:
        event = events.get(timeout=job.timeout_seconds)
        if event == _STOP:
            stop(process, wanted.stop_seconds)
    except queue.Empty:
        stop(process, wanted.stop_seconds)
        raise BedstoneError(
            f"The job {job.name} took longer than {job.timeout_seconds} seconds and was stopped.",
            hint="A longer `timeout_seconds` of the job in the settings gives it more time.",
        ) from None
    finally:
        # Its last lines first: they go with the container.
        pipes.finish()
        follower.finish()
        remove(docker, wanted.name)
    if event == _STOP:
        print("It was stopped before it was done.", flush=True)
        return EXIT_STOPPED
    if event == _EXIT_KILLED:
        print(
            f"It was killed, maybe because it took more than its {wanted.memory_mb} MiB.",
            flush=True,
        )
    if event and (known := container_hints.of_database(recent())):
        print(f"hint: {known}", flush=True)
    return int(event)


@contextmanager
def _signals() -> Iterator[queue.SimpleQueue[str | int]]:
    """Give a queue that gets a word when a signal asks for the end."""
    events: queue.SimpleQueue[str | int] = queue.SimpleQueue()

    def on_signal(number: int, frame: FrameType | None) -> None:
        del number, frame
        events.put(_STOP)

    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield events
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_by_systemd() -> bool:
    """Return whether a unit runs this process."""
    return "INVOCATION_ID" in os.environ
