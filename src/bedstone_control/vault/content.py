"""Make secrets and write them encrypted, with Ansible's own library: the vault."""

from __future__ import annotations

import copy
import os
import secrets
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from ansible.errors import AnsibleError
from ansible.parsing.vault import VaultLib, VaultSecret, is_encrypted

from bedstone_control.pki.authority import make_authority
from bedstone_control.settings.environment import required_secrets
from bedstone_control.settings.root import Settings
from bedstone_control.vault import backup_key as keys
from bedstone_control.vault import required, ssh_keys

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bedstone_control.settings.backup import Destination

# How many random bytes stand behind each secret that we make; 48 give 64 characters.
_BYTES = {"secret_key": 48, "database_password": 32, "database_migrate_password": 32}
_AUTHORITY_DAYS = 3650
_TEXT = "tag:yaml.org,2002:str"
_HEADER = "# Secrets. Change them with: ansible-vault edit FILE\n"


def new_secrets(
    settings: Settings | Mapping[str, Any],
    existing: Mapping[str, Any] | None = None,
    authority: str = "Bedstone CA",
) -> dict[str, Any]:
    """Make the secrets that the settings need, for `write_vault`.

    Args:
        settings: the settings, or the content of a settings file.
        existing: the content of the present vault; nothing in it is changed.
        authority: the name of the certificate authority, when one has to be made.

    Returns:
        The content of the vault: `{"bedstone_secrets": {"ca": ..., "backup": ..., "apps": ...}}`.
        Secrets that only their owner knows (`${secret.NAME}`, all of the hooks, the keys of an S3
        bucket) are not made; see `missing_secrets`.

    """
    content: dict[str, Any] = copy.deepcopy(dict(existing or {}))
    vault = content.setdefault("bedstone_secrets", {})
    if not vault.get("ca"):
        certificate, key = make_authority(authority, _AUTHORITY_DAYS)
        vault["ca"] = {"certificate": certificate, "key": key}
    wanted = _settings(settings)
    backup = _mapping(vault, "backup")
    if backup.get("key") is None:
        backup["key"] = keys.make()
    for there in wanted.backup.destinations:
        if there.sftp is not None:
            own = _mapping(_mapping(backup, "destinations"), there.name)
            if own.get("private_key") is None:
                own["private_key"] = ssh_keys.make_private_key()
    apps = vault.setdefault("apps", {})
    for app in wanted.apps:
        own = apps.setdefault(app.name, {})
        for name in required_secrets(app):
            if name in _BYTES and name not in own:
                own[name] = secrets.token_urlsafe(_BYTES[name])
            elif name == "deploy_key" and name not in own:
                own[name] = ssh_keys.make_private_key()
    return content


def missing_secrets(
    settings: Settings | Mapping[str, Any], content: Mapping[str, Any]
) -> list[str]:
    """Return the secrets that the settings need and a vault lacks, by their place in it.

    That place is `apps.APP.NAME` for an app's, `hooks.NAME` for those of the hooks, `backup.key`
    and `backup.destinations.DESTINATION.NAME`.
    """
    vault = content.get("bedstone_secrets", {})
    apps, of_hooks = vault.get("apps", {}), vault.get("hooks") or {}
    wanted = _settings(settings)
    return [
        *(["backup.key"] if backup_key(content) is None else []),
        *(
            f"backup.destinations.{there.name}.{name}"
            for there in wanted.backup.destinations
            for name in secrets_of(there)
            if destination_secrets(content).get(there.name, {}).get(name) is None
        ),
        *(
            f"apps.{app.name}.{name}"
            for app in wanted.apps
            for name in required_secrets(app)
            if name not in apps.get(app.name, {})
        ),
        *(f"hooks.{name}" for name in required.required_secrets(wanted) if name not in of_hooks),
    ]


def secrets_of(destination: Destination) -> tuple[str, ...]:
    """Return the names of the secrets that a destination needs."""
    return (
        *(("private_key",) if destination.sftp is not None else ()),
        *(("access_key", "secret_key") if destination.s3 is not None else ()),
    )


def backup_key(content: Mapping[str, Any]) -> Any:
    """Return the backup key in a vault, None when there is none."""
    return _inner(content.get("bedstone_secrets"), "backup").get("key")


def destination_secrets(content: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the secrets of the destinations in a vault, by destination."""
    backup = _inner(content.get("bedstone_secrets"), "backup")
    there = _inner(backup, "destinations")
    return {str(name): _inner(there, name) for name in there}


def _inner(value: Any, name: Any) -> dict[Any, Any]:
    """Return a mapping in a mapping, an empty one for whatever else is there."""
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def _mapping(parent: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a mapping in a mapping, making it when it is missing.

    Raises:
        ValueError: something else is there.

    """
    if parent.get(name) is None:
        parent[name] = {}
    if not isinstance(parent[name], dict):
        raise ValueError(f"In the vault, `{name}` is no mapping of names to values.")  # noqa: TRY004 - see Raises
    found: dict[str, Any] = parent[name]
    return found


def _settings(given: Settings | Mapping[str, Any]) -> Settings:
    if isinstance(given, Settings):
        return given
    return Settings.model_validate(
        {name.removeprefix("bedstone_"): value for name, value in given.items()}
    )


def write_password(path: Path) -> None:
    """Make a vault password and write it to a file that only its owner can read.

    Raises:
        FileExistsError: the file is there already.

    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(f"{secrets.token_urlsafe(32)}\n")


def write_vault(path: Path, data: Mapping[str, Any], password_file: Path) -> None:
    """Write an encrypted YAML file in one step; the plain text never touches the disk.

    Args:
        path: the file to write or replace.
        data: its content.
        password_file: file with the vault's password.

    """
    text = _HEADER + yaml.dump(dict(data), Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    secret = _password(password_file)
    encrypted = VaultLib([("default", secret)]).encrypt(text, secret)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(encrypted)
    Path(temporary).replace(path)


def read_vault(path: Path, password_file: Path) -> dict[str, Any]:
    """Return the content of an encrypted YAML file.

    Raises:
        ValueError: it is not encrypted, or with another password, or is no mapping.

    """
    encrypted = path.read_bytes()
    if not is_encrypted(encrypted):
        raise ValueError(f"{path} is not encrypted. Encrypt it: ansible-vault encrypt {path}")
    try:
        text = VaultLib([("default", _password(password_file))]).decrypt(encrypted)
    except AnsibleError as error:
        raise ValueError(f"{path} can't be decrypted with {password_file}: {error}") from error
    content = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no mapping of names to values.")  # noqa: TRY004 - see Raises
    return content


def _password(path: Path) -> VaultSecret:
    """Return the password as Ansible reads it: the file's text without blanks around it."""
    if os.access(path, os.X_OK):
        raise ValueError(f"{path} is executable: a program that prints the password fits no file.")
    return VaultSecret(path.read_bytes().strip())


class Unsafe(str):
    """A text that Ansible does not evaluate: `!unsafe` in the file."""

    __slots__ = ()


class _Loader(yaml.SafeLoader):
    """Reads `!unsafe`, too."""


class _Dumper(yaml.SafeDumper):
    """Writes certificates and keys as blocks of lines, and `!unsafe` where it was."""


def _represent_text(dumper: yaml.SafeDumper, text: str, tag: str = _TEXT) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar(tag, text, style=style)


def _unsafe(loader: _Loader, node: yaml.ScalarNode) -> Unsafe:
    return Unsafe(loader.construct_scalar(node))


_Loader.add_constructor("!unsafe", _unsafe)
_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(Unsafe, lambda dumper, text: _represent_text(dumper, str(text), "!unsafe"))
