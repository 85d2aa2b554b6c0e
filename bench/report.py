"""Format the bench's results as text and as the table in docs/performance.md."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench import backups, hosts, releases
from bench.profile import Task
from bench.releases import Change

BEGIN = "<!-- bench: made by `make bench WRITE=1`, do not edit -->"
END = "<!-- /bench -->"
BEGIN_RELEASES = "<!-- bench of releases: made by `make bench WRITE=1`, do not edit -->"
END_RELEASES = "<!-- /bench of releases -->"
BEGIN_BACKUPS = "<!-- bench of backups: made by `make bench WRITE=1`, do not edit -->"
END_BACKUPS = "<!-- /bench of backups -->"
BEGIN_HOSTS = "<!-- bench of hosts: made by `make bench WRITE=1`, do not edit -->"
END_HOSTS = "<!-- /bench of hosts -->"
# What the design aims at.
FIRST_RUN_RATIO = 1.5
NO_CHANGE_SECONDS = 8.0


@dataclass
class Results:
    """Times in seconds."""

    floor: float = 0.0
    first: float = 0.0
    # hosts -> the median of the no-change runs
    no_change: dict[int, float] = field(default_factory=dict)
    # setting of ansible.cfg -> a no-change run on one host without it
    without: dict[str, float] = field(default_factory=dict)
    slowest_first: list[Task] = field(default_factory=list)
    slowest_no_change: list[Task] = field(default_factory=list)
    # packages that one side installed and the other did not: has to be empty
    difference: list[str] = field(default_factory=list)
    machine: str = ""


def verdict(*, good: bool) -> str:
    """Return the word for a target that is met or not."""
    return "met" if good else "MISSED"


def rows(results: Results) -> list[tuple[str, str, str]]:
    """Return the table: what, seconds, how it compares."""
    one = results.no_change[1]
    ratio = results.first / results.floor
    found = [
        ("a: the floor, a shell script", f"{results.floor:.1f}", ""),
        (
            "b: site.yml on a bare server",
            f"{results.first:.1f}",
            f"{ratio:.2f} x a; aim 1.5: {verdict(good=ratio <= FIRST_RUN_RATIO)}",
        ),
        (
            "c: again, nothing to change",
            f"{one:.1f}",
            f"aim under 8 s: {verdict(good=one < NO_CHANGE_SECONDS)}",
        ),
    ]
    found += [
        (f"d: nothing to change, {hosts} hosts", f"{seconds:.1f}", f"{seconds / one:.2f} x one")
        for hosts, seconds in sorted(results.no_change.items())
        if hosts > 1
    ]
    found += [
        (f"c without {setting}", f"{seconds:.1f}", f"{seconds / one:.2f} x c")
        for setting, seconds in results.without.items()
    ]
    return found


def slowest(tasks: Sequence[Task], number: int = 8) -> list[str]:
    """Return lines that name the slowest tasks."""
    return [f"{task.seconds:7.1f} s  {task.name}" for task in tasks[:number]]


def text(results: Results) -> str:
    """Return the report for the terminal."""
    lines = [f"{what:36} {seconds:>7} s  {note}".rstrip() for what, seconds, note in rows(results)]
    lines += ["", "Slowest tasks of b:", *slowest(results.slowest_first)]
    lines += ["", "Slowest tasks of c:", *slowest(results.slowest_no_change)]
    if results.difference:
        lines += ["", f"a and b did not install the same: {', '.join(results.difference)}"]
    return "\n".join([results.machine, "", *lines])


def markdown(results: Results, date: str) -> str:
    """Return the part of docs/performance.md that is made."""
    lines = [
        BEGIN,
        f"Measured on {date}, {results.machine}; all in one run.",
        "",
        "| what | seconds | compared |",
        "|---|---:|---|",
        *(f"| {what} | {seconds} | {note} |" for what, seconds, note in rows(results)),
        "",
        "Slowest tasks of b and c:",
        "",
        "```text",
        *slowest(results.slowest_first, 6),
        "",
        *slowest(results.slowest_no_change, 6),
        "```",
        END,
    ]
    return "\n".join(lines)


def text_of_releases(changes: Sequence[Change]) -> str:
    """Return the report on releases for the terminal."""
    return "\n".join([*releases.rows(changes), "", *releases.steps(changes)])


def markdown_of_releases(changes: Sequence[Change], machine: str, date: str) -> str:
    """Return the part of docs/performance.md on releases that is made."""
    lines = [
        BEGIN_RELEASES,
        f"Measured on {date}, {machine}; all in one run, under the same load.",
        "",
        *releases.rows(changes),
        "",
        *(f"- {line}" for line in releases.steps(changes)),
        END_RELEASES,
    ]
    return "\n".join(lines)


def text_of_backups(results: backups.Results) -> str:
    """Return the report on backups for the terminal."""
    return "\n".join(backups.rows(results))


def markdown_of_backups(results: backups.Results, machine: str, date: str) -> str:
    """Return the part of docs/performance.md on backups that is made."""
    size = f"{results.database / 1024**2:.0f} MiB"
    lines = [
        BEGIN_BACKUPS,
        f"Measured on {date}, {machine}; all in one run, of one database of {size}, under the",
        "same load. p50, p95 and p99 are the app's requests in milliseconds.",
        "",
        *backups.rows(results),
        END_BACKUPS,
    ]
    return "\n".join(lines)


def text_of_hosts(results: Mapping[int, hosts.Run]) -> str:
    """Return the report on more and more hosts for the terminal."""
    most = max(results)
    return "\n".join([*hosts.rows(results), "", f"{most} hosts:", *slowest(results[most].tasks)])


def markdown_of_hosts(results: Mapping[int, hosts.Run], machine: str, date: str) -> str:
    """Return the part of docs/performance.md on more and more hosts that is made."""
    lines = [
        BEGIN_HOSTS,
        f"Measured on {date}, {machine}; all in one run, in turns. The load is of other programs.",
        "",
        *hosts.rows(results),
        END_HOSTS,
    ]
    return "\n".join(lines)


def replace_part(page: str, part: str) -> str:
    """Return the page with a made part of it replaced: the one with the same first line.

    Raises:
        ValueError: the page has no place for it.

    """
    first, last = part.splitlines()[0], part.splitlines()[-1]
    before, begin, rest = page.partition(first)
    _, end, after = rest.partition(last)
    if not begin or not end:
        raise ValueError(f"docs/performance.md has no lines {first!r} and {last!r}.")
    return before + part + after


def median(values: Sequence[float]) -> float:
    """Return the middle one of an odd number of values."""
    return sorted(values)[len(values) // 2]


def merged(profiles: Sequence[Sequence[Task]]) -> list[Task]:
    """Return the profile of the run that took the middle time."""
    totals: Mapping[int, float] = {
        index: sum(task.seconds for task in profile) for index, profile in enumerate(profiles)
    }
    return list(profiles[sorted(totals, key=lambda index: totals[index])[len(profiles) // 2]])
