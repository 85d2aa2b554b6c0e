"""Starting, finding and removing servers."""

import hashlib
import ipaddress
import json
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from testbed import images, usage
from testbed.errors import TestbedError
from testbed.host import Host, detect
from testbed.paths import ROOT, SERVERS, SHARED, SSH, lock, make_directories, write
from testbed.shell import podman, run, say, which

LABEL = images.LABEL
PREFIX = "bedstone-testbed"
# Two checkouts on one machine (yours, and the one that a test makes) have servers of the same
# names: the engine's names distinguish them.
CHECKOUT = hashlib.sha256(str(ROOT).encode()).hexdigest()[:6]
NAME = re.compile(r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
DNS_NAME = re.compile(r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")
# Addresses below are left to the engine (gateway) and to whatever it starts by itself.
FIRST_ADDRESS = 10
READY_TIMEOUT_SECONDS = 90
# systemd ends without a word when the kernel's limit for one user is used up.
INOTIFY_LIMIT = Path("/proc/sys/fs/inotify/max_user_instances")
INOTIFY_PER_SERVER = 6


@dataclass(frozen=True)
class Spec:
    """The caller's requirements of a server."""

    name: str
    suite: str = images.DEFAULT_SUITE
    group: str = "default"
    aliases: tuple[str, ...] = ()
    # HOSTPORT:PORT, always on the machine's loopback
    publish: tuple[str, ...] = ()
    user: str = "root"
    # Ansible's groups, for the inventory
    member_of: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, text: str) -> "Spec":
        """Return the spec that a container's label holds."""
        values: dict[str, Any] = json.loads(text)
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        return cls(**fields)

    def check(self) -> None:
        """Refuse what podman would refuse with a worse message.

        Raises:
            TestbedError: a name or a port is malformed.

        """
        images.check_suite(self.suite)
        for value in (self.name, self.group):
            if not NAME.match(value):
                raise TestbedError(
                    f"{value!r} is no name for a server or group.",
                    "Use lower-case letters, digits and dashes, for example: web-1",
                )
        for alias in self.aliases:
            if not DNS_NAME.match(alias):
                raise TestbedError(f"{alias!r} is no DNS name, for example: pay.example.com")
        for pair in self.publish:
            ports = pair.split(":")
            if len(ports) != 2 or not all(p.isdigit() and 0 < int(p) < 65536 for p in ports):  # noqa: PLR2004
                raise TestbedError(f"{pair!r} is not HOSTPORT:PORT, for example: 8443:443")
        if self.user not in {"root", "debian"}:
            raise TestbedError(f"A server has the users root and debian, not {self.user!r}.")


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    name: str
    suite: str
    group: str
    address: str
    user: str
    aliases: tuple[str, ...]
    publish: tuple[str, ...]
    member_of: tuple[str, ...]
    container: str  # the engine's id, unique for each boot from an image
    host_key: str

    @property
    def directory(self) -> Path:
        """Return the directory of this server's connection files."""
        return SERVERS / self.name

    @property
    def ssh_config(self) -> Path:
        """The file that makes `ssh -F FILE NAME` work."""
        return self.directory / "ssh_config"

    @property
    def control_path(self) -> str:
        """The socket of the shared ssh connection, never the one of an earlier server."""
        return str(Path.home() / ".ansible" / "cp" / f"testbed-{self.container[:12]}")

    def inventory(self) -> dict[str, str | list[str]]:
        """Return the variables by which Ansible reaches the server."""
        return {
            "ansible_host": self.address,
            "ansible_user": self.user,
            "ansible_ssh_common_args": f"-F {shlex.quote(str(self.ssh_config))}",
            "ansible_control_path": self.control_path.replace("%", "%%"),
            "ansible_python_interpreter": "/usr/bin/python3",
            "host_keys": [self.host_key],
        }

    def ssh(self, *command: str) -> list[str]:
        """Return the command line that runs a command on the server."""
        return [which("ssh") or "ssh", "-F", str(self.ssh_config), self.name, *command]

    def save(self) -> None:
        """Write the connection files; server.json last, as the sign that the server is ready."""
        Path(self.control_path).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write(self.directory / "known_hosts", f"{self.name} {self.host_key}\n")
        write(self.ssh_config, ssh_config(self))
        write(self.directory / "server.json", json.dumps(asdict(self), indent=2) + "\n")


def ssh_config(server: Server) -> str:
    """Return the text of a server's own ssh client configuration."""
    return f"""\
Host {server.name} {server.address}
  HostName {server.address}
  HostKeyAlias {server.name}
  User {server.user}
  IdentityFile "{SSH / "id_ed25519"}"
  IdentitiesOnly yes
  UserKnownHostsFile "{server.directory / "known_hosts"}"
  StrictHostKeyChecking yes
  UpdateHostKeys no
  ControlMaster auto
  ControlPath "{server.control_path.replace("%", "%%")}"
  ControlPersist 10m
  ConnectTimeout 10
  LogLevel ERROR
"""


def container_name(name: str) -> str:
    """Return the engine's name of a server, distinct from other containers."""
    return f"{PREFIX}-{CHECKOUT}-{name}"


def network_name(group: str) -> str:
    """Return the engine's name of a group's network; groups don't see each other's names."""
    return f"{PREFIX}-{CHECKOUT}-{group}"


def run_arguments(spec: Spec, image: str, address: str, host: Host) -> list[str]:
    """Return podman's arguments that start a server.

    The rights are what systemd and a nested Docker need, not --privileged: no
    CAP_SYS_TIME (the clock is the machine's), no CAP_SYS_MODULE (so is the
    kernel), and none of the machine's block devices in /dev.
    """
    labels = {
        LABEL: "1",
        f"{LABEL}.root": str(ROOT),
        f"{LABEL}.group": spec.group,
        f"{LABEL}.name": spec.name,
        f"{LABEL}.address": address,
        f"{LABEL}.spec": json.dumps(asdict(spec), sort_keys=True),
    }
    return [
        *(["--runtime", host.runtime] if host.runtime else []),
        "run",
        "--detach",
        "--tty",  # a console, so that `podman logs` shows the boot
        f"--name={container_name(spec.name)}",
        f"--hostname={spec.name}",
        f"--network={network_name(spec.group)}",
        f"--ip={address}",
        *(f"--network-alias={alias}" for alias in (spec.name, *spec.aliases)),
        *(f"--publish=127.0.0.1:{pair}" for pair in spec.publish),
        *(f"--label={key}={value}" for key, value in labels.items()),
        *(f"--ulimit={key}={value}:{value}" for key, value in sorted(host.limits.items())),
        "--cgroupns=private",
        "--systemd=false",
        "--env=container=podman",
        "--stop-signal=SIGRTMIN+3",
        "--tmpfs=/run:rw,mode=755",
        "--tmpfs=/run/lock:rw",
        "--tmpfs=/tmp:rw,exec,mode=1777",
        "--shm-size=1g",  # a machine has half of its memory; 64 MB is an engine's idea
        "--cap-add=ALL",
        "--cap-drop=SYS_TIME,SYS_MODULE",
        "--security-opt=seccomp=unconfined",
        "--security-opt=apparmor=unconfined",
        "--security-opt=label=disable",
        "--security-opt=unmask=ALL",
        "--device-cgroup-rule=c *:* rwm",
        "--volume=/var/lib/docker",
        f"--volume={SHARED}:/opt/testbed:ro",
        image,
    ]


def free_address(subnet: str, taken: Iterable[str]) -> str:
    """Return the first address of a subnet that no server has.

    Raises:
        TestbedError: the subnet is full.

    """
    used = set(taken)
    for number, address in enumerate(ipaddress.ip_network(subnet)):
        if number >= FIRST_ADDRESS and str(address) not in used:
            return str(address)
    raise TestbedError(
        f"No address is left in {subnet}.", "Remove servers: python3 -m testbed list"
    )


def containers(**labels: str) -> list[dict[str, Any]]:
    """Return the engine's list of this checkout's servers with the given labels."""
    filters = [f"--filter=label={LABEL}=1", f"--filter=label={LABEL}.root={ROOT}"]
    filters += [f"--filter=label={LABEL}.{key}={value}" for key, value in labels.items()]
    listed: list[dict[str, Any]] = json.loads(
        podman(["ps", "-a", *filters, "--format=json"]).stdout
    )
    return listed


def labels_of(container: dict[str, Any]) -> dict[str, str]:
    """Return a container's labels without their common prefix."""
    return {
        key.removeprefix(f"{LABEL}."): value
        for key, value in (container.get("Labels") or {}).items()
        if key.startswith(f"{LABEL}.")
    }


def load(name: str) -> Server:
    """Return a server that is up.

    Raises:
        TestbedError: there is none of this name.

    """
    try:
        saved = json.loads((SERVERS / name / "server.json").read_text())
    except FileNotFoundError as error:
        raise TestbedError(
            f"No server {name!r} is up.", f"Start it with: python3 -m testbed up {name}"
        ) from error
    return Server(
        **{"member_of": ()}
        | {key: tuple(v) if isinstance(v, list) else v for key, v in saved.items()}
    )


def ensure_key() -> None:
    """Make the key pair by which all servers are reached, unless it is there."""
    with lock("ssh-key"):
        private = SSH / "id_ed25519"
        public = SSH / "id_ed25519.pub"
        if not (private.exists() and public.exists()):
            private.unlink(missing_ok=True)
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bedstone-testbed"]
            run([*command, "-f", str(private)])
        write(SHARED / "authorized_keys", public.read_text())


def ensure_network(group: str) -> str:
    """Return the subnet of a group's network, made now unless it exists."""
    name = network_name(group)
    if podman(["network", "exists", name], check=False).returncode:
        labels = {LABEL: "1", f"{LABEL}.root": str(ROOT), f"{LABEL}.group": group}
        podman(["network", "create", *(f"--label={k}={v}" for k, v in labels.items()), name])
    inspected = json.loads(podman(["network", "inspect", name]).stdout)[0]
    if (inspected.get("labels") or {}).get(f"{LABEL}.root") != str(ROOT):
        raise TestbedError(
            f"A network {name} exists that this checkout did not make.",
            f"Choose another group, or remove it: podman network rm {name}",
        )
    return str(inspected["subnets"][0]["subnet"])


def existing(spec: Spec) -> dict[str, Any] | None:
    """Return the container that a spec describes already, if any.

    Raises:
        TestbedError: the name is taken by something else.

    """
    name = container_name(spec.name)
    inspected = podman(["inspect", "--type=container", name], check=False)
    if inspected.returncode:
        return None
    found: dict[str, Any] = json.loads(inspected.stdout)[0]
    labels = found["Config"].get("Labels") or {}
    if labels.get(f"{LABEL}.root") != str(ROOT):
        where = labels.get(f"{LABEL}.root", "somebody else")
        raise TestbedError(
            f"The name {spec.name!r} is taken by a container of {where}.", "Choose another name."
        )
    if Spec.from_json(labels[f"{LABEL}.spec"]) != spec:
        raise TestbedError(
            f"A server {spec.name!r} exists with other options.",
            f"Remove it first: python3 -m testbed down {spec.name}",
        )
    return found


def up(spec: Spec) -> tuple[Server, bool]:
    """Start a server and wait until it can be used.

    One that runs already is returned as it is; one that was stopped (the machine was rebooted) is
    started with all it holds; one that an earlier, killed call left unfinished is finished or
    created again.

    Returns:
        the server, and whether anything had to be done.

    Raises:
        TestbedError: it can't be started; the message says why.

    """
    spec.check()
    host = detect()
    make_directories()
    ensure_key()
    image = images.server_image(spec.suite)
    with lock(f"server-{spec.name}"):
        found = existing(spec)
        running = bool(found and found["State"]["Running"])
        if found and running:
            try:
                server = load(spec.name)
            except TestbedError:
                say(f"{spec.name}: an earlier call did not finish; finishing it")
            else:
                if server.container == found["Id"]:
                    return server, False
        elif found:
            started = podman(["start", container_name(spec.name)], check=False)
            running = started.returncode == 0
        if found and not running:
            say(f"{spec.name}: an earlier call left it unusable; making it anew")
            podman(["rm", "-f", "-v", "-t", "0", container_name(spec.name)])
        if not running:
            create(spec, image, host)
        return wait_ready(spec), True


def create(spec: Spec, image: str, host: Host) -> None:
    """Start a new server; its address is chosen here so that a restart keeps it."""
    shutil.rmtree(SERVERS / spec.name, ignore_errors=True)
    with lock("networks"):
        subnet = ensure_network(spec.group)
        taken = [labels_of(c).get("address", "") for c in containers(group=spec.group)]
        arguments = run_arguments(spec, image, free_address(subnet, taken), host)
        started = podman(arguments, check=False)
    if started.returncode:
        podman(["rm", "-f", "-v", container_name(spec.name)], check=False)
        raise TestbedError(f"{spec.name} does not start: {started.stderr.strip()}", hint(started))


def hint(started: subprocess.CompletedProcess[str]) -> str | None:
    """Return what to do about podman's better known complaints."""
    if "address already in use" in started.stderr or "cannot bind" in started.stderr:
        return "The port is taken on this machine; publish another one."
    return None


def crowded() -> str:
    """Return a remark when so many servers run that the kernel's limit may be the reason."""
    limit = int(INOTIFY_LIMIT.read_text()) if INOTIFY_LIMIT.exists() else 0
    running = len([c for c in containers() if c["State"] == "running"])
    if running * INOTIFY_PER_SERVER < limit // 2:
        return ""
    return (
        f"{running} servers run, and each takes about {INOTIFY_PER_SERVER} of the {limit} inotify "
        "instances (fs.inotify.max_user_instances): remove some, or raise the limit."
    )


def wait_for(condition: Callable[[], bool], what: str, name: str) -> None:
    """Wait until a condition holds.

    Raises:
        TestbedError: it did not within the limit; the message holds the server's log.

    """
    limit = time.monotonic() + READY_TIMEOUT_SECONDS
    while not condition():
        if time.monotonic() > limit:
            logs = podman(["logs", "--tail=20", container_name(name)], check=False)
            raise TestbedError(
                f"{name}: {what} did not happen in {READY_TIMEOUT_SECONDS} seconds.\n"
                f"{logs.stdout}{logs.stderr}".strip(),
                f"{crowded()} Look inside: podman exec -it {container_name(name)} bash".strip(),
            )
        time.sleep(0.1)  # the pace of asking, not a guess of how long it takes


def wait_ready(spec: Spec) -> Server:
    """Wait until a started server answers over ssh, and save how to reach it."""
    name = container_name(spec.name)
    key: list[str] = []

    def has_key() -> bool:
        # Asked through the engine, so that the key is known and not just believed.
        path = "/etc/ssh/ssh_host_ed25519_key.pub"
        read = podman(["exec", name, "cat", path], check=False, timeout_seconds=20)
        key[:] = read.stdout.split()[:2]
        return read.returncode == 0 and len(key) == 2  # noqa: PLR2004

    wait_for(has_key, "up with an ssh host key", spec.name)
    inspected = json.loads(podman(["inspect", "--type=container", name]).stdout)[0]
    server = Server(
        name=spec.name,
        suite=spec.suite,
        group=spec.group,
        address=inspected["Config"]["Labels"][f"{LABEL}.address"],
        user=spec.user,
        aliases=spec.aliases,
        publish=spec.publish,
        member_of=spec.member_of,
        container=inspected["Id"],
        host_key=" ".join(key),
    )
    server.directory.mkdir(parents=True, exist_ok=True)
    (server.directory / "server.json").unlink(missing_ok=True)
    write(server.directory / "known_hosts", f"{server.name} {server.host_key}\n")
    write(server.ssh_config, ssh_config(server))

    def booted() -> bool:
        # Without a shared connection: the first one must not outlive a failed start.
        direct = server.ssh("systemctl", "is-system-running", "--wait")
        direct[1:1] = ["-o", "ControlPath=none", "-o", "BatchMode=yes"]
        state = run(direct, check=False, timeout_seconds=READY_TIMEOUT_SECONDS).stdout.strip()
        return state in {"running", "degraded"}

    wait_for(booted, "answering over ssh", spec.name)
    server.save()
    return server


def restart(name: str) -> Server:
    """Stop a server as a reboot does, start it and wait until it answers.

    Raises:
        TestbedError: there is none of this name, or it doesn't come back.

    """
    load(name)
    with lock(f"server-{name}"):
        hang_up(name)
        podman(["restart", "--time=30", container_name(name)])
        inspected = json.loads(podman(["inspect", container_name(name)]).stdout)[0]
        return wait_ready(Spec.from_json(inspected["Config"]["Labels"][f"{LABEL}.spec"]))


def hang_up(name: str) -> None:
    """End the shared ssh connection to a server, if one is open."""
    config = SERVERS / name / "ssh_config"
    if config.exists():
        command = [which("ssh") or "ssh", "-F", str(config), "-O", "exit", name]
        run(command, check=False, timeout_seconds=20)


def down(found: list[dict[str, Any]]) -> list[str]:
    """Remove servers (as `containers` returns them) with their volumes, and say which.

    A group's network goes with its last server.
    """
    names = []
    groups = set()
    for container in found:
        labels = labels_of(container)
        name = labels["name"]
        with lock(f"server-{name}"):
            hang_up(name)
            usage.note(name, container["Id"])
            podman(["rm", "-f", "-v", "-t", "0", container["Id"]])
            shutil.rmtree(SERVERS / name, ignore_errors=True)
        names.append(name)
        groups.add(labels["group"])
    for group in sorted(groups):
        remove_network(group)
    return names


def remove_network(group: str) -> bool:
    """Remove a group's network unless a server of it is left; return whether it went."""
    with lock("networks"):
        if containers(group=group):
            return False
        return podman(["network", "rm", network_name(group)], check=False).returncode == 0


def prune() -> list[str]:
    """Remove what killed calls left behind, and what checkouts that are gone left."""
    removed = abandoned()
    listed = podman(
        ["network", "ls", f"--filter=label={LABEL}.root={ROOT}", "--format={{.Name}}"]
    ).stdout.split()
    removed += [n for n in listed if remove_network(n.removeprefix(network_name("")))]
    live = {labels_of(c)["name"] for c in containers()}
    make_directories()
    for directory in SERVERS.iterdir():
        if directory.name not in live:
            shutil.rmtree(directory, ignore_errors=True)
            removed.append(f"servers/{directory.name}")
    return removed


def abandoned() -> list[str]:
    """Remove the servers and networks of checkouts that no longer exist, and say which."""
    removed = []
    for kind, listing, remove in (
        ("server", ["ps", "-a"], ["rm", "-f", "-v", "-t", "0"]),
        ("network", ["network", "ls"], ["network", "rm"]),
    ):
        found = json.loads(podman([*listing, f"--filter=label={LABEL}=1", "--format=json"]).stdout)
        for item in found:
            labels = item.get("Labels") or item.get("labels") or {}
            root = labels.get(f"{LABEL}.root")
            if root and not Path(root).is_dir():
                name = str(item.get("name") or item["Names"][0])
                podman([*remove, name])
                removed.append(f"{kind} {name} of {root}, which is gone")
    return removed


def replace_process(command: list[str]) -> None:
    """Become another program (for `ssh`, which needs the terminal)."""
    os.execvp(command[0], command)  # noqa: S606
