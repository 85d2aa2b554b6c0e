"""List an app's jobs, or run one of them now: `bedstone job`."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import TYPE_CHECKING

from bedstone.apps import jobs
from bedstone.cli import main
from bedstone.core import age
from bedstone.core.errors import BedstoneError
from bedstone.notify import unit_failures
from bedstone.system import unit_run
from bedstone.system.systemd import Systemd

if TYPE_CHECKING:
    import argparse

    from bedstone.apps.jobs import State

EXIT_INTERRUPTED = 130


def register(subparsers: main.Subparsers) -> None:
    """Add the command."""
    parser = main.add_command(
        subparsers,
        "job",
        run,
        summary="list an app's jobs, or run one now",
        description="A job is declared under `jobs` of the app and runs by its schedule, as a\n"
        "systemd unit, in a container of its own of the release that serves. With JOB\n"
        "it is started now and looked at until it ends; the exit code is its own.\n"
        "Ctrl-C ends the looking on, not the job.",
        examples=(
            "bedstone job payments                  # schedules, last and next runs",
            "bedstone job payments clearsessions    # run it now",
            "journalctl -u bedstone-payments-job-clearsessions   # what it printed before",
            "systemctl stop bedstone-payments-job-clearsessions  # end it",
        ),
    )
    parser.add_argument("app", metavar="APP")
    parser.set_defaults(late="job")
    parser.add_argument("job", metavar="JOB", nargs="?", help="list them by default")
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--foreground", action="store_true", help="run it in this process, as its unit does"
    )
    how.add_argument("--json", action="store_true", help="the list as JSON")


def run(arguments: argparse.Namespace) -> int:
    """List the jobs, or run one and return its exit code."""
    if arguments.job is None:
        if arguments.foreground:
            raise BedstoneError(
                "--foreground goes with the name of a job.",
                hint=f"`bedstone job {arguments.app}` lists them.",
            )
        return _list(arguments.app, as_json=arguments.json)
    if arguments.json:
        raise BedstoneError(
            "--json goes with the list of jobs.", hint=f"`bedstone job {arguments.app} --json`"
        )
    if arguments.foreground:
        return _here(arguments.app, arguments.job)
    return _in_its_unit(arguments.app, arguments.job)


def _here(app: str, job: str) -> int:
    try:
        return jobs.run(app, job)
    except jobs.NotYetError as error:
        if not jobs.run_by_systemd():
            raise
        # The timer was installed before the release that has the job: no failure.
        print(f"Nothing was run. {error.message}")
        return 0


def _in_its_unit(app: str, job: str) -> int:
    # Before its unit would end well without having run anything.
    _, wanted = jobs.find(app, job)
    manager = Systemd()
    [state] = jobs.states(app, [wanted], manager)
    if not state.installed:
        raise BedstoneError(
            f"systemd has no unit {state.unit}.",
            hint="Run `ansible-playbook playbooks/site.yml`, which makes it, or"
            f" `bedstone job {app} {job} --foreground`.",
        )
    since = None
    if state.running and state.last_run:
        print(f"It runs already, since {age.short(state.last_run)}.", flush=True)
        since = datetime.fromisoformat(state.last_run).timestamp()
    try:
        ended = unit_run.run(state.unit, manager, since=since)
    except KeyboardInterrupt:
        print(f"The job goes on; `systemctl stop {state.unit}` ends it.", file=sys.stderr)
        return EXIT_INTERRUPTED
    result, status = ended.get("Result", ""), ended.get("ExecMainStatus", "")
    if result == "success":
        return 0
    if result == "exit-code" and status.isdigit() and int(status):
        return int(status)
    raise BedstoneError(
        f"The job {job} of {app} failed: {unit_failures.why(result, status)}.",
        hint=f"`systemctl status {state.unit}`",
    )


def _list(app: str, *, as_json: bool) -> int:
    states = jobs.states(app, jobs.declared(app).values(), Systemd())
    if as_json:
        print(json.dumps([state.as_json() for state in states]))
    elif not states:
        print(f"{app} has no jobs; they are declared under `jobs` of the app in the settings.")
    else:
        rows = [("JOB", "SCHEDULE", "LAST RUN", "RESULT", "NEXT RUN"), *map(_row, states)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            print("  ".join(cells).rstrip())
    return 0


def _row(state: State) -> tuple[str, ...]:
    return (
        state.job,
        state.schedule or "by hand",
        age.short(state.last_run) if state.last_run else "-",
        result_words(state),
        age.short(state.next_run) if state.next_run else "-",
    )


def result_words(state: State) -> str:
    """Return how a job's last run went."""
    if not state.installed:
        return "not installed: run site.yml"
    if state.running:
        return f"runs for {age.since(state.last_run)}" if state.last_run else "runs"
    if state.result == "failed":
        words = unit_failures.why(state.error or "", str(state.exit_code or ""))
        return f"FAILED: {words.removeprefix('it ')}"
    return state.result or ("not known since the boot" if state.last_run else "never ran")
