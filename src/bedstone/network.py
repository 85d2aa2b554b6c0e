"""Each app's own network, on which every HTTP slot has an address that never changes.

nginx talks to that address and not to a published port: a published port goes
through `docker-proxy`, which dies with dockerd (moby#27880), and so a restart of
Docker would be seen from outside although the containers go on. A fixed address
needs a network with a given subnet, so the first one is Docker's own choice,
which is then kept in the ledger.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from bedstone import ledger, lock
from bedstone.container import LABEL_APP
from bedstone.errors import BedstoneError

if TYPE_CHECKING:
    import sqlite3

    from bedstone.config import App
    from bedstone.docker import Docker

_SMALLEST = 32


def ensure(docker: Docker, connection: sqlite3.Connection, app: App) -> str:
    """Make an app's network unless it is there, and return its subnet.

    Raises:
        BedstoneError: Docker has no free subnet, or the one in use is too small.

    """
    with lock.held(f"network-{app.name}", f"network of {app.name}", wait_seconds=60):
        labels = {LABEL_APP: app.name}
        present = docker.network_subnet(app.network)
        known = subnet(connection, app.name)
        if present is not None and present == known:
            return present
        if present is not None:
            # Made by somebody else, or by us just before a crash: with Docker's
            # automatic addresses it can't give fixed ones.
            docker.remove_network(app.network)
        if known is None:
            docker.create_network(app.network, labels=labels, subnet=None, ip_range=None)
            known = docker.network_subnet(app.network)
            docker.remove_network(app.network)
            if known is None or ipaddress.IPv4Network(known).num_addresses < _SMALLEST:
                raise BedstoneError(
                    f"Docker gives the network {app.network} the subnet {known}, which is too"
                    " small.",
                    hint="Use address pools of size 27 or larger networks in Docker's daemon.json.",
                )
            with ledger.transaction(connection):
                connection.execute("INSERT INTO networks VALUES (?, ?)", (app.name, known))
        lower, _ = ipaddress.IPv4Network(known).subnets()
        docker.create_network(app.network, labels=labels, subnet=known, ip_range=str(lower))
        return known


def subnet(connection: sqlite3.Connection, app: str) -> str | None:
    """Return the subnet of an app's network as the ledger has it, if it was ever made."""
    row = connection.execute("SELECT subnet FROM networks WHERE app = ?", (app,)).fetchone()
    return None if row is None else str(row["subnet"])


def address(connection: sqlite3.Connection, app: str, service: str, slot: str, within: str) -> str:
    """Return the fixed address of a slot: always the same for the same slot.

    Docker gives other containers addresses of the subnet's lower half; these
    are from its upper half.

    Raises:
        BedstoneError: the subnet has no address left.

    """
    _, upper = ipaddress.IPv4Network(within).subnets()
    with ledger.transaction(connection):
        row = connection.execute(
            "SELECT number FROM addresses WHERE app = ? AND service = ? AND slot = ?",
            (app, service, slot),
        ).fetchone()
        if row is None:
            taken = {
                int(number)
                for (number,) in connection.execute(
                    "SELECT number FROM addresses WHERE app = ?", (app,)
                )
            }
            number = next(n for n in range(1, len(taken) + 2) if n not in taken)
            connection.execute(
                "INSERT INTO addresses VALUES (?, ?, ?, ?)", (app, service, slot, number)
            )
        else:
            number = int(row["number"])
    # The last address of the subnet is its broadcast address.
    if number >= upper.num_addresses - 1:
        raise BedstoneError(f"The network {within} of {app} has no address left.")
    return str(upper.network_address + number)
