"""Parse the entries of a service's `publish`."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import NamedTuple

_ENTRY = re.compile(
    r"(?:(?P<address>[0-9.]+|\[[0-9A-Fa-f:.]+\]):)?(?P<port>\d{1,5}):(?P<inside>\d{1,5})"
    r"(?:/(?P<protocol>tcp|udp))?"
)
_LARGEST = 65535
ALL = "0.0.0.0"  # noqa: S104 - what a service publishes is meant to be reached


class Published(NamedTuple):
    """One published port: where on the server, and where in the container."""

    address: str
    port: int
    inside: int
    protocol: str

    def argument(self) -> str:
        """Return it as `docker run --publish` takes it, with nothing left to a default."""
        return f"{self.address}:{self.port}:{self.inside}/{self.protocol}"

    def overlaps(self, other: Published) -> bool:
        """Return whether only one of both can be held at a time."""
        same = (self.port, self.protocol) == (other.port, other.protocol)
        everywhere = {ALL, "[::]"} & {self.address, other.address}
        return same and (self.address == other.address or bool(everywhere))


def parse(text: str) -> Published | None:
    """Return an entry of `publish`, None when it is none."""
    if (found := _ENTRY.fullmatch(text)) is None:
        return None
    port, inside = int(found["port"]), int(found["inside"])
    address = found["address"] or ALL
    try:
        ip_address(address.strip("[]"))
    except ValueError:
        return None
    if not (0 < port <= _LARGEST and 0 < inside <= _LARGEST):
        return None
    return Published(address, port, inside, found["protocol"] or "tcp")
