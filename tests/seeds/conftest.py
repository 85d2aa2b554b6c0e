"""Seed systems on servers of the testbed: their own settings, with a stand-in for the app."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from bedstone_control.inventory import create
from bedstone_control.vault import content as vault
from testbed import images, servers
from testbed.cli import inventory
from testbed.paths import CACHE, ROOT
from testbed.servers import Server, Spec
from testbed.shell import run

SEEDS = ROOT / "inventories" / "seeds"
LIMIT_SECONDS = 2400


@dataclass(frozen=True)
class StandIn:
    """What stands in for a team's code, which is not public.

    Attributes:
        path: its source, from the project's directory.
        health: the path that says that all of it works.

    """

    path: str
    health: str


STAND_INS = {
    "internal-payment": StandIn("app", "/health/"),
    "kore": StandIn("tests/apps/kore", "/api/v1/health/"),
}


@dataclass(frozen=True)
class System:
    """A provisioned seed system.

    Attributes:
        name: its inventory.
        app: its first app.
        domain: the domain of that.
        server: the server it is on.
        directory: its inventory, with the stand-in.
        authority: the certificate of its own authority.

    """

    name: str
    app: str
    domain: str
    server: Server
    directory: Path
    authority: Path

    def on_server(self, command: str) -> str:
        """Run a command on its server and return what it prints."""
        return run(self.server.ssh(command), timeout_seconds=600).stdout

    def play(self, playbook: str, *options: str) -> str:
        """Run a playbook as its README says, and return the output; it has to work."""
        ended = subprocess.run(
            [
                str(ROOT / ".venv/bin/ansible-playbook"),
                f"playbooks/{playbook}.yml",
                f"--inventory={self.directory}",
                f"--vault-password-file={self.directory / create.PASSWORD_FILE}",
                *options,
            ],
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT_SECONDS,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout
        return ended.stdout

    def ask(self, path: str, *data: str) -> dict[str, Any]:
        """Ask the app over TLS, as a browser that keeps its cookies would."""
        jar = self.authority.with_name(f"{self.name}-cookies")
        command = ["curl", "--silent", "--show-error", "--fail-with-body", "--max-time", "40"]
        command += ["--cacert", str(self.authority), "--cookie", str(jar), "--cookie-jar", str(jar)]
        command += ["--resolve", f"{self.domain}:443:{self.server.address}"]
        command += [part for item in data for part in ("--data-urlencode", item)]
        ended = run([*command, f"https://{self.domain}{path}"], timeout_seconds=60)
        answer: dict[str, Any] = json.loads(ended.stdout)
        return answer


def write_inventory(name: str, directory: Path, server: Server) -> None:
    """Write a seed's inventory with the server's address and the stand-in."""
    stand_in = STAND_INS[name]
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(SEEDS / name, directory)
    (directory / "hosts.yml").write_text(inventory([server]))
    path = directory / "group_vars/all/settings.yml"
    settings = yaml.safe_load(path.read_text())
    (app,) = settings["bedstone_apps"]
    app["source"] = {"path": str(ROOT / stand_in.path)}
    app.setdefault("build", {})["args"] = {"BASE_IMAGE": f"bedstone-python:{images.DEFAULT_SUITE}"}
    # No authority on the internet can reach the server; it has Bedstone's own certificate.
    settings.pop("bedstone_acme", None)
    settings["docker_image_archives"] = ["/opt/testbed/bedstone-python.tar"]
    path.write_text(yaml.safe_dump(settings, sort_keys=False))


def write_vault(directory: Path) -> None:
    """Make the vault by the documented command, and add what only an operator has."""
    _, missing = create.add_secrets(directory)
    held: dict[str, Any] = dict(create.vault_content(directory))
    for place in missing:
        *way, last = place.split(".")
        inner = held["bedstone_secrets"]
        for name in way:
            inner = inner.setdefault(name, {})
        inner[last] = secrets.token_urlsafe(24)
    vault.write_vault(directory / create.VAULT_FILE, held, directory / create.PASSWORD_FILE)


@pytest.fixture(scope="module", params=sorted(STAND_INS))
def system(request: pytest.FixtureRequest) -> Iterator[System]:
    """A seed system on a fresh server, provisioned by site.yml."""
    name = str(request.param)
    images.python_image(images.DEFAULT_SUITE)
    images.server_image(images.DEFAULT_SUITE)
    wanted = tuple(yaml.safe_load((SEEDS / name / "hosts.yml").read_text())["all"]["children"])
    label = f"seed-{name}"
    server, _ = servers.up(Spec(name=label, group=label, member_of=wanted))
    directory = CACHE / "seeds" / name
    try:
        write_inventory(name, directory, server)
        write_vault(directory)
        (app,) = yaml.safe_load((directory / "group_vars/all/settings.yml").read_text())[
            "bedstone_apps"
        ]
        authority = directory.with_name(f"{name}-ca.crt")
        made = System(name, app["name"], app["domains"][0], server, directory, authority)
        made.play("site")
        authority.write_text(made.on_server("cat /etc/bedstone/tls/ca.crt"))
        yield made
    finally:
        servers.down(servers.containers(group=label))
        servers.remove_network(label)
