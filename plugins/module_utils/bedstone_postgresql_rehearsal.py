"""Try a configuration on a temporary cluster, so that a bad one is found before it is in place."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any

from bedstone_postgresql_instance import SUPERUSER, Instance, as_superuser
from bedstone_postgresql_tls import addresses

START_SECONDS = 30
PARENT = "/var/tmp"  # noqa: S108 - on the disk; mkdtemp makes a directory for us alone
SHOWN_LINES = 10


def rehearse(instance: Instance) -> list[str]:
    """Start a temporary cluster with the instance's configuration; return why it doesn't start.

    Everything that makes PostgreSQL refuse a start is found here, and by PostgreSQL: a value out
    of range, a line of pg_hba.conf, a key that doesn't belong to its certificate, a library to
    preload that isn't installed. PostgreSQL itself only skips an address that isn't there; here
    it is found too. The running server isn't touched.

    Nothing is tried on a server whose cluster doesn't exist yet.
    """
    if not (instance.configuration / "postgresql.conf").exists():
        return []
    account = pwd.getpwnam(SUPERUSER)
    with tempfile.TemporaryDirectory(prefix="bedstone-rehearsal-", dir=PARENT) as made:
        base = Path(made)
        shutil.copytree(instance.configuration, base / "etc")
        (base / "run").mkdir()
        for path in (base, *base.rglob("*")):
            os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)
        return _try_to_start(instance, base)


def overrides(base: Path) -> dict[str, str]:
    """Return the settings that keep the rehearsal apart from the real server."""
    return {
        "config_file": str(base / "etc/postgresql.conf"),
        "data_directory": str(base / "data"),
        "hba_file": str(base / "etc/pg_hba.conf"),
        "ident_file": str(base / "etc/pg_ident.conf"),
        "external_pid_file": str(base / "pid"),
        "unix_socket_directories": str(base / "run"),
        "listen_addresses": "",
        # The real server holds its own memory at the same time.
        "shared_buffers": "16MB",
        "huge_pages": "off",
        # Nothing of the rehearsal may reach an archive or the real log.
        "archive_mode": "off",
        "logging_collector": "off",
        "log_destination": "stderr",
        "fsync": "off",
    }


def _try_to_start(instance: Instance, base: Path) -> list[str]:
    made = as_superuser(
        [instance.programs / "initdb", "--no-sync", "--auth=reject", "--pgdata", base / "data"]
    )
    if made.returncode != 0:
        return [f"The rehearsal's cluster could not be made: {made.stderr.strip()}"]
    settings = overrides(base)
    problems = _start_and_stop(instance, base, settings)
    if not problems:
        del settings["listen_addresses"]
        problems = absent_addresses(_listen_addresses(instance, settings))
    return problems


def _start_and_stop(instance: Instance, base: Path, settings: dict[str, str]) -> list[str]:
    log = base / "log"
    options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
    control: list[str | Path] = [instance.programs / "pg_ctl", "--silent"]
    control += ["--pgdata", settings["data_directory"]]
    started = as_superuser(
        [*control, "start", "--wait", "--timeout", str(START_SECONDS), "--log", log, "-o", options]
    )
    as_superuser([*control, "stop", "--mode", "immediate"])
    if started.returncode == 0:
        return []
    said = log.read_text(errors="replace") if log.exists() else started.stderr
    shown = "\n".join(said.strip().splitlines()[-SHOWN_LINES:])
    shown = shown.replace(str(base / "etc"), str(instance.configuration))
    return [f"PostgreSQL does not start with this configuration:\n{shown}"]


def _listen_addresses(instance: Instance, settings: dict[str, str]) -> str:
    command: list[str | Path] = [instance.programs / "postgres", "-C", "listen_addresses"]
    command += [f"--{name}={value}" for name, value in settings.items()]
    return as_superuser(command).stdout.strip()


def absent_addresses(listen_addresses: str) -> list[str]:
    """Return a sentence for each address to listen on that this host doesn't have.

    Args:
        listen_addresses: PostgreSQL's setting of that name.

    """
    problems = []
    for name in addresses(listen_addresses):
        try:
            found = socket.getaddrinfo(name, 0, type=socket.SOCK_STREAM)
        except OSError:
            found = []
        # A name may stand for an IPv6 address too on a host that has none.
        if not any(_can_listen(family, where) for family, _, _, _, where in found):
            problems.append(
                f"listen_addresses: this server has no address {name}, so PostgreSQL would not "
                "listen there. Is the unit up that brings it?"
            )
    return problems


def _can_listen(family: int, where: Any) -> bool:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind(where)
    except OSError:
        return False
    return True
