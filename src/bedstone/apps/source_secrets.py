"""Read the secrets of an app's source: source.json, readable by root only, next to its app.json."""

from __future__ import annotations

import json
import shlex
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bedstone.core import paths
from bedstone.core.errors import ConfigError
from bedstone.core.fields import Fields

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NAME = "source.json"
REGISTRY = "registry.json"


@dataclass(frozen=True)
class SourceSecrets:
    """The secrets of a source.

    Attributes:
        url: the repository's address with the login in it, None when app.json has all of it.
        args: the build arguments with a secret in them, which app.json has with placeholders.
        secrets: the build's secrets, by name.
        deploy_key: the private key for a repository that is reached by ssh.
        known_hosts: the public keys of its server, as ssh reads them.

    """

    url: str | None = field(default=None, repr=False)
    args: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    deploy_key: str | None = field(default=None, repr=False)
    known_hosts: str | None = None

    def values(self) -> Iterator[str]:
        """Yield everything that is secret."""
        yield from (self.url or "", self.deploy_key or "")
        yield from (*self.args.values(), *self.secrets.values())


def path(app: str, name: str, service: str = "") -> Path:
    """Return the file with the secrets of a source: the app's, or that of a service's own image."""
    stem, dot, suffix = name.partition(".")
    return paths.app_config(app).with_name(f"{stem}-{service}{dot}{suffix}" if service else name)


def load(app: str, service: str = "") -> SourceSecrets:
    """Return the secrets of a source of an app; none of them when there is no file.

    Raises:
        ConfigError: the file can't be read, or isn't right. The message shows nothing of it.

    """
    place = path(app, NAME, service)
    try:
        data = json.loads(place.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return SourceSecrets()
    except OSError as error:
        raise ConfigError(f"{place} can't be read: {error.strerror}.") from error
    except ValueError as error:
        raise ConfigError(f"{place} isn't JSON.") from error
    return _Reader(str(place)).secrets(data)


@contextmanager
def ssh(secrets: SourceSecrets) -> Iterator[dict[str, str]]:
    """Yield the environment with which git reaches a server by ssh, for the time of a block.

    The key is on the disk as long as the block runs, in a directory that only root can enter and
    that is gone after a reboot. No other key, agent or configuration is used, and no server with
    other keys than the declared ones is talked to.
    """
    if secrets.deploy_key is None:
        yield {}
        return
    directory = paths.ensure_private(paths.runtime())
    with tempfile.TemporaryDirectory(prefix="git-", dir=directory) as temporary:
        key, hosts = Path(temporary) / "key", Path(temporary) / "known_hosts"
        for file, text in ((key, secrets.deploy_key), (hosts, secrets.known_hosts or "")):
            file.touch(mode=0o600)
            file.write_text(text, encoding="utf-8")
        options = {
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "UserKnownHostsFile": str(hosts),
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "UpdateHostKeys": "no",
            "BatchMode": "yes",
            "ConnectTimeout": "30",
            "ServerAliveInterval": "15",
        }
        words = ["ssh", "-F", "/dev/null", "-i", str(key)]
        for name, value in options.items():
            words += ["-o", f"{name}={value}"]
        yield {"GIT_SSH_COMMAND": shlex.join(words), "GIT_SSH_VARIANT": "ssh"}


class _Reader(Fields):
    """Reads one source.json."""

    def fail(self, where: str, problem: str) -> ConfigError:
        """Return the complaint about a place in the file, without the value that is there."""
        return super().fail(where, "isn't right." if problem else problem)

    def secrets(self, data: Any) -> SourceSecrets:
        top = self.mapping(data, "the file")
        return SourceSecrets(
            url=self.optional_string(top.get("url"), "url"),
            args=self.string_mapping(top.get("args") or {}, "args"),
            secrets=self.string_mapping(top.get("secrets") or {}, "secrets"),
            deploy_key=self.optional_string(top.get("deploy_key"), "deploy_key"),
            known_hosts=self.optional_string(top.get("known_hosts"), "known_hosts"),
        )
