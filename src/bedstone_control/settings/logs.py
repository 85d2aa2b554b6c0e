"""Define the settings of a log collector on another host as a schema."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bedstone_control.settings.types import Model, Text


class LogClient(Model):
    """The certificate that the servers show the collector."""

    certificate: str = Field(
        description="PEM file on your machine with the certificate and its chain, relative to the "
        "inventory's directory.",
        examples=["files/logs-client.crt"],
    )
    key: str = Field(
        description="PEM file with the private key, encrypted with the vault.",
        examples=["files/logs-client.key"],
    )


class Collector(Model):
    """A program that takes syslog messages (RFC 5424) over TLS (RFC 5425)."""

    host: Text = Field(
        description="Its host name, or its IP address.", examples=["logs.example.com"]
    )
    port: int = Field(6514, ge=1, le=65535, description="Its port.", examples=[6514])
    ca: str | None = Field(
        None,
        description="PEM file on your machine with the authority of the collector's certificate, "
        "relative to the inventory's directory. When left out, the authorities that the server "
        "trusts.",
        examples=["files/logs-ca.crt"],
    )
    name: Text | None = Field(
        None,
        description="The name in the collector's certificate, where that is not `host`; needed "
        "where `host` is an IP address.",
        examples=["logs.example.com"],
    )
    client: LogClient | None = Field(
        None,
        description="The certificate that the servers show, for a collector that asks for one.",
        examples=[{"certificate": "files/logs-client.crt", "key": "files/logs-client.key"}],
    )
    tls: bool = Field(
        True,
        description="Whether the connection is encrypted and the collector's certificate verified. "
        "`false` only where `host` is the server itself: another program there sends them on.",
        examples=[False],
    )


class Logs(Model):
    """What the servers send, and to which collector."""

    to: Collector = Field(
        description="The collector.", examples=[{"host": "logs.example.com", "port": 6514}]
    )
    journal: Literal["all", "apps"] = Field(
        "all",
        description="Which lines of the journal: `all`, or those of the `apps`, their jobs and "
        "their releases alone.",
        examples=["apps"],
    )
    requests: bool = Field(
        True,
        description="Whether nginx's log of requests is sent as well, which is not in the journal.",
        examples=[False],
    )
