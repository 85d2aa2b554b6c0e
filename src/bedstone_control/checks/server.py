"""Check a server before any change to it: the facts of `survey` against the requirements."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bedstone_control import debian
from bedstone_control.checks.problems import Problem
from bedstone_control.roles.registry import ROLES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bedstone_control.settings.backup import Backup

OLDEST_PYTHON = (3, 11)
# The programs that may listen on a port of ours already. Not sshd's: the survey came over it.
OWN_PROGRAMS = {
    port.default: frozenset(port.programs)
    for role in ROLES
    for port in role.ports
    if port.variable != "ansible_port"
}


@dataclass(frozen=True)
class Limits:
    """The requirements of a server.

    Attributes:
        memory_mb: least memory in MiB.
        free_disk_mb: least free space in MiB.
        clock_difference_seconds: how far the clock may be from the controller's.

    """

    memory_mb: int
    free_disk_mb: int
    clock_difference_seconds: int


def check(
    host: str,
    found: Mapping[str, Any],
    limits: Limits,
    now: float,
    apps: Sequence[Any] = (),
) -> list[Problem]:
    """Return every problem with a server.

    Args:
        host: its name in the inventory.
        found: what `survey` printed.
        limits: what is needed.
        now: the controller's time in seconds since 1970, when the survey ran.
        apps: `bedstone_apps` if the server runs them, as the settings have it.

    """
    return [
        *_system(host, found),
        *_size(host, found, limits),
        *_clock(host, found, limits, now),
        *_listeners(host, found),
        *_apps(host, found, apps),
    ]


def unreadable(host: str, output: str) -> Problem:
    """Return the problem of a server on which the survey did not run."""
    lines = output.strip().splitlines()
    said = f" It said: {lines[-1]}" if lines else ""
    return Problem(
        f"Its python3 could not be run.{said}",
        f"server {host}",
        "(on the server)",
        "apt-get install -y python3",
    )


def has_other_key(output: str) -> bool:
    """Return whether ssh ended because a server has none of the keys that it may have."""
    return "Host key verification failed" in output


def other_key(host: str, address: str, output: str) -> Problem:
    """Return the problem of a machine that answers with none of the pinned host keys."""
    shown = re.search(r"\bSHA256:[A-Za-z0-9+/]+", output)
    key = f"; its key has the fingerprint {shown[0]}" if shown else ""
    message = f"The machine at {address} has none of the `host_keys` of {host}{key}."
    return Problem(
        f"{message} It was sent nothing.",
        f"server {host}",
        "hosts.yml",
        "# is ansible_host right? then compare, at the machine's own console:\n"
        "#   ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub\n"
        "host_keys:\n- ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI…",
    )


def _problem(host: str, message: str, example: str, file: str = "(on the server)") -> Problem:
    return Problem(message, f"server {host}", file, example)


def _system(host: str, found: Mapping[str, Any]) -> Iterator[Problem]:
    """Check for root, Debian and Python."""
    if found["user_id"] != 0:
        message = "Tasks run there without root's rights."
        yield _problem(host, message, "ansible_user: root\n# or\nansible_become: true", "hosts.yml")
    version = str(found["version"])
    if not debian.is_supported(found["distribution"], version):
        is_now = f"{found['distribution_name'] or 'an unknown system'} {version}".strip()
        message = f"It runs {is_now}; Bedstone supports {debian.SUPPORTED} only."
        yield _problem(host, message, "a server with Debian 13")
    if tuple(found["python"][:2]) < OLDEST_PYTHON:
        given = ".".join(str(part) for part in found["python"])
        message = f"Its python3 is {given}; {'.'.join(map(str, OLDEST_PYTHON))} is the oldest."
        yield _problem(host, message, "the python3 of Debian 13")


def _size(host: str, found: Mapping[str, Any], limits: Limits) -> Iterator[Problem]:
    """Check memory and disk."""
    if found["memory_mb"] < limits.memory_mb:
        message = f"It has {found['memory_mb']} MiB of memory; {limits.memory_mb} are the least."
        example = f"a larger server, or for a trial: preflight_min_memory_mb: {found['memory_mb']}"
        yield _problem(host, message, example)
    for path, free in found["free_mb"].items():
        if free < limits.free_disk_mb:
            message = f"{path} has {free} MiB free; {limits.free_disk_mb} are the least."
            example = "docker system df; journalctl --disk-usage; apt-get clean"
            yield _problem(host, message, example)
            break  # mostly one disk: one message


def _clock(host: str, found: Mapping[str, Any], limits: Limits, now: float) -> Iterator[Problem]:
    """Check the clock: one that is far off refuses certificates and package lists."""
    difference = round(found["time"] - now)
    if abs(difference) > limits.clock_difference_seconds:
        direction = "ahead of" if difference > 0 else "behind"
        message = f"Its clock is {abs(difference)} seconds {direction} this machine's."
        yield _problem(host, message, "timedatectl set-ntp true; timedatectl status")


def _listeners(host: str, found: Mapping[str, Any]) -> Iterator[Problem]:
    """Check for ports of ours that another program holds."""
    for port, program in sorted(found["listeners"].items()):
        if program not in OWN_PROGRAMS[int(port)]:
            message = f"The program `{program}` listens on port {port} already."
            yield _problem(
                host, message, f"ss -ltnp 'sport = :{port}'   # stop and disable what it names"
            )


def _apps(host: str, found: Mapping[str, Any], apps: Sequence[Any]) -> Iterator[Problem]:
    """Check that the server has what the apps' limits name: Docker refuses them late."""
    file = "group_vars/all/settings.yml"
    for app in apps:
        if not isinstance(app, dict):
            continue
        for kind, called in (("services", "service"), ("jobs", "job"), ("redis", "Redis")):
            for name, values in _items(app.get(kind)):
                where = f"{called} `{name}` of `{app.get('name')}`"
                cpus: Any = values.get("cpus")
                memory: Any = values.get("memory_mb")
                if _is_number(cpus) and cpus > found["cpus"]:
                    message = (
                        f"The {where} has `cpus: {cpus:g}`; it has {found['cpus']} processors."
                    )
                    yield _problem(host, message, f"cpus: {found['cpus']}", file)
                replicas: Any = values.get("replicas", 1)
                count = int(replicas) if _is_number(replicas) else 1
                if _is_number(memory) and count * memory > found["memory_mb"]:
                    each = f" in each of {count} replicas" if count > 1 else ""
                    message = (
                        f"The {where} has `memory_mb: {memory}`{each}; it has {found['memory_mb']}."
                    )
                    right = found["memory_mb"] // (2 * max(count, 1))
                    yield _problem(host, message, f"memory_mb: {right}", file)
        body: Any = app.get("max_body_mb")
        free = found["free_mb"]["/var/lib/docker"]
        # nginx keeps a body until it is whole, the app spools it in its /tmp.
        if _is_number(body) and 2 * body > free:
            message = (
                f"`{app.get('name')}` has `max_body_mb: {body}`; an upload lies on the disk twice, "
                f"and {free} MiB are free."
            )
            yield _problem(host, message, f"max_body_mb: {max(free // 4, 1)}", file)


def _items(value: Any) -> list[tuple[str, dict[str, Any]]]:
    if not isinstance(value, dict):
        return []
    return [(str(name), values) for name, values in value.items() if isinstance(values, dict)]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(frozen=True)
class Wanted:
    """The apps that a server is to have, and what was asked for by name.

    Attributes:
        apps: name -> domains, by the settings.
        retire: apps to stop that are no longer in the settings.
        start_empty: new apps that begin without the data of the one whose domain they get.

    """

    apps: Mapping[str, list[str]]
    retire: frozenset[str] = frozenset()
    start_empty: frozenset[str] = frozenset()


def check_apps(host: str, found: Mapping[str, Any], wanted: Wanted) -> Iterator[Problem]:
    """Find apps that would be stopped, or started without their data, by a slip in the settings."""
    there: Mapping[str, Any] = found.get("apps", {})
    for name, entry in sorted(there.items()):
        if not entry["retired"] and name not in wanted.apps and name not in wanted.retire:
            message = (
                f"The app {name} serves there ({', '.join(entry['domains']) or 'no domain'}) and"
                " isn't in the settings. Put it back, or ask for its end: it is stopped, its images"
                " and releases stay for 30 days, its data until you remove it."
            )
            yield _problem(host, message, f"-e retire={name}", "settings.yml")
    for name, domains in wanted.apps.items():
        if name in there or name in wanted.start_empty:
            continue
        for other, entry in sorted(there.items()):
            shared = sorted({*domains} & {*entry["domains"]})
            if shared and other not in wanted.apps:
                message = (
                    f"The new app {name} has the domain {shared[0]} of {other}, which isn't in the"
                    f" settings. An app is known by its name: {name} would begin with an empty"
                    f" database and no uploads. To go on with the data, keep `name: {other}`:"
                    " domain and source can change under it. Or begin empty, and carry a backup"
                    f" over with `bedstone restore {name} BACKUP --from-other-app`."
                )
                example = f"name: {other}\n# or, to begin without its data: -e start_empty={name}"
                yield _problem(host, message, example, "settings.yml")


def lowered_retention(host: str, found: Mapping[str, Any], backup: Backup) -> str | None:
    """Return what the settings keep less of than the server does, in a sentence, or None.

    The server goes on keeping it until that is accepted there; see bedstone.backup.retention_held.
    """
    wanted = {
        "keep_days": backup.keep_days,
        "keep_weeks": backup.keep_weeks,
        "keep_months": backup.keep_months,
        "keep_point_in_time_days": backup.keep_point_in_time_days if backup.point_in_time else 0,
    }
    there = found.get("retention") or {}
    lower = [
        f"{name} from {there[name]} to {value}"
        for name, value in wanted.items()
        if isinstance(there.get(name), int) and there[name] > value
    ]
    if not lower:
        return None
    return (
        f"{host}: the settings lower {', '.join(lower)}. Nothing is removed for that until"
        " `bedstone retention --accept` is run there; `bedstone retention` shows what would go."
    )


def facts(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return Ansible's facts, by their usual names, that roles may read.

    Args:
        found: what `survey` printed.

    """
    return {
        "ansible_distribution": found["distribution_name"],
        "ansible_distribution_release": found["release"],
        "ansible_distribution_version": found["full_version"] or found["version"],
        "ansible_distribution_major_version": found["version"],
        "ansible_hostname": found["hostname"],
        "ansible_memtotal_mb": found["memory_mb"],
        "ansible_processor_vcpus": found["cpus"],
        "ansible_default_ipv4": {"address": found["address"], "interface": found["interface"]}
        if found["address"]
        else {},
        "ansible_default_ipv6": {"interface": found["interface_ipv6"]}
        if found["interface_ipv6"]
        else {},
        "ansible_dns": {"nameservers": found["nameservers"]},
        "bedstone_open_ports": found["open_ports"],
    }
