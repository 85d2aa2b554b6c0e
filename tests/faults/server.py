"""The server that the faults happen on, and what is done with it."""

from __future__ import annotations

import io
import json
import os
import shlex
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from testbed import images, servers
from testbed.cli import inventory
from testbed.errors import TestbedError
from testbed.paths import CACHE, ROOT, write
from testbed.servers import Server, Spec
from testbed.shell import podman
from tests.faults.cells import Cell, Recorded

HERE = Path(__file__).resolve().parent
GROUP = "faults"
WORK = CACHE / "faults"
HELLO = ROOT / "molecule" / "app" / "hello"
APP = "hello"
ENVIRONMENT = f"/etc/bedstone/apps/{APP}/app.env"
SOURCE = f"/var/lib/bedstone/apps/{APP}/source.tar.gz"
PLACE = "/root/faults"
MARKER = f"{PLACE}/marker"
LIMIT_SECONDS = 600
BOOT_SECONDS = 300
# As bedstone-operation@.service has it: a killed operation is reconciled by systemd.
UNIT = (
    "systemd-run --quiet --collect --wait --unit=fault --property=KillMode=mixed"
    f" --property=TimeoutStopSec=180 --property='ExecStopPost=/usr/local/bin/bedstone settle {APP}'"
)


def variables() -> dict[str, Any]:
    """Return the variables of scenario `app`, with a second HTTP service."""
    scenario = yaml.safe_load((ROOT / "molecule/app/molecule.yml").read_text())
    found: dict[str, Any] = scenario["provisioner"]["inventory"]["group_vars"]["all"]
    site, app = found["nginx_sites"][0], found["app_apps"][0]
    site["routes"].append({"path": "/api/", "upstream": "hello-api"})
    found["nginx_upstreams"].append("hello-api")
    web = app["config"]["services"]["web"]
    app["config"]["services"]["api"] = {**web, "route": "/api/", "health": None}
    app["source_archive"] = str(WORK / "hello.tar.gz")
    app["environment"]["GREETING"] = "v0"
    return found


def pack(version: str) -> bytes:
    """Return the app's source, whose static file names a version."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path in sorted(HELLO.iterdir()):
            if path.is_file():
                data = path.read_bytes().replace(b"{ color: teal }", f"/* {version} */".encode())
                member = tarfile.TarInfo(path.name)
                member.size, member.mode = len(data), 0o644
                archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


@dataclass
class Target:
    """The server under test."""

    server: Server
    spec: Spec
    # Not from 0: a server that was kept has seen those.
    version: int = field(default_factory=lambda: int(time.time()) % 10**6)

    def ssh(
        self, command: str, *, check: bool = True, data: bytes | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command on it."""
        done = subprocess.run(
            self.server.ssh(command),
            input=data if data is not None else b"",
            capture_output=True,
            check=False,
            timeout=LIMIT_SECONDS,
        )
        text = subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )
        if check and text.returncode:
            raise TestbedError(f"{command}: {text.stdout}\n{text.stderr}")
        return text

    def send(self, data: bytes, path: str) -> None:
        """Write a file on it."""
        self.ssh(f"cat > {path}.new && mv {path}.new {path}", data=data)

    def new_version(self) -> None:
        """Declare another version: of the source, and of the environment."""
        self.version += 1
        self.send(pack(f"v{self.version}"), SOURCE)
        self.ssh(f"sed -i 's/^GREETING=.*/GREETING=v{self.version}/' {ENVIRONMENT}")

    def release(self) -> None:
        """Release another version, which has to work."""
        self.new_version()
        self.ssh(f"bedstone release {APP} --json")

    def operate(self, operation: str, fault: dict[str, Any], *, wait: bool = True) -> int:
        """Run an operation under the driver, in a unit of its own; return its exit code."""
        if operation == "release":
            self.new_version()
        self.ssh(f"rm -f {MARKER}")
        self.send(json.dumps(fault).encode(), f"{PLACE}/fault.json")
        unit = UNIT if wait else UNIT.replace(" --wait", "")
        return self.ssh(
            f"{unit} /usr/bin/python3 {PLACE}/driver.py {PLACE}/fault.json"
            f" {operation} {APP} --foreground",
            check=False,
        ).returncode

    def record(self, operation: str) -> list[Recorded]:
        """Run an operation without a fault and return its steps."""
        path = f"{PLACE}/recorded.json"
        if code := self.operate(operation, {"record": path}):
            journal = self.ssh("journalctl -o cat --no-pager -n 60 -u fault.service").stdout
            raise TestbedError(f"{operation} without a fault ended with {code}:\n{journal}")
        return [Recorded(*row) for row in json.loads(self.ssh(f"cat {path}").stdout)]

    def look(self) -> dict[str, list[str]]:
        """Return what doesn't agree, and what was left."""
        said: dict[str, list[str]] = json.loads(self.ssh(f"python3 {PLACE}/consistency.py").stdout)
        return said

    def settled(self, seconds: float) -> dict[str, list[str]]:
        """Look until all agrees, for so long."""
        limit = time.monotonic() + seconds
        while (found := self.look())["problems"] and time.monotonic() < limit:
            time.sleep(1)
        return found

    @contextmanager
    def load(self) -> Iterator[dict[str, Any]]:
        """Send requests during a block; the dict gets what came of them."""
        directory = self.ssh("mktemp -d").stdout.strip()
        self.ssh(f"systemd-run --quiet --collect python3 {PLACE}/load.py {directory}")
        self.ssh(f"timeout 120 sh -c 'until test -e {directory}/started; do sleep 0.1; done'")
        result: dict[str, Any] = {}
        try:
            yield result
        finally:
            self.ssh(f"touch {directory}/stop")
            wait = f"until test -s {directory}/result.json; do sleep 0.2; done"
            self.ssh(f"timeout 180 sh -c '{wait}'")
        result.update(json.loads(self.ssh(f"cat {directory}/result.json").stdout))

    def strike(self, cell: Cell) -> None:
        """Run an operation with its fault, and let systemd reconcile what it left.

        Raises:
            TestbedError: it never came to it.

        """
        code = self.operate(cell.operation, cell.fault(MARKER))
        if self.ssh(f"test -e {MARKER}", check=False).returncode:
            raise TestbedError(f"The fault did not happen; the operation ended with {code}.")

    def cut_power(self, cell: Cell) -> None:
        """Hang the operation at its place, end the whole server, and boot it."""
        self.operate(cell.operation, cell.fault(MARKER), wait=False)
        self.ssh(f"timeout 300 sh -c 'until test -e {MARKER}; do sleep 0.1; done'; sync")
        servers.hang_up(self.spec.name)
        podman(["kill", "--signal=KILL", servers.container_name(self.spec.name)])
        podman(["wait", servers.container_name(self.spec.name)], check=False)
        self.server = servers.up(self.spec)[0]


def boot(*, kept: bool = False) -> Target:
    """Start a server and let the roles make it one that serves the app.

    Args:
        kept: take the one that a run with `--keep` has left, if there is one.

    Raises:
        TestbedError: a role failed.

    """
    spec = Spec(name="faults", group=GROUP, member_of=("servers",))
    if not kept:
        clear()
    target = Target(servers.up(spec)[0], spec)
    if not kept or target.ssh("test -d /root/faults", check=False).returncode:
        provision(target)
    target.ssh(f"mkdir -p {PLACE}")
    for path in (HERE / "driver.py", HERE / "consistency.py", ROOT / "molecule/app/load.py"):
        target.send(path.read_bytes(), f"{PLACE}/{shlex.quote(path.name)}")
    return target


def provision(target: Target) -> None:
    """Apply the roles.

    Raises:
        TestbedError: one failed.

    """
    images.python_image(images.DEFAULT_SUITE)
    write(WORK / "hosts.yml", inventory([target.server]))
    write(WORK / "group_vars" / "all.yml", yaml.safe_dump(variables()))
    (WORK / "hello.tar.gz").write_bytes(pack("v0"))
    playbook = str(ROOT / ".venv/bin/ansible-playbook")
    done = subprocess.run(
        [playbook, str(HERE / "provision.yml"), "-i", str(WORK / "hosts.yml")],
        cwd=ROOT,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "PATH": f"{ROOT / '.venv/bin'}:{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise TestbedError(f"The server can't be made:\n{done.stdout[-6000:]}\n{done.stderr}")


def clear() -> None:
    """Remove the server and what was made for it."""
    servers.down(servers.containers(group=GROUP))
    servers.remove_network(GROUP)
