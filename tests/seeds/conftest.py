"""Seed systems on servers of the testbed: their own settings, with a stand-in for the app."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from bedstone_control.inventory import create
from bedstone_control.vault import content as vault
from testbed import images, servers
from testbed.cli import inventory
from testbed.paths import CACHE, ROOT, SSH
from testbed.servers import Server, Spec
from testbed.shell import podman, run
from tests.seeds.receiver import Receiver, listening
from tests.seeds.systems import SERVERS, STAND_INS

SEEDS = ROOT / "inventories" / "seeds"
LIMIT_SECONDS = 2400
HTTP_ERROR = 400
# The private half of a key that an inventory has for its team's workflows.
DEPLOY_KEY = ".deploy-key"


@dataclass(frozen=True)
class Tenant:
    """A seed system's app on a server.

    Attributes:
        name: the system.
        app: its app.
        domain: the domain of that.
        health: the path that says that all of it works.

    """

    name: str
    app: str
    domain: str
    health: str


@dataclass(frozen=True)
class System:
    """A provisioned server with one seed system or several.

    Attributes:
        name: which of `SERVERS`.
        tenants: the apps on it.
        server: the server.
        directory: its inventory, with the stand-ins.
        authority: the certificate of its own authority.
        receiver: stands in for services on the internet.
        secrets: what is in its vault.

    """

    name: str
    tenants: tuple[Tenant, ...]
    server: Server
    directory: Path
    authority: Path
    receiver: Receiver
    secrets: dict[str, Any] = field(repr=False)

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

    def ask(self, path: str, *data: str, tenant: Tenant | None = None) -> dict[str, Any]:
        """Ask an app over TLS, the first without another one; it has to answer well."""
        status, body = self.answer(path, *data, tenant=tenant)
        assert status < HTTP_ERROR, (status, body)
        answer: dict[str, Any] = json.loads(body)
        return answer

    def answer(
        self, path: str, *data: str, tenant: Tenant | None = None, headers: Sequence[str] = ()
    ) -> tuple[int, str]:
        """Ask as a browser that keeps its cookies would, and return status and body."""
        domain = (tenant or self.tenants[0]).domain
        jar = self.authority.with_name(f"{domain}-cookies")
        command = ["curl", "--silent", "--show-error", "--max-time", "90"]
        command += ["--cacert", str(self.authority), "--cookie", str(jar), "--cookie-jar", str(jar)]
        command += ["--resolve", f"{domain}:443:{self.server.address}"]
        command += ["--write-out", "\n%{http_code}"]
        command += [part for item in headers for part in ("--header", item)]
        command += [part for item in data for part in ("--data-urlencode", item)]
        ended = run([*command, f"https://{domain}{path}"], timeout_seconds=120)
        body, _, status = ended.stdout.rpartition("\n")
        return int(status), body

    def tenant(self, name: str) -> Tenant:
        """Return the app of a system."""
        (found,) = [each for each in self.tenants if each.name == name]
        return found


def waited_for(what: str, is_true: Callable[[], bool], seconds: float = 180) -> None:
    """Wait for a condition."""
    limit = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < limit, f"not after {seconds} s: {what}"
        time.sleep(0.5)


def write_inventory(systems: Sequence[str], directory: Path, server: Server) -> None:
    """Write the inventory of seeds on one server: its address, and a stand-in for each."""
    shutil.rmtree(directory, ignore_errors=True)
    apps: list[dict[str, Any]] = []
    settings: dict[str, Any] = {}
    bases: dict[str, None] = {}
    for name in systems:
        stand_in = STAND_INS[name]
        source = SEEDS / (stand_in.inventory or name)
        shutil.copytree(source, directory, dirs_exist_ok=True)
        own = yaml.safe_load((source / "group_vars/all/settings.yml").read_text())
        (app,) = own.pop("bedstone_apps")
        app["source"] = {"path": str(ROOT / stand_in.path)}
        build = app.setdefault("build", {})
        build["args"] = {"BASE_IMAGE": f"bedstone-{stand_in.base}:{images.DEFAULT_SUITE}"}
        bases[f"/opt/testbed/bedstone-{stand_in.base}.tar"] = None
        apps.append(app)
        shared = settings.keys() & own.keys()
        assert not [key for key in shared if settings[key] != own[key]], "they differ in a setting"
        settings |= own
    (directory / "hosts.yml").write_text(inventory([server]))
    settings = {"bedstone_apps": apps, **settings}
    # No authority on the internet can reach the server; it has Bedstone's own certificate.
    settings["bedstone_acme"] = None
    # A collector that no one runs: ten minutes later it would be an alarm.
    settings.pop("bedstone_logs", None)
    # Likewise a server for backups; molecule/backup has one.
    if settings.get("bedstone_backup", {}).pop("destinations", None):
        for app in apps:
            if isinstance(app.get("media"), dict):
                app["media"].pop("copy_every_minutes", None)
    settings["docker_image_archives"] = list(bases)
    if "bedstone_operator" in settings:
        settings["bedstone_operator"]["authorized_keys"] = [(SSH / "id_ed25519.pub").read_text()]
    for path in (directory / "group_vars/all").glob("*.yml"):
        kept = yaml.safe_load(path.read_text())
        kept.pop("bedstone_acme", None)
        if "octoco_deploy_key" in kept:
            kept["octoco_deploy_key"] = make_key(directory / DEPLOY_KEY)
        path.write_text(yaml.safe_dump(kept, sort_keys=False))
    text = yaml.safe_dump(settings, sort_keys=False)
    (directory / "group_vars/all/settings.yml").write_text(text)


def make_key(path: Path) -> str:
    """Make an ssh key, and return its public half."""
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ci", "-f", str(path)])
    return path.with_name(f"{path.name}.pub").read_text().strip()


def write_vault(directory: Path, receiver: Receiver) -> dict[str, Any]:
    """Make the vault by the documented command, add what only an operator has, and return it."""
    _, missing = create.add_secrets(directory)
    held: dict[str, Any] = dict(create.vault_content(directory))
    given = {"sentry_dsn": receiver.dsn, "slack_url": f"http://{receiver.place}/slack"}
    for place in missing:
        *way, last = place.split(".")
        inner = held["bedstone_secrets"]
        for name in way:
            inner = inner.setdefault(name, {})
        inner[last] = given.get(last) or secrets.token_urlsafe(24)
    vault.write_vault(directory / create.VAULT_FILE, held, directory / create.PASSWORD_FILE)
    written: dict[str, Any] = held["bedstone_secrets"]
    return written


def gateway(group: str) -> str:
    """Return this machine's address in the network of a group of servers."""
    told = json.loads(podman(["network", "inspect", servers.network_name(group)]).stdout)
    return str(told[0]["subnets"][0]["gateway"])


@contextmanager
def provisioned_server(name: str) -> Iterator[System]:
    """Provision a fresh server by site.yml, and remove it in the end."""
    makers = {"python": images.python_image, "node": images.node_image}
    for base in {STAND_INS[system].base for system in SERVERS[name]}:
        makers[base](images.DEFAULT_SUITE)
    images.server_image(images.DEFAULT_SUITE)
    groups: dict[str, None] = {}
    for system in SERVERS[name]:
        path = SEEDS / (STAND_INS[system].inventory or system) / "hosts.yml"
        groups |= dict.fromkeys(yaml.safe_load(path.read_text())["all"]["children"])
    label = f"seed-{name}"
    server, _ = servers.up(Spec(name=label, group=label, member_of=tuple(groups)))
    directory = CACHE / "seeds" / name
    try:
        with listening(gateway(label)) as receiver:
            write_inventory(SERVERS[name], directory, server)
            held = write_vault(directory, receiver)
            path = directory / "group_vars/all/settings.yml"
            apps = yaml.safe_load(path.read_text())["bedstone_apps"]
            tenants = tuple(
                Tenant(system, app["name"], domain(directory, app), STAND_INS[system].health)
                for system, app in zip(SERVERS[name], apps, strict=True)
            )
            authority = directory.with_name(f"{name}-ca.crt")
            made = System(name, tenants, server, directory, authority, receiver, held)
            made.play("site")
            authority.write_text(made.on_server("cat /etc/bedstone/tls/ca.crt"))
            yield made
    finally:
        servers.down(servers.containers(group=label))
        servers.remove_network(label)


def domain(directory: Path, app: dict[str, Any]) -> str:
    """Return an app's first domain, which may be a variable of its inventory."""
    values: dict[str, Any] = {}
    for path in (directory / "group_vars/all").glob("environment.yml"):
        values |= yaml.safe_load(path.read_text())
    text = str(app["domains"][0])
    return str(values[text.strip("{} ")]) if text.startswith("{{") else text


@pytest.fixture(scope="session", params=sorted(SERVERS))
def system(request: pytest.FixtureRequest) -> Iterator[System]:
    """A server with its seed systems, which goes after the last test with it."""
    with provisioned_server(str(request.param)) as made:
        yield made


# pytest groups the tests of each server later.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests that leave traces on a server behind all others with that server."""
    items.sort(key=lambda item: item.get_closest_marker("leaves_traces") is not None)
