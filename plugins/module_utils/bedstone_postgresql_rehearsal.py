"""Tries a configuration on a throwaway cluster, so that a bad one is found before it counts."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from pathlib import Path

from bedstone_postgresql_instance import SUPERUSER, Instance, as_superuser

START_SECONDS = 30
PARENT = "/var/tmp"  # noqa: S108 - on the disk; mkdtemp makes a directory for us alone
SHOWN_LINES = 10


def rehearse(instance: Instance) -> list[str]:
    """Start a throwaway cluster with the instance's configuration; return why it doesn't start.

    Everything that makes PostgreSQL refuse a start is found here, and by PostgreSQL: a value out
    of range, a line of pg_hba.conf, a key that doesn't belong to its certificate, a library to
    preload that isn't installed. The running server isn't touched.

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
            os.chown(path, account.pw_uid, account.pw_gid)
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
        # The real server holds its own memory meanwhile.
        "shared_buffers": "16MB",
        "huge_pages": "off",
        # Nothing of the rehearsal may reach an archive or the real log.
        "archive_mode": "off",
        "logging_collector": "off",
        "log_destination": "stderr",
        "fsync": "off",
    }


def _try_to_start(instance: Instance, base: Path) -> list[str]:
    data, log = base / "data", base / "log"
    made = as_superuser(
        [instance.programs / "initdb", "--no-sync", "--auth=reject", "--pgdata", data]
    )
    if made.returncode != 0:
        return [f"The rehearsal's cluster could not be made: {made.stderr.strip()}"]
    options = " ".join(f"-c {name}='{value}'" for name, value in overrides(base).items())
    control: list[str | Path] = [instance.programs / "pg_ctl", "--pgdata", data, "--silent"]
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
