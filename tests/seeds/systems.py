"""Which seed systems there are, what stands in for their code, and which share a server."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StandIn:
    """What stands in for a team's code, which is not public.

    Attributes:
        path: its source, from the project's directory.
        health: the path that says that all of it works.
        inventory: the system's inventory, its name when there is one only.
        base: the base image that it is built from, of `images.app_image`.

    """

    path: str
    health: str
    inventory: str = ""
    base: str = "python"


STAND_INS = {
    "coffee-payments": StandIn("tests/apps/coffee", "/health"),
    "internal-payment": StandIn("app", "/health/"),
    "kore": StandIn("tests/apps/kore", "/api/v1/health/"),
    "piggy-bank": StandIn("tests/apps/octoco", "/health", "piggy-bank/production"),
    "srq-hpn": StandIn("tests/apps/srq-hpn", "/api/db-health", base="node"),
}
# The servers and the systems on each. Two apps of two teams share one, as apps do.
SERVERS = {
    "internal-payment": ("internal-payment",),
    "kore": ("kore",),
    "piggy-bank-and-coffee": ("piggy-bank", "coffee-payments"),
    "srq-hpn": ("srq-hpn",),
}
