"""What the drill happens on: an offsite server, one that dies, and one that takes its place."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from testbed import images, servers
from testbed.errors import TestbedError
from testbed.paths import CACHE, ROOT, write
from testbed.servers import Server, Spec
from testbed.shell import podman, run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.drill.offsite import Offsite

GROUP = "drill"
WORK = CACHE / "drill"
INVENTORY = WORK / "inventory"
PASSWORD = INVENTORY / ".vault-password"
LOGS = WORK / "logs"
APP = "drill"
DOMAIN = "drill.localhost"
DESTINATION = "offsite"
# The inventory's name of the server: it stays when the machine behind it is another one.
HOST = "shop"
SHOWN_LINES = 60
PLAYBOOK_SECONDS = 1800
COMMAND_SECONDS = 900
COPY = "bedstone-copy.service"
FULL_BACKUP_UNIT = "bedstone-wal-full.service"
FULL_BACKUP = f"systemctl start {FULL_BACKUP_UNIT}"
# What begins by itself at night, and holds the locks that the drill needs.
NIGHTS = " ".join(
    f"bedstone-{name}.timer"
    for name in ("backup", "verify", "destinations", "wal-full", "wal-incremental")
)
CHECK = "runuser -u postgres -- pgbackrest --stanza=main check"
# What bedstone ends with when it has understood and not carried out.
REFUSED = 3


def ssh(server: Server, command: str, *, check: bool = True) -> str:
    """Run a shell command on a server and return what it prints.

    Raises:
        TestbedError: it failed, and `check` is set.

    """
    done = run(server.ssh(command), check=False, timeout_seconds=COMMAND_SECONDS)
    if check and done.returncode:
        raise TestbedError(f"{server.name}: {command} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def exit_code(server: Server, command: str) -> int:
    """Run a shell command on a server and return its exit code."""
    return run(server.ssh(command), check=False, timeout_seconds=COMMAND_SECONDS).returncode


def hold_nights(server: Server) -> None:
    """Let nothing begin by itself: the drill may run at any hour, and does it by hand."""
    ssh(server, f"systemctl stop {NIGHTS}")


def serving(server: Server) -> str:
    """Return the id of the app's release that serves on a server."""
    status = json.loads(ssh(server, "bedstone status --json", check=False))
    return str(next(app["release"] for app in status["apps"] if app["app"] == APP))


def boot(name: str, aliases: tuple[str, ...] = ()) -> Server:
    """Start a bare server of a Debian, which the others find by its name and aliases."""
    return servers.up(Spec(f"{GROUP}-{name}", group=GROUP, aliases=aliases))[0]


def settings(offsite: Offsite, key: str, *, wal: bool) -> dict[str, Any]:
    """Return what an operator would write, who holds the backup key elsewhere, too."""
    from bedstone_control.vault import backup_key

    return {
        "bedstone_apps": [
            {
                "name": APP,
                "domains": [DOMAIN],
                "source": {"path": str(ROOT / "tests/apps/drill")},
                "build": {"args": {"BASE_IMAGE": "bedstone-python:trixie"}},
                "services": {"web": {"port": 8000, "health": "/health/"}},
                "commands": {"check": [], "migrate": ["python schema.py"], "static": []},
                "media": {"path": "/app/media", "url": None},
            }
        ],
        "bedstone_backup": {
            "destinations": [
                {"name": DESTINATION, **({} if wal else {"wal": False}), **offsite.settings()}
            ],
            "key_held": backup_key.fingerprint(key),
        },
        "bedstone_extra_ca_certificates": [str(path) for path in offsite.authorities()],
        "docker_image_archives": ["/opt/testbed/bedstone-python.tar"],
    }


def write_inventory(offsite: Offsite, *, wal: bool) -> None:
    """Write the settings and an encrypted vault, as an operator has them."""
    from bedstone_control.roles.secrets import new_secrets
    from bedstone_control.vault import backup_key
    from bedstone_control.vault import content as vault

    key = backup_key.make()
    own = settings(offsite, key, wal=wal)
    (WORK / "inventory").mkdir(parents=True, exist_ok=True)
    PASSWORD.unlink(missing_ok=True)
    vault.write_password(PASSWORD)
    named = {name: value for name, value in own.items() if name.startswith("bedstone_")}
    content = new_secrets(named)
    content["bedstone_secrets"]["backup"] = {
        "key": key,
        "destinations": {DESTINATION: offsite.secrets()},
    }
    directory = INVENTORY / "group_vars" / "all"
    write(directory / "settings.yml", yaml.safe_dump(own, sort_keys=False))
    vault.write_vault(directory / "vault.yml", content, PASSWORD)


def point_inventory_to(server: Server) -> None:
    """Let the inventory's host be this machine: all that changes when a server is replaced."""
    hosts = {HOST: server.inventory()}
    groups: dict[str, Any] = {
        name: {"hosts": {HOST: {}}} for name in ("proxy", "app", "postgresql")
    }
    write(INVENTORY / "hosts.yml", yaml.safe_dump({"all": {"hosts": hosts, "children": groups}}))


def playbook(name: str, *extra: str) -> float:
    """Run one of the project's playbooks and return how many seconds it took.

    Raises:
        TestbedError: it failed; the message has the end of what it said.

    """
    began = time.monotonic()
    ansible(
        f"playbooks/{name}.yml",
        "-i",
        str(INVENTORY),
        "--vault-password-file",
        str(PASSWORD),
        *extra,
    )
    return time.monotonic() - began


def refused(name: str, *extra: str) -> str:
    """Run one of the project's playbooks, which has to fail, and return what it said.

    Raises:
        TestbedError: it didn't fail.

    """
    try:
        playbook(name, *extra)
    except TestbedError as error:
        return error.message
    raise TestbedError(f"{name}.yml {' '.join(extra)} should have been refused, and wasn't.")


def ansible(path: str, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
    """Run a playbook of the project.

    Raises:
        TestbedError: it failed; the message has the end of what it said.

    """
    LOGS.mkdir(parents=True, exist_ok=True)
    name = Path(path).stem
    log = LOGS / f"{name}.log"
    with log.open("wb") as stream:
        try:
            code = subprocess.run(
                [str(ROOT / ".venv/bin/ansible-playbook"), path, *arguments],
                cwd=ROOT,
                env={
                    **os.environ,
                    "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                    "ANSIBLE_NOCOLOR": "1",
                    "PYTHONUNBUFFERED": "1",
                    "PATH": f"{ROOT / '.venv/bin'}:{os.environ['PATH']}",
                    **(environment or {}),
                },
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                timeout=PLAYBOOK_SECONDS,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            code = 124
    if code:
        last = log.read_text(errors="replace").splitlines()[-SHOWN_LINES:]
        raise TestbedError(
            "\n".join([f"{name}.yml ended with {code}:", *last]),
            f"All of it: {log}. To look around: run with --keep.",
        )


def prepare_images() -> None:
    """Make the images of servers and of the app's base, unless they are there."""
    images.python_image(images.DEFAULT_SUITE)
    images.server_image(images.DEFAULT_SUITE)


def cut_power(server: Server) -> float:
    """End a server at once; return when, since the epoch."""
    podman(["kill", "--signal=KILL", servers.container_name(server.name)])
    return time.time()


def scrap(server: Server) -> None:
    """Remove what is left of a server: nothing of its disk is to be had."""
    servers.down(servers.containers(name=server.name))


def fetch_authority(server: Server) -> Path:
    """Take the certificate of the authority from the first server, as browsers have it."""
    path = WORK / "ca.crt"
    write(path, run(server.ssh("cat /etc/bedstone/tls/ca.crt")).stdout)
    return path


def clear() -> None:
    """Remove the servers with their data and network, and the secrets."""
    servers.down(servers.containers(group=GROUP))
    servers.remove_network(GROUP)
    for path in (WORK / "offsite-key", WORK / "offsite-key.pub", PASSWORD):
        path.unlink(missing_ok=True)
    shutil.rmtree(WORK / "offsite", ignore_errors=True)
