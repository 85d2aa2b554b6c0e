"""Create an app's Docker network, on which every HTTP slot has a fixed address.

nginx talks to that address and not to a published port: a published port goes
through `docker-proxy`, which dies with dockerd (moby#27880), and so a restart of
Docker would be seen from outside although the containers go on. A fixed address
needs a network with a given subnet, so the first one is Docker's own choice,
which is then kept in a file of the app's: what a container needs to start is in
files, so that a damaged ledger stops no app.
"""

from __future__ import annotations

import ipaddress
import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from bedstone.apps import slots
from bedstone.core import files, lock, names, paths
from bedstone.core.errors import BedstoneError
from bedstone.system.container import LABEL_APP

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from bedstone.apps.config import App
    from bedstone.system.docker import Docker, Network

SCHEMA = 1
_SMALLEST = 32


@dataclass
class _Kept:
    """An app's file: its subnet, and the number of each ``SERVICE@SLOT`` in the upper half."""

    subnet: str | None = None
    addresses: dict[str, int] = field(default_factory=dict)


def ensure(docker: Docker, app: App) -> str:
    """Make an app's network unless it is there, and return its subnet.

    Raises:
        BedstoneError: Docker has no free subnet, or the one in use is too small.

    """
    with _locked(app.name):
        labels = {LABEL_APP: app.name}
        bridge = names.bridge(app.name)
        present = docker.network(app.network)
        kept = _read(app.name)
        if present is not None and present.subnet == kept.subnet:
            if present.bridge == bridge or present.in_use:
                return present.subnet
            # An earlier version left the interface's name to Docker.
            docker.remove_network(app.network)
            present = None
        if present is not None and kept.subnet is None and present.ip_range == _lower(present):
            # Ours: the file was lost, or an earlier version kept this in the ledger.
            _write(app.name, _Kept(present.subnet, _addresses_in_use(app.name, present.subnet)))
            return present.subnet
        if present is not None:
            # Made by another program, or by us just before a crash: with Docker's automatic
            # addresses it can't give fixed ones.
            docker.remove_network(app.network)
        if kept.subnet is None:
            docker.create_network(
                app.network, labels=labels, subnet=None, ip_range=None, bridge=bridge
            )
            chosen = docker.network(app.network)
            docker.remove_network(app.network)
            if chosen is None or ipaddress.IPv4Network(chosen.subnet).num_addresses < _SMALLEST:
                raise BedstoneError(
                    f"Docker gives the network {app.network} the subnet"
                    f" {chosen.subnet if chosen else None}, which is too small.",
                    hint="Use address pools of size 27 or larger networks in Docker's daemon.json.",
                )
            kept.subnet = chosen.subnet
            _write(app.name, kept)
        lower, _ = ipaddress.IPv4Network(kept.subnet).subnets()
        docker.create_network(
            app.network,
            labels=labels,
            subnet=kept.subnet,
            ip_range=str(lower),
            bridge=bridge,
        )
        return kept.subnet


def is_limited(app: str) -> bool:
    """Return whether the firewall's list of an app's destinations holds for its containers.

    The rules name the interface. A network of an earlier version has another one until none of its
    containers runs.
    """
    return paths.host(f"/sys/class/net/{names.bridge(app)}").exists()


def made_again(app: str) -> str:
    """Return the commands that make an app's network again: none of its containers may run."""
    return f"`systemctl stop '{names.slot_units(app, '*')}' && bedstone restart {app}`"


def subnet(app: str) -> str | None:
    """Return the subnet of an app's network, if it was ever made."""
    return _read(app).subnet


def address(app: str, key: str, within: str) -> str:
    """Return the fixed address of ``SERVICE@SLOT``: always the same for the same slot.

    Docker gives other containers addresses of the subnet's lower half; these
    are from its upper half.

    Raises:
        BedstoneError: the subnet has no address left.

    """
    _, upper = ipaddress.IPv4Network(within).subnets()
    number = _read(app).addresses.get(key)
    if number is None:
        with _locked(app):
            kept = _read(app)
            taken = set(kept.addresses.values())
            number = next(n for n in range(1, len(taken) + 2) if n not in taken)
            number = kept.addresses.setdefault(key, number)
            _write(app, kept)
    # The last address of the subnet is its broadcast address.
    if number >= upper.num_addresses - 1:
        raise BedstoneError(f"The network {within} of {app} has no address left.")
    return str(upper.network_address + number)


def _lower(present: Network) -> str:
    lower, _ = ipaddress.IPv4Network(present.subnet).subnets()
    return str(lower)


def _addresses_in_use(app: str, within: str) -> dict[str, int]:
    """Return the numbers of the addresses that the app's slots have."""
    _, upper = ipaddress.IPv4Network(within).subnets()
    found = {}
    for slot in slots.all_of(app):
        if slot.address and ipaddress.IPv4Address(slot.address) in upper:
            number = int(ipaddress.IPv4Address(slot.address)) - int(upper.network_address)
            found[slot.key] = number
    return found


def _locked(app: str) -> AbstractContextManager[lock.Held]:
    return lock.held(f"network-{app}", f"network of {app}", wait_seconds=60)


def _path(app: str) -> Path:
    return paths.app_state(app) / "network.json"


def _read(app: str) -> _Kept:
    """Return the file's contents; a damaged file is none: Docker and the slots have them, too."""
    try:
        data = json.loads(_path(app).read_text(encoding="utf-8"))
        if data["schema"] != SCHEMA:
            return _Kept()
        known = str(ipaddress.IPv4Network(data["subnet"])) if data["subnet"] else None
        numbers = {str(key): int(number) for key, number in data["addresses"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return _Kept()
    return _Kept(known, numbers)


def _write(app: str, kept: _Kept) -> None:
    paths.ensure_private(paths.app_state(app))
    text = json.dumps({"schema": SCHEMA, **asdict(kept)}, indent=2, sort_keys=True)
    files.write(_path(app), text + "\n", mode=0o600)
