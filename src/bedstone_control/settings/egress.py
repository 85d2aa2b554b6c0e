"""Define the settings of where an app's containers may connect to as a schema."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bedstone_control.settings.edge import Network
from bedstone_control.settings.types import Model


class Destination(Model):
    """Addresses outside of the server that the app's containers may connect to."""

    networks: list[Network] | None = Field(
        None,
        min_length=1,
        description="Addresses or networks; any address when left out. No names: a firewall sees "
        "addresses.",
        examples=[["203.0.113.0/24", "2001:db8::/32"]],
    )
    port: int | None = Field(
        None, ge=1, le=65535, description="The port; all when left out.", examples=[443]
    )
    protocol: Literal["tcp", "udp"] = Field("tcp", description="The protocol.", examples=["udp"])
