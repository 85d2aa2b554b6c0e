"""Read and write the vault: an encrypted file, with Ansible's own library."""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from ansible.errors import AnsibleError
from ansible.parsing.vault import VaultLib, VaultSecret, is_encrypted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bedstone_control.settings.backup import Destination

_TEXT = "tag:yaml.org,2002:str"
_HEADER = "# Secrets. Change them with: ansible-vault edit FILE\n"


def secrets_of(destination: Destination) -> tuple[str, ...]:
    """Return the names of the secrets that a destination needs."""
    names = (
        *(("private_key",) if destination.sftp is not None else ()),
        *(("access_key", "secret_key") if destination.s3 is not None else ()),
    )
    return (*names, *(f"wal_{name}" for name in names if destination.has_wal_key))


def backup_key(content: Mapping[str, Any]) -> Any:
    """Return the backup key in a vault, None when there is none."""
    return _inner(content.get("bedstone_secrets"), "backup").get("key")


def directories_of_previous_key(content: Mapping[str, Any]) -> list[str]:
    """Return the directories of destinations that the previous backup key was for."""
    previous = _inner(_inner(content.get("bedstone_secrets"), "previous"), "backup")
    return [str(directory) for directory in previous.get("directories") or ()]


def destination_secrets(content: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the secrets of the destinations in a vault, by destination."""
    backup = _inner(content.get("bedstone_secrets"), "backup")
    there = _inner(backup, "destinations")
    return {str(name): _inner(there, name) for name in there}


def _inner(value: Any, name: Any) -> dict[Any, Any]:
    """Return a mapping in a mapping, an empty one for whatever else is there."""
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


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
    secret = password(password_file)
    write_file(path, VaultLib([("default", secret)]).encrypt(text, secret))


def write_file(path: Path, content: bytes) -> None:
    """Write or replace a file in one step that a crash can't cut; a link stays one.

    A new file is readable by its owner alone; one that was there keeps its rights.
    """
    target = path.resolve()
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        if target.exists():
            Path(temporary).chmod(target.stat().st_mode & 0o7777)
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_vault(path: Path, password_file: Path) -> dict[str, Any]:
    """Return the content of an encrypted YAML file.

    Raises:
        ValueError: it is not encrypted, or with another password, or is no mapping.

    """
    encrypted = path.read_bytes()
    if not is_encrypted(encrypted):
        raise ValueError(f"{path} is not encrypted. Encrypt it: ansible-vault encrypt {path}")
    try:
        text = VaultLib([("default", password(password_file))]).decrypt(encrypted)
    except AnsibleError as error:
        raise ValueError(f"{path} can't be decrypted with {password_file}: {error}") from error
    content = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no mapping of names to values.")  # noqa: TRY004 - see Raises
    return content


def password(path: Path) -> VaultSecret:
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
