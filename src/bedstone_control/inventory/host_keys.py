"""Make ssh accept a server's pinned host keys and no other.

The keys go to ssh by its option KnownHostsCommand (OpenSSH 8.5 and newer), so there is no file that
could be old or missing; an older ssh refuses the option, and with it the connection.
"""

from __future__ import annotations

import hashlib
import shlex
from typing import TYPE_CHECKING

from bedstone_control.settings.gitserver import host_key

if TYPE_CHECKING:
    from collections.abc import Sequence


def ssh_arguments(keys: Sequence[str]) -> str:
    """Return the arguments of ssh that accept these keys of a server and no other.

    The first value of an option counts (ssh_config(5)), so they stand before all others.
    """
    # %H is the name or address that ssh looks up: HostKeyAlias and port included.
    lines = [shlex.quote(f"%H {host_key(key)}") for key in keys]
    command = " ".join(["/usr/bin/env", "printf", "'%%s\\n'", *lines])
    options = {
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": "/dev/null",
        "GlobalKnownHostsFile": "/dev/null",
        "VerifyHostKeyDNS": "no",
        "UpdateHostKeys": "no",
        "KnownHostsCommand": command,
    }
    return " ".join(f"-o {shlex.quote(f'{name}={value}')}" for name, value in options.items())


def fingerprint(keys: Sequence[str]) -> str:
    """Return a short name of a set of keys, for the directory of the connections opened with it.

    ssh checks no key when it reuses a connection, so one that was opened before the keys were
    pinned, or with others, has to be out of reach.
    """
    data = "\n".join(sorted(host_key(key) for key in keys))
    return hashlib.sha256(data.encode()).hexdigest()[:8]
