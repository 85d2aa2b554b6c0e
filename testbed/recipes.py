"""Define the content of an image as data: its hash is the key of the cache."""

import hashlib
import io
import json
import shlex
import tarfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from testbed import apt, trust
from testbed.paths import FILES

# The first is the one that Bedstone supports; `testing` is there to try the next one early.
SUITES = ("trixie", "testing")
BOOT = "/usr/local/lib/testbed/boot"
# A Debian server "that has nothing but ssh and python3"; ca-certificates is in every provider's
# image, and without iproute2 Ansible finds no addresses.
SERVER_PACKAGES = (
    "ca-certificates",
    "dbus",
    "iproute2",
    "openssh-server",
    "python3",
    "sudo",
    "systemd",
    "systemd-sysv",
)
# What a container takes from the machine it runs on.
MACHINE_PACKAGES = ("kmod", "udev", "systemd-timesyncd")
# By the kernel's name of the architecture.
KERNELS = {"x86_64": "linux-image-cloud-amd64", "aarch64": "linux-image-cloud-arm64"}
# QEMU's user network: an address by DHCP, and a resolver that asks this machine's.
# As wide as many a server has it: containers must live with it.
MACHINE_NETWORK = "[Match]\nType=ether\n\n[Network]\nDHCP=yes\n"
MACHINE_RESOLVER = "nameserver 10.0.2.3\n"
PYTHON_PACKAGES = ("ca-certificates", "python3", "python3-venv")
NODE_PACKAGES = ("nodejs", "npm")
# Manuals have no readers in a container; without them the base image is a third smaller.
WITHOUT_DOCUMENTATION = (
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
)


@dataclass(frozen=True)
class Recipe:
    """All that decides what an image holds."""

    kind: str
    suite: str
    packages: tuple[str, ...]
    sources: tuple[str, ...]
    apt_options: tuple[str, ...]
    dpkg_options: tuple[str, ...] = ()
    # path -> (mode, text): laid over the installed packages
    files: dict[str, tuple[int, str]] = field(default_factory=dict)
    # shell lines run with the new root as $1, after the files are there
    hooks: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """A short hash of everything above."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Surroundings:
    """The additions of this machine to every image."""

    mirror: apt.Mirror
    keyring: str | None
    apt_options: tuple[str, ...]
    certificates: tuple[str, ...]
    pip: dict[str, str]


def look_around() -> Surroundings:
    """Read this machine's mirror, authorities and pip settings."""
    mirror = apt.find_mirror()
    return Surroundings(
        mirror=mirror,
        keyring=apt.find_keyring(mirror),
        apt_options=tuple(apt.host_options()),
        certificates=tuple(trust.extra_certificates()),
        pip=trust.host_pip_settings(),
    )


def common_files(around: Surroundings) -> dict[str, tuple[int, str]]:
    """Return the files that make this machine's network usable from an image."""
    files = {
        f"/usr/local/share/ca-certificates/testbed-{number}.crt": (0o644, pem)
        for number, pem in enumerate(around.certificates, 1)
    }
    conf = trust.pip_conf(around.pip, own_authorities=bool(around.certificates))
    files["/etc/pip.conf"] = (0o644, conf)
    return files


def keyring_hooks(keyring: str | None) -> tuple[str, ...]:
    """Return the hook that takes a keyring along which no Debian package would bring."""
    if keyring is None or keyring == apt.DEBIAN_KEYRING:
        return ()
    return (f'install -D -m 0644 {shlex.quote(keyring)} "$1"{shlex.quote(keyring)}',)


def server(suite: str, around: Surroundings) -> Recipe:
    """Return the recipe of a bare server."""
    files = common_files(around)
    files[BOOT] = (0o755, (FILES / "boot.sh").read_text())
    files["/etc/sudoers.d/90-testbed"] = (0o440, "debian ALL=(ALL) NOPASSWD:ALL\n")
    return Recipe(
        kind="server",
        suite=suite,
        packages=SERVER_PACKAGES,
        sources=tuple(apt.source_lines(around.mirror, suite, around.keyring)),
        apt_options=around.apt_options,
        files=files,
        hooks=(
            *keyring_hooks(around.keyring),
            'chroot "$1" useradd --create-home --shell /bin/bash debian',
            'chroot "$1" update-ca-certificates >/dev/null 2>&1',
            # its console is for reading only
            'ln -s /dev/null "$1/etc/systemd/system/console-getty.service"',
            'rm -f "$1"/etc/ssh/ssh_host_*; : >"$1/etc/machine-id"',
        ),
    )


def machine(suite: str, around: Surroundings, authorized_key: str, architecture: str) -> Recipe:
    """Return the recipe of a bare virtual machine: a server with a kernel of its own.

    Args:
        suite: Debian's code name, or `testing`.
        around: this machine's additions.
        authorized_key: the public ssh key that may log in as root.
        architecture: as `uname -m` has it.

    """
    files = common_files(around)
    files["/root/.ssh/authorized_keys"] = (0o600, f"{authorized_key.strip()}\n")
    files["/etc/systemd/network/80-dhcp.network"] = (0o644, MACHINE_NETWORK)
    files["/etc/resolv.conf"] = (0o644, MACHINE_RESOLVER)
    files["/etc/fstab"] = (0o644, "/dev/vda / ext4 errors=remount-ro 0 1\n")
    files["/etc/hostname"] = (0o644, "machine\n")
    files["/etc/hosts"] = (0o644, "127.0.0.1 localhost\n127.0.1.1 machine\n::1 localhost\n")
    return Recipe(
        kind="machine",
        suite=suite,
        packages=(*SERVER_PACKAGES, *MACHINE_PACKAGES, KERNELS[architecture]),
        sources=tuple(apt.source_lines(around.mirror, suite, around.keyring)),
        apt_options=around.apt_options,
        dpkg_options=WITHOUT_DOCUMENTATION,
        files=files,
        hooks=(
            *keyring_hooks(around.keyring),
            'chroot "$1" update-ca-certificates >/dev/null 2>&1',
            'chroot "$1" systemctl enable systemd-networkd >/dev/null 2>&1',
            ': >"$1/etc/machine-id"',
        ),
    )


def python(suite: str, around: Surroundings) -> Recipe:
    """Return the recipe of the base image for apps, a stand-in for an official Python image.

    As there, `python` and `pip` are in /usr/local and `pip install` works without
    a virtual environment: /usr/local is one.
    """
    return Recipe(
        kind="python",
        suite=suite,
        packages=PYTHON_PACKAGES,
        sources=tuple(apt.source_lines(around.mirror, suite, around.keyring)),
        apt_options=around.apt_options,
        dpkg_options=WITHOUT_DOCUMENTATION,
        files=common_files(around),
        hooks=(
            *keyring_hooks(around.keyring),
            'chroot "$1" update-ca-certificates >/dev/null 2>&1',
            'chroot "$1" /usr/bin/python3 -m venv /usr/local',
        ),
    )


def node(suite: str, around: Surroundings) -> Recipe:
    """Return the recipe of the base image for apps with a front end: Python's, and Node.js."""
    base = python(suite, around)
    return replace(base, kind="node", packages=(*base.packages, *NODE_PACKAGES))


def overlay(recipe: Recipe, path: Path) -> None:
    """Write the recipe's files as a tar archive owned by root."""
    with tarfile.open(path, "w") as archive:
        for name, (mode, text) in sorted(recipe.files.items()):
            data = text.encode()
            member = tarfile.TarInfo(name.lstrip("/"))
            member.mode, member.size = mode, len(data)
            archive.addfile(member, io.BytesIO(data))
