"""A real virtual machine under QEMU, for what a container can't show: a kernel, disks, a reboot.

It is emulated (`-accel tcg`), which needs nothing of this machine and is about ten times slower;
BEDSTONE_VM_ACCEL=kvm takes the processor's own virtualisation where that works.
"""

import os
import platform
import shutil
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from testbed import images, recipes, servers
from testbed.errors import TestbedError
from testbed.paths import CACHE, SSH, lock
from testbed.shell import as_root, run, say, which

DIRECTORY = CACHE / "machine"
EMULATORS = {"x86_64": "qemu-system-x86_64", "aarch64": "qemu-system-aarch64"}
DISK = "16G"
MEMORY_MB = 6144
BOOT_SECONDS = 900
POLL_SECONDS = 2
CONSOLE_LINES = 30


@dataclass(frozen=True)
class Machine:
    """A virtual machine that runs.

    Attributes:
        ssh_port: of this machine's loopback, leads to its port 22.
        https_port: leads to its port 443.
        console: the file with all that its console showed.

    """

    ssh_port: int
    https_port: int
    console: Path

    def ssh(self, *command: str, user: str = "root") -> list[str]:
        """Return the command line that runs a command on it."""
        options = {
            "IdentityFile": SSH / "id_ed25519",
            "UserKnownHostsFile": DIRECTORY / "known_hosts",
            "StrictHostKeyChecking": "accept-new",
            "ConnectTimeout": 10,
        }
        pairs = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
        ssh = which("ssh") or "ssh"
        return [ssh, "-F", "none", *pairs, "-p", str(self.ssh_port), f"{user}@127.0.0.1", *command]

    def said(self, command: str, seconds: float = 600, user: str = "root") -> str:
        """Run a shell command on it and return what it prints.

        Raises:
            TestbedError: it failed.

        """
        return run(self.ssh(command, user=user), timeout_seconds=seconds).stdout

    def send(self, source: Path, target: str) -> None:
        """Copy a file to it."""
        with source.open("rb") as stream:
            command = f"mkdir -p $(dirname {target}) && cat > {target}"
            subprocess.run(self.ssh(command), stdin=stream, check=True)

    def boot_id(self) -> str:
        """Return the kernel's name of the current boot."""
        return self.said("cat /proc/sys/kernel/random/boot_id", 60).strip()

    def wait_for_boot(self, earlier: str | None = None) -> None:
        """Wait until it answers, after a reboot with another boot id than the earlier one.

        Raises:
            TestbedError: it didn't within the limit; the message has the console's end.

        """
        limit = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < limit:
            try:
                if self.boot_id() != earlier:
                    return
            except TestbedError:
                pass
            time.sleep(POLL_SECONDS)
        lines = self.console.read_text(errors="replace").splitlines()[-CONSOLE_LINES:]
        raise TestbedError("\n".join(["The machine does not answer by ssh:", *lines]))

    def reboot(self) -> None:
        """Reboot it, and wait until it answers again."""
        before = self.boot_id()
        run(self.ssh("systemctl reboot"), check=False, timeout_seconds=60)
        self.wait_for_boot(before)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _install() -> str:
    """Return the emulator, installed when it is missing."""
    architecture = platform.machine()
    if architecture not in EMULATORS:
        known = ", ".join(EMULATORS)
        raise TestbedError(f"There is no kernel for {architecture} here, only for {known}.")
    name = EMULATORS[architecture]
    if which(name) is None:
        package = "qemu-system-x86" if architecture == "x86_64" else "qemu-system-arm"
        say(f"installing the Debian package {package}")
        apt = ["apt-get", "-qq", "install", "-y", "--no-install-recommends", package]
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        run([*as_root(), *apt], timeout_seconds=900, env=env)
    return which(name) or name


def disk(suite: str) -> tuple[Path, Path, Path]:
    """Return the disk of a suite's bare machine, its kernel and its initrd; made unless kept.

    Raises:
        TestbedError: making it failed.

    """
    images.check_suite(suite)
    with lock(f"image-machine-{suite}"):
        servers.ensure_key()
        key = (SSH / "id_ed25519.pub").read_text()
        recipe = recipes.machine(suite, recipes.look_around(), key, platform.machine())
        kept = DIRECTORY / f"{suite}-{recipe.key}"
        found = kept / "disk.raw", kept / "vmlinuz", kept / "initrd"
        if kept.is_dir():
            return found
        say(f"making the disk of a bare {suite} machine (about two minutes, once)")
        for old in DIRECTORY.glob(f"{suite}-*"):
            shutil.rmtree(old)
        draft = DIRECTORY / f"draft-{suite}"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        archive = images.rootfs(recipe)
        _extract_kernel(archive, draft)
        # As root, since the owners of the files are to be those of the archive.
        tree = draft / "tree"
        tree.mkdir()
        unpack = ["tar", "--extract", "--numeric-owner", "--directory", str(tree), "--file"]
        run([*as_root(), *unpack, str(archive)], timeout_seconds=600)
        mke2fs = [which("mke2fs") or "mke2fs", "-q", "-t", "ext4", "-F", "-d", str(tree)]
        run([*as_root(), *mke2fs, str(draft / "disk.raw"), DISK], timeout_seconds=600)
        run([*as_root(), "rm", "-r", str(tree)])
        archive.unlink()
        draft.replace(kept)
        return found


def _extract_kernel(archive: Path, directory: Path) -> None:
    """Write the kernel and the initrd of a root file system into a directory."""
    targets = {"vmlinuz": "vmlinuz", "initrd.img": "initrd"}
    with tarfile.open(archive) as tree:
        for member in tree:
            path = Path(member.name)
            target = targets.get(path.name.partition("-")[0])
            if member.isfile() and path.parent.name == "boot" and target:
                content = tree.extractfile(member)
                (directory / target).write_bytes(content.read() if content else b"")


@contextmanager
def machine(suite: str) -> Iterator[Machine]:
    """Boot a bare virtual machine, whose disk is forgotten at the end.

    Args:
        suite: Debian's code name, or `testing`.

    Raises:
        TestbedError: it does not boot.

    """
    emulator = _install()
    hard_disk, kernel, initrd = disk(suite)
    (DIRECTORY / "known_hosts").unlink(missing_ok=True)
    console = DIRECTORY / f"{suite}.console"
    made = Machine(_free_port(), _free_port(), console)
    ports = ((made.ssh_port, 22), (made.https_port, 443))
    forwarded = ",".join(f"hostfwd=tcp:127.0.0.1:{here}-:{there}" for here, there in ports)
    command = [
        *(emulator, "-nodefaults", "-display", "none", "-serial", f"file:{console}"),
        *("-accel", os.environ.get("BEDSTONE_VM_ACCEL", "tcg,thread=multi"), "-cpu", "max"),
        *("-smp", "2", "-m", str(MEMORY_MB)),
        # What is written goes to a temporary file next to the disk, which stays bare.
        *("-snapshot", "-drive", f"file={hard_disk},if=virtio,format=raw,discard=unmap"),
        *("-netdev", f"user,id=net,{forwarded}", "-device", "virtio-net-pci,netdev=net"),
        *("-device", "virtio-rng-pci"),
        *("-kernel", str(kernel), "-initrd", str(initrd)),
        *("-append", "root=/dev/vda rw console=ttyS0 console=ttyAMA0"),
    ]
    if platform.machine() == "aarch64":
        command += ["-machine", "virt"]
    with (DIRECTORY / f"{suite}.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": str(DIRECTORY)},
        )
    try:
        made.wait_for_boot()
        yield made
    finally:
        process.terminate()
        process.wait(timeout=60)
