"""Deployers: accounts that release named apps, and can do nothing else as root."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from bedstone_control import names

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bedstone_control.roles.site import Site

PROGRAM = "/usr/local/bin/bedstone"
ACCOUNT = re.compile(r"[a-z][a-z0-9_-]{0,30}")
_APP = re.compile(names.APP_NAME)
_KEY_TYPE = re.compile(r"(?:^|\s)((?:ssh|ecdsa|sk)-[a-z0-9@.-]+)\s+[A-Za-z0-9+/]")
# Regular expressions of sudoers (sudo >= 1.9.10), matched against the arguments joined by a space.
# Of the options only those that neither weaken a check nor touch data: no --accept, --keep-schema,
# --old-secrets. A release's id begins with a digit, so that no option fits it.
_COMMANDS = (
    "^release ({apps})( --(json|verbose|if-changed|dry-run))*$",
    "^rollback ({apps})( [0-9][A-Za-z0-9._-]*)?( --(json|verbose))*$",
    "^status ({apps})( --json)?$",
)
_SUDOERS = """\
# What {name} may do as root, and nothing else: bedstone_deployers in the settings.
# A person's umask does not count for what root makes: services have to read it.
Defaults:{name} env_reset, !setenv, umask=0022, umask_override
{name} ALL=(root) NOPASSWD:NOSETENV: {commands}
"""


def deployer_directories(deployers: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return the accounts' directories, in the form of converge's `directories`.

    They are root's: the account can't add a key, or one without restrictions.
    """
    homes = (f"/home/{each['name']}" for each in deployers)
    return [{"path": path, "mode": "0755"} for home in homes for path in (home, f"{home}/.ssh")]


def deployer_files(deployers: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return each account's sudoers and keys, in the form of converge's `files`.

    Args:
        deployers: the role's `base_deployers`.

    Raises:
        ValueError: a name or a key can't be used, or an account is there twice.

    """
    found = []
    for deployer in deployers:
        name = str(deployer["name"])
        apps = [str(app) for app in deployer["apps"]]
        if not ACCOUNT.fullmatch(name) or name == "root":
            raise ValueError(f"base_deployers: {name!r} can't be an account. Example: deploy.")
        if [each["name"] for each in deployers].count(name) > 1:
            raise ValueError(f"base_deployers has {name!r} twice: give one of them all apps.")
        if wrong := [app for app in apps if not _APP.fullmatch(app)]:
            raise ValueError(f"base_deployers: {wrong[0]!r} of {name} can't be the name of an app.")
        keys = "".join(f"{_restricted(key, name)}\n" for key in deployer["authorized_keys"])
        found += [
            {
                "path": f"/etc/sudoers.d/55-bedstone-{name}",
                "content": _sudoers(name, apps),
                "mode": "0440",
            },
            {
                "path": f"/home/{name}/.ssh/authorized_keys",
                "content": keys,
                "mode": "0644",
            },
        ]
    return found


def _sudoers(name: str, apps: Sequence[str]) -> str:
    if not apps:
        raise ValueError(f"base_deployers: {name} has no apps.")
    expressions = (each.format(apps="|".join(apps)) for each in _COMMANDS)
    commands = ", \\\n  ".join(f"{PROGRAM} {expression}" for expression in expressions)
    return _SUDOERS.format(name=name, commands=commands)


def _restricted(key: str, name: str) -> str:
    """Return a public key as a line that allows neither forwarding nor a terminal."""
    text = key.strip()
    found = _KEY_TYPE.search(text)
    if found is None or "\n" in text:
        raise ValueError(f"base_deployers: {name} has an entry that is no public key.")
    # Options of its own, such as from="198.51.100.7", come before the key's type.
    return f"restrict,{text}" if found.start(1) else f"restrict {text}"


def deployers(site: Site) -> list[dict[str, Any]]:
    """Return the accounts of a host that runs apps."""
    if not site.has("app"):
        return []
    return [each.model_dump() for each in site.settings.deployers]
