"""List an app's jobs with their state in systemd, and run a job in a separate container."""

from __future__ import annotations

import logging
import os
import signal
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from bedstone.apps import config, containers, current, network, runs
from bedstone.apps.supervisor import started, stop
from bedstone.core import lock, names
from bedstone.core.errors import BedstoneError
from bedstone.system import container_hints, systemd
from bedstone.system.container_process import ContainerProcess, signal_number
from bedstone.system.container_watch import Watch
from bedstone.system.docker import Docker

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import FrameType

    from bedstone.apps.config import Job
    from bedstone.apps.current import Current
    from bedstone.system.container import Container
    from bedstone.system.systemd import Systemd

logger = logging.getLogger(__name__)

# As a shell reports what SIGTERM has ended: the job is not done.
EXIT_STOPPED = 143
_EXIT_KILLED = 137
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
        runs.record(found.release)
        wanted = container_of(found, job)
        if (present := docker.container(wanted.name)) is not None:
            # The lock was free: the process that looked after it was killed.
            logger.info("The container of a run that was killed is ended first.")
            stop(ContainerProcess(present), wanted.stop_seconds)
            docker.remove(wanted.name)
        network.ensure(docker, found.app)
        with _signals() as asked:
            process = started(docker, wanted)
            logger.info("The job %s of %s runs in release %s.", name, app, found.release)
            return _see_through(wanted, process, job, asked)


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


def _see_through(wanted: Container, process: ContainerProcess, job: Job, asked: int) -> int:
    watch = Watch(
        process.container,
        process.id,
        process=process.descriptor,
        asked=asked,
        stop_signal=(signal_number(process.stop_signal), process.stop_signal),
        stop_seconds=wanted.stop_seconds,
        limit_seconds=job.timeout_seconds,
    )
    code = watch.run()
    if watch.failure is not None:
        raise BedstoneError(watch.failure)
    if watch.expired:
        raise BedstoneError(
            f"The job {job.name} took longer than {job.timeout_seconds} seconds and was stopped.",
            hint="A longer `timeout_seconds` of the job in the settings gives it more time.",
        )
    if watch.was_asked:
        logger.info("It was stopped before it was done.")
        return EXIT_STOPPED
    if code == _EXIT_KILLED:
        logger.info("It was killed, maybe because it took more than its %s MiB.", wanted.memory_mb)
    if code and (known := container_hints.of_database(watch.journal.recent())):
        logger.info("hint: %s", known)
    return code


@contextmanager
def _signals() -> Iterator[int]:
    """Give a descriptor that can be read once a signal has asked for the end."""
    asked, ask = os.pipe()

    def on_signal(number: int, frame: FrameType | None) -> None:
        del number, frame
        os.write(ask, b"x")

    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(asked)
        os.close(ask)


def run_by_systemd() -> bool:
    """Return whether a unit runs this process."""
    return "INVOCATION_ID" in os.environ
