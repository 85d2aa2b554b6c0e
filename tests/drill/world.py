"""What the drill happens on: an offsite server, one that dies, and one that takes its place."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

import yaml

from testbed import images, servers
from testbed.errors import TestbedError
from testbed.paths import CACHE, ROOT, write
from testbed.servers import Server, Spec
from testbed.shell import podman, run

GROUP = "drill"
WORK = CACHE / "drill"
INVENTORY = WORK / "inventory"
PASSWORD = INVENTORY / ".vault-password"
LOGS = WORK / "logs"
APP = "drill"
DOMAIN = "drill.localhost"
DESTINATION = "offsite"
USER = "bedstone"
PATH = "/srv/bedstone"
# The inventory's name of the server: it stays when the machine behind it is another one.
HOST = "shop"
SHOWN_LINES = 60
PLAYBOOK_SECONDS = 1800
COMMAND_SECONDS = 900
# pgBackRest keeps each file of a restore open: see docs/operations.md.
OFFSITE_FILES = 16384
COPY = "bedstone-copy.service"
FULL_BACKUP = "systemctl start bedstone-wal-full.service"
CHECK = "runuser -u postgres -- pgbackrest --stanza=main check"
# What bedstone ends with when it has understood and not carried out.
REFUSED = 3


def ssh(server: Server, command: str, *, check: bool = True) -> str:
    """Run a shell command on a server and return what it prints.

    Raises:
        TestbedError: it failed, and `check` wants to know.

    """
    done = run(server.ssh(command), check=False, timeout_seconds=COMMAND_SECONDS)
    if check and done.returncode:
        raise TestbedError(f"{server.name}: {command} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def exit_code(server: Server, command: str) -> int:
    """Run a shell command on a server and return its exit code."""
    return run(server.ssh(command), check=False, timeout_seconds=COMMAND_SECONDS).returncode


def serving(server: Server) -> str:
    """Return the id of the app's release that serves on a server."""
    status = json.loads(ssh(server, "bedstone status --json", check=False))
    return str(next(app["release"] for app in status["apps"] if app["app"] == APP))


def archived(offsite: Server) -> list[str]:
    """Return the names of the files in the destination's archive of the write-ahead log."""
    return ssh(offsite, f"find {PATH}/pgbackrest/archive -type f -printf '%f\\n'").split()


def spec(name: str) -> Spec:
    """Return what a server of the drill is."""
    return Spec(name=f"{GROUP}-{name}", group=GROUP)


def boot(name: str) -> Server:
    """Start a bare server."""
    return servers.up(spec(name))[0]


def make_offsite() -> tuple[Server, str]:
    """Start the offsite server and return it with the private key that opens it."""
    server = boot(DESTINATION)
    WORK.mkdir(parents=True, exist_ok=True)
    key = WORK / "offsite-key"
    for path in (key, key.with_name(f"{key.name}.pub")):
        path.unlink(missing_ok=True)
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "drill", "-f", str(key)])
    public = key.with_name(f"{key.name}.pub").read_text().strip()
    script = f"""
        set -eu
        useradd --create-home --shell /usr/sbin/nologin {USER}
        install -d -o {USER} -g {USER} -m 0700 /home/{USER}/.ssh {PATH}
        printf '%s\\n' {shlex.quote(public)} > /home/{USER}/.ssh/authorized_keys
        printf 'Match User {USER}\\n  ForceCommand internal-sftp\\n  AllowTcpForwarding no\\n' \
            > /etc/ssh/sshd_config.d/50-{USER}.conf
        mkdir -p /etc/systemd/system/ssh.service.d
        printf '[Service]\\nLimitNOFILE={OFFSITE_FILES}\\n' \
            > /etc/systemd/system/ssh.service.d/10-files.conf
        systemctl daemon-reload
        systemctl restart ssh.service
    """
    done = run(server.ssh(script), check=False, timeout_seconds=60)
    if done.returncode:
        raise TestbedError(f"The offsite server can't be made: {done.stderr}")
    return server, key.read_text()


def host_keys(server: Server) -> list[str]:
    """Return all public keys of a server: pgBackRest and ssh prefer different types."""
    lines = ssh(server, "cat /etc/ssh/ssh_host_*_key.pub").splitlines()
    return [" ".join(line.split()[:2]) for line in lines]


def settings(offsite: Server, key: str) -> dict[str, Any]:
    """Return what an operator would write, who holds the backup key elsewhere, too."""
    from bedstone_control import backup_key

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
                {
                    "name": DESTINATION,
                    "sftp": {
                        "host": offsite.name,
                        "user": USER,
                        "path": PATH,
                        "host_keys": host_keys(offsite),
                    },
                }
            ],
            "key_held": backup_key.fingerprint(key),
        },
        "docker_image_archives": ["/opt/testbed/bedstone-python.tar"],
    }


def write_inventory(offsite: Server, private_key: str) -> None:
    """Write the settings and an encrypted vault, as an operator has them."""
    from bedstone_control import backup_key, vault

    key = backup_key.make()
    own = settings(offsite, key)
    (WORK / "inventory").mkdir(parents=True, exist_ok=True)
    PASSWORD.unlink(missing_ok=True)
    vault.write_password(PASSWORD)
    named = {name: value for name, value in own.items() if name.startswith("bedstone_")}
    content = vault.new_secrets(named)
    content["bedstone_secrets"]["backup"] = {
        "key": key,
        "destinations": {DESTINATION: {"private_key": private_key}},
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
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{name}.log"
    command = [
        str(ROOT / ".venv/bin/ansible-playbook"),
        f"playbooks/{name}.yml",
        "-i",
        str(INVENTORY),
        "--vault-password-file",
        str(PASSWORD),
        *extra,
    ]
    began = time.monotonic()
    with log.open("wb") as stream:
        try:
            code = subprocess.run(
                command,
                cwd=ROOT,
                env={
                    **os.environ,
                    "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                    "ANSIBLE_NOCOLOR": "1",
                    "PYTHONUNBUFFERED": "1",
                    "PATH": f"{ROOT / '.venv/bin'}:{os.environ['PATH']}",
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
    return time.monotonic() - began


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
