"""Define the settings of the hooks: reports of releases, failures and rollbacks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bedstone_control.settings.types import Command, Model

Event = Literal["release", "failure", "rollback", "summary"]
_EVERY: tuple[Event, ...] = ("release", "failure", "rollback")


class Hook(Model):
    """What is told, and whom: exactly one of `webhook`, `mail`, `command`."""

    events: list[Event] = Field(
        default_factory=lambda: list(_EVERY),
        min_length=1,
        description="When: after a `release`, a `failure` (of a release, a job, a backup), a "
        "`rollback`; a `summary` of the last day at the time of `bedstone_summary`, which only "
        "those that name it get.",
        examples=[["failure"]],
    )
    apps: list[str] | None = Field(
        None, description="Of which apps; all when left out.", examples=[["payments"]]
    )
    webhook: str | None = Field(
        None,
        description="URL that gets a POST with JSON; its `text` is what Slack and Mattermost show. "
        "Who knows the URL can post there, so it is a secret: `${secret.NAME}` is NAME of "
        "`bedstone_secrets.hooks` in the vault.",
        examples=["${secret.chat_url}"],
    )
    mail: list[str] | None = Field(
        None,
        min_length=1,
        description="Addresses that get a mail; needs `bedstone_mail`.",
        examples=[["ops@example.com"]],
    )
    command: Command | None = Field(
        None,
        description="Program on the server, by its absolute path; it gets the event as JSON on its "
        "standard input.",
        examples=["/usr/local/bin/tell-the-pager"],
    )
    timeout_seconds: int = Field(
        10, ge=1, le=60, description="Longest time it may take.", examples=[10]
    )


class Mail(Model):
    """How the servers send mail, for the hooks that do."""

    server: str = Field(
        min_length=1, description="The mail server's host name.", examples=["mail.example.com"]
    )
    port: int = Field(587, ge=1, le=65535, description="Its port.", examples=[587])
    security: Literal["starttls", "tls", "none"] = Field(
        "starttls",
        description="How the connection is encrypted: `starttls` (port 587), `tls` (port 465), "
        "`none`.",
        examples=["starttls"],
    )
    user: str | None = Field(
        None, description="Who logs in; nobody when left out.", examples=["bedstone@example.com"]
    )
    password: str | None = Field(
        None,
        description="The password, as `${secret.NAME}`: NAME of `bedstone_secrets.hooks` in the "
        "vault.",
        examples=["${secret.mail_password}"],
    )
    sender: str = Field(
        min_length=1,
        description="The address the mails come from.",
        examples=["bedstone@example.com"],
    )
