"""Two servers of one inventory, and provisioning with either of them as the primary."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import units
import yaml

from bedstone_control import names
from testbed import servers

if TYPE_CHECKING:
    from testinfra.host import Host

ROOT = Path(__file__).resolve().parents[2]
SCENARIO = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
PASSWORD = "password-of-the-app-0123456789"
CLUSTER = "postgresql@17-main.service"
SUPERUSER = "runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1"
# Names of the servers in the groups of groups.yml.
SERVERS, PEERS = "servers", "peers"


class Database:
    """PostgreSQL of one server, asked there by its superuser or over the network by the app."""

    def __init__(self, host: Host, address: str) -> None:
        self.host = host
        self.address = address

    def sql(self, script: str, database: str = "shop") -> str:
        """Run SQL as the superuser and return what it printed."""
        command = f"{SUPERUSER} -d {database} -c {shlex.quote(script)}"
        return self.host.check_output(command).strip()

    def as_app(self, script: str, *, name: str = "postgres", at: Database | None = None) -> Any:
        """Run SQL as the app does: by its login, over verified TLS, at any server's address."""
        login = names.app_login("shop", PASSWORD)
        address = at.address if at and at is not self else "127.0.0.1"
        where = f"host={name} hostaddr={address} dbname=shop user={login}"
        tls = "sslmode=verify-full sslrootcert=/etc/bedstone/tls/ca.crt connect_timeout=5"
        command = f"PGPASSWORD={PASSWORD} psql -XAtq {shlex.quote(f'{where} {tls}')}"
        return self.host.run(f"{command} -c {shlex.quote(script)}")

    def bedstone(self, *arguments: str) -> Any:
        """Run bedstone and return how it ended."""
        return self.host.run(shlex.join(["bedstone", *arguments]))

    def status(self) -> dict[str, Any]:
        """Return what `bedstone status` says of the copies."""
        return dict(json.loads(self.bedstone("status", "--json").stdout)["replication"])

    def alarms(self) -> dict[str, dict[str, Any]]:
        """Return the alarms of the copies by name."""
        found = json.loads(self.bedstone("alarms", "--json").stdout)["alarms"]
        return {each["name"]: each for each in found if each["name"].startswith("replication/")}

    def replicate(self, at: Database, **changed: str) -> Any:
        """Ask for the replication of another server with this server's certificate."""
        options = {
            "host": "postgres",
            "hostaddr": at.address,
            "user": "bedstone_replication",
            "sslmode": "verify-full",
            "sslrootcert": "/etc/bedstone/tls/ca.crt",
            "sslcert": "/etc/bedstone/tls/replication.crt",
            "sslkey": "/etc/bedstone/tls/replication.key",
            "connect_timeout": "5",
            "replication": "true",
            **changed,
        }
        where = " ".join(f"{name}={value}" for name, value in options.items())
        return self.host.run(f"psql -XAt {shlex.quote(where)} -c IDENTIFY_SYSTEM")

    def follows(self) -> bool:
        """Return whether it is a standby that gets changes."""
        return bool(self.status()["standby"]["receiver"] == "streaming")

    def wait_for(self, query: str, answer: str) -> None:
        """Wait until a query has an answer here."""
        units.wait(lambda: self.sql(query) == answer, f"{query} -> {answer}")


def lose(database: Database) -> None:
    """Remove a server with its disk, and leave it out of the inventory."""
    name = database.host.check_output("hostname")
    servers.down(servers.containers(name=name))
    path = SCENARIO / "production" / "hosts.yml"
    known = yaml.safe_load(path.read_text())["all"]
    del known["hosts"][name]
    for group in known["children"].values():
        group["hosts"].pop(name, None)
    path.write_text(yaml.safe_dump({"all": known}))


def read_from_the_primary() -> None:
    """Write into the settings what docs/replica.md says of a time without a copy."""
    path = SCENARIO / "production" / "group_vars/all/settings.yml"
    text, asked = path.read_text(), "database: {replica: true}"
    assert text.count(asked) == 1
    instead = 'database: {}\n    env: {DATABASE_REPLICA_URL: "${database.url}"}'
    path.write_text(text.replace(asked, instead))


def provision(primary: str, copy: str | None, *options: str) -> str:
    """Run provision.yml with one server as the primary and the other, if any, as its copy."""
    production = SCENARIO / "production"
    groups = {"app": SERVERS, "postgresql": primary}
    if copy:
        groups["postgresql_replica"] = copy
    (production / "topology.yml").write_text(
        json.dumps({name: {"children": {group: None}} for name, group in groups.items()})
    )
    run = subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")), "playbooks/provision.yml",
            f"--inventory={production}", f"--vault-password-file={production}/.vault-password",
            *options,
        ],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={
            **os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_FORCE_COLOR": "0",
        },
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout
