"""Read the hooks of this server: /etc/bedstone/hooks.json, readable by root only."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from bedstone.core import paths
from bedstone.core.errors import ConfigError
from bedstone.core.fields import Fields

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = 1
KINDS = ("webhook", "mail", "command")
EVENTS = ("release", "rollback", "failure", "summary")
SECURITIES = ("starttls", "tls", "none")
_MOST_SECONDS = 300


@dataclass(frozen=True)
class Mail:
    """The mail server that takes our messages."""

    server: str
    port: int
    security: str
    sender: str
    user: str | None = None
    password: str | None = None


@dataclass(frozen=True)
class Hook:
    """One hook: its events, and exactly one of the ways to deliver them.

    ``apps`` is None for all of them. An event of the whole server (a nightly backup that failed)
    goes to every hook that has its kind.
    """

    events: tuple[str, ...]
    apps: tuple[str, ...] | None
    timeout_seconds: float
    webhook: str | None = None
    recipients: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None

    def wants(self, kind: str, app: str | None) -> bool:
        """Return whether it gets an event."""
        if kind == "test":
            return True
        # Hooks that get the begin of an alarm get its end, too.
        wanted = "failure" if kind == "recovered" else kind
        return wanted in self.events and (self.apps is None or app is None or app in self.apps)

    def label(self, mail: Mail | None) -> str:
        """Return what it is called in messages: its kind and host, no more of an address."""
        if self.command is not None:
            return f"command {self.command[0]}"
        if self.webhook is not None:
            return f"webhook {_host(self.webhook)}"
        return f"mail {mail.server if mail else '(no server)'}"


@dataclass(frozen=True)
class Hooks:
    """All hooks, and the mail server if there is one."""

    hooks: tuple[Hook, ...] = ()
    mail: Mail | None = None


def path() -> Path:
    """Return the file of the hooks."""
    return paths.host("/etc/bedstone/hooks.json")


def load() -> Hooks:
    """Return this server's hooks; none without the file.

    Raises:
        ConfigError: the file can't be read, or isn't right; never shows an address.

    """
    source = path()
    try:
        data = json.loads(source.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Hooks()
    except OSError as error:
        raise ConfigError(f"{source} can't be read: {error.strerror}.") from error
    except ValueError:
        raise ConfigError(f"{source} isn't JSON.") from None
    return _Reader(str(source)).hooks(data)


def required(mail: Mail | None) -> Mail:
    """Return the mail server.

    Raises:
        ConfigError: there is none.

    """
    if mail is None:
        raise ConfigError(
            "A hook sends mail, but no mail server is set.",
            hint="Set `bedstone_mail` in the settings and run `site.yml`.",
        )
    return mail


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or "(no host)"
    except ValueError:
        return "(no host)"


class _Reader(Fields):
    """Reads hooks.json; what it complains of is never shown, since it may be a secret."""

    def fail(self, where: str, problem: str) -> ConfigError:
        del problem
        return ConfigError(
            f"{self.source}: {where} isn't right.",
            hint="Ansible writes this file: run `ansible-playbook playbooks/site.yml` again.",
        )

    def hooks(self, data: Any) -> Hooks:
        top = self.mapping(data, "the file")
        if top.get("schema") != SCHEMA:
            raise self.fail("schema", "")
        mail = top.get("mail")
        hooks = tuple(
            self.hook(item, f"hooks[{number}]")
            for number, item in enumerate(self.items(top.get("hooks", []), "hooks"))
        )
        if mail is None and any(hook.recipients is not None for hook in hooks):
            required(None)
        return Hooks(hooks, None if mail is None else self.mail(mail))

    def hook(self, value: Any, where: str) -> Hook:
        data = self.mapping(value, where)
        if len([kind for kind in KINDS if data.get(kind) is not None]) != 1:
            raise self.fail(f"{where}: exactly one of {', '.join(KINDS)}", "")
        apps = data.get("apps")
        mail, command = data.get("mail"), data.get("command")
        if mail == [] or command == []:
            raise self.fail(where, "")
        return Hook(
            events=tuple(
                self.choice(event, f"{where}.events", EVENTS)
                for event in self.strings(data.get("events", ["failure"]), f"{where}.events")
            ),
            apps=None if apps is None else self.strings(apps, f"{where}.apps"),
            timeout_seconds=float(
                self.integer(
                    data.get("timeout_seconds", 10), f"{where}.timeout_seconds", 1, _MOST_SECONDS
                )
            ),
            webhook=self.optional_string(data.get("webhook"), f"{where}.webhook"),
            recipients=None if mail is None else self.strings(mail, f"{where}.mail"),
            command=None if command is None else self.strings(command, f"{where}.command"),
        )

    def mail(self, value: Any) -> Mail:
        data = self.mapping(value, "mail")
        return Mail(
            server=self.string(data.get("server"), "mail.server"),
            port=self.integer(data.get("port"), "mail.port", 1, 65535),
            security=self.choice(data.get("security"), "mail.security", SECURITIES),
            sender=self.string(data.get("sender"), "mail.sender"),
            user=self.optional_string(data.get("user"), "mail.user"),
            password=self.optional_string(data.get("password"), "mail.password"),
        )
