"""`make bench`: what site.yml costs, against a floor measured in the same run.

a: a plain shell script on a fresh server installs the same packages and builds the same image;
b: site.yml on a fresh server; c: site.yml again; d: the run with nothing to change on several
hosts; e: a release of new code and a rollback under load, beside docker compose; f: backups and
restores under load, beside `pg_dump | gzip` and `gunzip | psql`; g: the run with nothing to change
on up to 8 hosts of which one has every role. Servers are the testbed's.
Nothing else should run on the machine meanwhile.
"""

import argparse
import datetime as dt
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from bench import backups, hosts, profile, releases, report
from bench.report import Results
from testbed import images, servers
from testbed.cli import inventory
from testbed.errors import TestbedError
from testbed.paths import CACHE, ROOT, write
from testbed.servers import Server, Spec
from testbed.shell import failure, run, say

GROUP = "bench"
WORK = CACHE / "bench"
PAGE = ROOT / "docs" / "performance.md"
BIN = ROOT / ".venv" / "bin"
ROUNDS = 3
PARTS = ("releases", "backups", "hosts", "site")
GROUPS = ("proxy", "app", "postgresql")
INSTALLED = "dpkg-query -W -f '${db:Status-Abbrev} ${Package}\\n'"
# A no-change run without a setting shows what the setting is worth.
WITHOUT: Mapping[str, Mapping[str, str]] = {
    "pipelining": {"ANSIBLE_PIPELINING": "0"},
    "ControlPersist": {"ANSIBLE_SSH_ARGS": "-o ControlMaster=no -o ControlPath=none"},
}


def boot(name: str, groups: tuple[str, ...] = GROUPS) -> Server:
    """Start a fresh server in groups of the topology."""
    return servers.up(Spec(name=name, group=GROUP, member_of=groups))[0]


def packages(server: Server) -> set[str]:
    """Return the names of the packages that are installed on a server."""
    listed = run(server.ssh(INSTALLED)).stdout.splitlines()
    return {line.split()[1] for line in listed if line.startswith("ii")}


def make_inventory(found: Sequence[Server]) -> Path:
    """Make an inventory of servers: the demo's settings, one vault for all of the bench."""
    directory = WORK / f"hosts-{len(found)}"
    variables = directory / "group_vars" / "all"
    variables.mkdir(parents=True)
    settings = (ROOT / "inventories/demo/group_vars/all/settings.yml").read_text()
    write(variables / "settings.yml", settings.replace("../../app", str(ROOT / "app")))
    write(directory / "hosts.yml", inventory(found))
    first = WORK / "hosts-1"
    if directory == first:
        run([str(BIN / "python"), "-m", "bedstone_control", "secrets", str(directory)])
    else:
        shutil.copy(first / "group_vars/all/vault.yml", variables)
        shutil.copy(first / ".vault-password", directory)
    return directory


def site(directory: Path, env: Mapping[str, str] | None = None) -> tuple[float, str]:
    """Run site.yml.

    Returns:
        the seconds it took, and what it printed.

    Raises:
        TestbedError: it failed.

    """
    command = [str(BIN / "ansible-playbook"), "playbooks/site.yml", "-i", str(directory)]
    command += ["--vault-password-file", str(directory / ".vault-password")]
    started = time.monotonic()
    done = subprocess.run(
        command,
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_CALLBACKS_ENABLED": "ansible.posix.profile_tasks",
            "PROFILE_TASKS_TASK_OUTPUT_LIMIT": "all",
            "ANSIBLE_NOCOLOR": "1",
            **(env or {}),
        },
    )
    seconds = time.monotonic() - started
    if done.returncode:
        raise TestbedError(
            failure(command, subprocess.CompletedProcess(command, done.returncode, "", done.stdout))
        )
    return seconds, done.stdout


def unchanged(
    directory: Path, rounds: int = ROUNDS, env: Mapping[str, str] | None = None
) -> tuple[float, list[profile.Task]]:
    """Run site.yml with nothing to change.

    Returns:
        the median of the seconds and that run's tasks.

    Raises:
        TestbedError: a run failed or changed something, which would measure something else.

    """
    times, profiles = [], []
    for _ in range(rounds):
        seconds, output = site(directory, env)
        if changed := profile.changed(output):
            raise TestbedError(f"A run with nothing to change changed: {'; '.join(changed)}.")
        times.append(seconds)
        profiles.append(profile.tasks(output))
    return report.median(times), report.merged(profiles)


def floor(server: Server, names: Sequence[str]) -> float:
    """Run the floor's script on a fresh server and return the seconds it took."""
    archive = WORK / "source.tar"
    ignored = [f"--exclude={name}" for name in (".git", "__pycache__", ".venv", "staticfiles")]
    run(["tar", "-cf", str(archive), *ignored, "-C", str(ROOT / "app"), "."])
    script = (ROOT / "bench" / "floor.sh").read_text()
    run(server.ssh("cat > /root/floor.sh"), input_text=script)
    command = server.ssh("sh", "/root/floor.sh", *names)
    started = time.monotonic()
    with archive.open("rb") as source:
        done = subprocess.run(command, check=False, stdin=source, capture_output=True, text=True)
    seconds = time.monotonic() - started
    if done.returncode:
        raise TestbedError(failure(command, done))
    return seconds


def measure(hosts: Sequence[int]) -> Results:
    """Measure everything; the servers are removed by the caller."""
    results = Results(machine=machine())
    images.python_image(images.DEFAULT_SUITE)
    first = boot("bench-1")
    bare = packages(first)
    alone = make_inventory([first])

    say("b: site.yml on a bare server")
    results.first, output = site(alone)
    results.slowest_first = profile.tasks(output)
    say(f"   {results.first:.1f} s")
    added = packages(first) - bare

    say("a: the floor, on another bare server")
    lowest = boot("bench-floor")
    results.floor = floor(lowest, sorted(added))
    say(f"   {results.floor:.1f} s")
    results.difference = sorted((packages(lowest) - bare) ^ added)
    servers.down(servers.containers(name="bench-floor"))

    say("c: site.yml again")
    results.no_change[1], results.slowest_no_change = unchanged(alone)
    say(f"   {results.no_change[1]:.1f} s")
    for setting, env in WITHOUT.items():
        results.without[setting] = unchanged(alone, 1, env)[0]
        say(f"   {results.without[setting]:.1f} s without {setting}")

    found = [first]
    for number in sorted(n for n in hosts if n > 1):
        say(f"d: {number} hosts")
        found += [boot(f"bench-{index}") for index in range(len(found) + 1, number + 1)]
        directory = make_inventory(found)
        site(directory)
        results.no_change[number], _ = unchanged(directory)
        say(f"   {results.no_change[number]:.1f} s")
    return results


def provisioned(part: str, settings: Mapping[str, Any]) -> Server:
    """Return a server of a part's own on which site.yml has run."""
    images.python_image(images.DEFAULT_SUITE)
    server = boot(f"bench-{part}")
    directory = WORK / part
    variables = directory / "group_vars" / "all"
    variables.mkdir(parents=True)
    write(variables / "settings.yml", yaml.safe_dump(settings))
    write(directory / "hosts.yml", inventory([server]))
    run([str(BIN / "python"), "-m", "bedstone_control", "secrets", str(directory)])
    site(directory)
    return server


def measure_releases() -> list[releases.Change]:
    """Measure releases on a server of their own."""
    say("e: releases under load, beside docker compose")
    changes = releases.measure(provisioned("releases", releases.settings()))
    servers.down(servers.containers(name="bench-releases"))
    return changes


def measure_backups() -> backups.Results:
    """Measure backups and restores on a server of their own."""
    say("f: backups and restores under load, beside pg_dump and psql")
    results = backups.measure(provisioned("backups", backups.settings(WORK / "ledger")))
    servers.down(servers.containers(name="bench-backups"))
    return results


def measure_hosts() -> dict[int, hosts.Run]:
    """Measure runs with nothing to change, in turns: each round has each number of hosts."""
    say("g: nothing to change, on more and more hosts")
    images.python_image(images.DEFAULT_SUITE)
    numbers = range(1, max(hosts.NUMBERS) + 1)
    found = [boot(f"bench-{number}", GROUPS if number == 1 else ()) for number in numbers]
    directories = {number: make_inventory(found[:number]) for number in hosts.NUMBERS}
    site(directories[max(hosts.NUMBERS)])
    runs: dict[int, list[hosts.Run]] = {number: [] for number in hosts.NUMBERS}
    for _ in range(ROUNDS):
        for number, directory in directories.items():
            before = os.times()
            seconds, tasks = unchanged(directory, 1)
            after = os.times()
            cpu = after.children_user + after.children_system
            cpu -= before.children_user + before.children_system
            runs[number].append(hosts.Run(seconds, cpu, tasks))
            say(f"   {number} hosts: {seconds:.1f} s, {cpu:.1f} s of CPU")
    servers.down(servers.containers(group=GROUP))
    for directory in directories.values():
        shutil.rmtree(directory)
    return {number: hosts.middle(measured) for number, measured in runs.items()}


def machine() -> str:
    """Return what the times depend on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, load {os.getloadavg()[0]:.1f} at the start"


def clear() -> None:
    """Remove the bench's servers and files."""
    servers.down(servers.containers(group=GROUP))
    servers.remove_network(GROUP)
    shutil.rmtree(WORK, ignore_errors=True)


def main() -> int:
    """Run the bench; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the table into docs")
    parser.add_argument(
        "--hosts", default="1,2,4", help="numbers of hosts for d (default: %(default)s)"
    )
    parser.add_argument("--part", choices=("all", *PARTS), default="all", help="measure only this")
    parser.add_argument("--keep", action="store_true", help="leave the servers up")
    args = parser.parse_args()
    try:
        clear()
        today = dt.datetime.now(tz=dt.UTC).date().isoformat()
        wanted = PARTS if args.part == "all" else (args.part,)
        parts = []
        if "releases" in wanted:
            where, changes = machine(), measure_releases()
            print(report.text_of_releases(changes))
            parts.append(report.markdown_of_releases(changes, where, today))
        if "backups" in wanted:
            where, found = machine(), measure_backups()
            print(report.text_of_backups(found))
            parts.append(report.markdown_of_backups(found, where, today))
        if "hosts" in wanted:
            where, on_hosts = machine(), measure_hosts()
            print(report.text_of_hosts(on_hosts))
            parts.append(report.markdown_of_hosts(on_hosts, where, today))
        if "site" in wanted:
            results = measure([int(number) for number in args.hosts.split(",")])
            print(report.text(results))
            parts.append(report.markdown(results, today))
        for part in parts if args.write else []:
            write(PAGE, report.replace_part(PAGE.read_text(), part))
    except TestbedError as error:
        say(f"error: {error.message}")
        return 1
    finally:
        if not args.keep:
            clear()
    return 0


if __name__ == "__main__":
    sys.exit(main())
