"""Parse the address of a git repository: its protocol, and what access to it needs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Sequence

_SSH_PORT = 22
# What git takes for ssh without a scheme: a colon before the first slash.
_SHORT = re.compile(r"(?:[^@\s/:]+@)?(?P<host>\[[^]\s]+\]|[A-Za-z0-9][A-Za-z0-9.-]*):\S+")
_HOST_KEY = re.compile(r"(?:^|\s)(\S+\s+AAAA[A-Za-z0-9+/=]+)")
_WITHOUT_LOGIN = {"git", "file"}
_WEB = {"http", "https"}
_SSH = {"ssh", "git+ssh", "ssh+git"}
# A token in place of a name: no account is called so.
_TOKEN_LENGTH = 20


@dataclass(frozen=True)
class Server:
    """The address of a repository.

    Attributes:
        ssh: whether it is reached by ssh.
        host: the server's name.
        port: its port, None for the usual one.
        login: what stands before the `@`.

    """

    ssh: bool
    host: str
    port: int | None = None
    login: str = ""

    @property
    def has_open_secret(self) -> bool:
        """Return whether a password or a token seems to stand in the address as it is."""
        name, _, password = self.login.partition(":")
        if self.ssh:
            return False
        open_parts = [part for part in (name, password) if "${" not in part]
        return (bool(password) and password in open_parts) or any(
            len(part) >= _TOKEN_LENGTH for part in open_parts
        )


def parse(address: str) -> Server | None:
    """Return where an address leads, None when it is no address of a repository."""
    if address.startswith("/"):
        return Server(ssh=False, host="")
    if "://" in address:
        try:
            parts = urlsplit(re.sub(r"\$\{[^}]*\}", "${}", address))
            port = parts.port
        except ValueError:
            return None
        login = parts.netloc.rpartition("@")[0]
        if parts.scheme in _SSH and parts.hostname:
            return Server(ssh=True, host=parts.hostname, port=port, login=login)
        if parts.scheme in _WEB and parts.hostname and not re.search(r"\s", address):
            return Server(ssh=False, host=parts.hostname, port=port, login=login)
        return Server(ssh=False, host="") if parts.scheme in _WITHOUT_LOGIN else None
    short = _SHORT.fullmatch(address)
    return Server(ssh=True, host=short["host"].strip("[]")) if short else None


def host_key(line: str) -> str:
    """Return type and data of a key; what `ssh-keyscan` writes before them is the host."""
    match = _HOST_KEY.search(line)
    return " ".join(match[1].split()) if match else line


def known_hosts(server: Server, keys: Sequence[str]) -> str:
    """Return a known_hosts file with a server's keys.

    A key may also be that of another server, for a submodule: the name before it is kept.
    """
    own = server.host
    if server.port not in {None, _SSH_PORT}:
        own = f"[{server.host}]:{server.port}"
    lines = []
    for line in keys:
        key = host_key(line)
        before = line[: line.find(key.split()[0])].strip()
        hosts = [own, *(name for name in before.split(",") if name and not name.startswith("|"))]
        lines.append(f"{','.join(dict.fromkeys(hosts))} {key}\n")
    return "".join(lines)
