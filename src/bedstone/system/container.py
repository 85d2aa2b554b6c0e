"""Build the command line of an app's containers, for services and for one-off commands."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


# Raise it when a change here must reach containers that run already: it is part
# of a release's fingerprint.
GENERATION = 2

LABEL_APP = "bedstone.app"
LABEL_SERVICE = "bedstone.service"
LABEL_SLOT = "bedstone.slot"
LABEL_RELEASE = "bedstone.release"
LABEL_SPECIFICATION = "bedstone.specification"

# The journal has the lines for good; these are for `docker logs` alone. A disk that hangs blocks no
# app at its next line: 4 MiB of lines wait in dockerd, what comes beyond them is lost.
_LOG_OPTIONS = (
    *("--log-driver", "local", "--log-opt", "max-size=10m", "--log-opt", "max-file=2"),
    *("--log-opt", "mode=non-blocking", "--log-opt", "max-buffer-size=4m"),
)
TEMPORARY = "/tmp"  # noqa: S108 - a path in the container


@dataclass(frozen=True)
class Container:
    """One container: the arguments of `docker run`, without those of how it is attached."""

    name: str
    image: str
    network: str
    environment: Mapping[str, str] = field(repr=False)
    command: tuple[str, ...] | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    address: str | None = None
    alias: str | None = None
    hosts: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[tuple[str, str], ...] = ()
    writable_mounts: tuple[tuple[str, str], ...] = ()
    tmpfs: tuple[str, ...] = ()
    read_only: bool = True
    user: str | None = None
    groups: tuple[int, ...] = ()
    capabilities: tuple[str, ...] = ()
    init: bool = True
    one_off: bool = False
    memory_mb: int | None = None
    cpus: float | None = None
    pids: int = 512
    stop_seconds: int = 30
    stop_signal: str | None = None
    publish: tuple[str, ...] = ()

    def specification(self) -> str:
        """Return a digest that changes with any argument of the container."""
        told = asdict(self)
        for later in ("publish", "groups"):
            if not told[later]:
                # As in containers that were started before there was such a setting.
                del told[later]
        text = json.dumps(told, sort_keys=True)
        return hashlib.sha256(f"{GENERATION} {text}".encode()).hexdigest()[:16]

    def arguments(self) -> list[str]:
        """Return the arguments of `docker run`, the environment's excepted."""
        return [
            *("--name", self.name, "--pull", "never", *_LOG_OPTIONS),
            *(["--init"] if self.init else []),
            *self._labels(),
            *self._network(),
            *self._files(),
            *self._rights(),
            *self._limits(),
            self.image,
            *(self.command or ()),
        ]

    def _labels(self) -> list[str]:
        labels = {**self.labels, LABEL_SPECIFICATION: self.specification()}
        return [part for name in sorted(labels) for part in ("--label", f"{name}={labels[name]}")]

    def _network(self) -> list[str]:
        argv = ["--network", self.network]
        if self.address:
            argv += ["--ip", self.address]
        if self.alias:
            argv += ["--network-alias", self.alias]
        for entry in self.publish:
            argv += ["--publish", entry]
        for host, address in sorted(self.hosts.items()):
            argv += ["--add-host", f"{host}:{address}"]
        return argv

    def _files(self) -> list[str]:
        argv = ["--read-only"] if self.read_only else []
        for source, target in self.mounts:
            argv += ["--mount", f"type=bind,source={source},target={target},readonly"]
        for source, target in self.writable_mounts:
            argv += ["--mount", f"type=bind,source={source},target={target}"]
        for entry in self.tmpfs:
            argv += ["--tmpfs", self._sized(entry)]
        if not any(entry.partition(":")[0] == TEMPORARY for entry in self.tmpfs):
            # A volume without a name: on the disk, since uploads are spooled there, and gone
            # with the container. Docker copies what the image has there, its mode too.
            argv += ["--mount", f"type=volume,target={TEMPORARY}"]
        return argv

    def _sized(self, entry: str) -> str:
        """Return an entry of ``tmpfs`` with a size: its pages count to the container's memory."""
        path, _, options = entry.partition(":")
        given = [option for option in options.split(",") if option]
        if self.memory_mb and not any(option.startswith("size=") for option in given):
            given.append(f"size={max(self.memory_mb // 2, 1)}m")
        return f"{path}:{','.join(given)}" if given else path

    def _rights(self) -> list[str]:
        argv = ["--security-opt", "no-new-privileges"]
        if self.user:
            argv += ["--user", self.user]
        for number in self.groups:
            argv += ["--group-add", str(number)]
        argv += ["--cap-drop", "ALL"]
        for name in self.capabilities:
            argv += ["--cap-add", name]
        return argv

    def _limits(self) -> list[str]:
        argv = ["--pids-limit", str(self.pids), "--stop-timeout", str(self.stop_seconds)]
        if self.stop_signal:
            argv += ["--stop-signal", self.stop_signal]
        if self.memory_mb:
            # No swap on top: a service over its limit is ended, not slowed down.
            argv += ["--memory", f"{self.memory_mb}m", "--memory-swap", f"{self.memory_mb}m"]
        if self.cpus:
            argv += ["--cpus", f"{self.cpus:g}"]
        return argv
