"""Change the password of all encrypted files of an inventory.

One file after another is replaced, so a crash leaves some with the new password. The new one is
therefore kept until the end, in PENDING next to the inventory's other files, encrypted with the
password before: the same command goes on with it.
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml
from ansible.errors import AnsibleError
from ansible.parsing.vault import VaultLib, VaultSecret, is_encrypted, parse_vaulttext_envelope

from bedstone_control.vault import content

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PENDING = ".vault-password.new"
_MARK = b"$ANSIBLE_VAULT;"
_WITH_TEXTS = {".yml", ".yaml", ""}
_VAULT = "!vault"


@dataclass(frozen=True)
class _Passwords:
    """The password that files have, and the one that they get."""

    old: VaultSecret
    new: VaultSecret

    def read(self, encrypted: bytes) -> tuple[bytes, bool] | None:
        """Return a plain text and whether it has the new password; None with another one."""
        for secret, is_new in ((self.new, True), (self.old, False)):
            try:
                return VaultLib([("default", secret)]).decrypt(encrypted), is_new
            except AnsibleError:
                continue
        return None

    def changed(self, encrypted: bytes) -> bytes | None:
        """Return an encrypted text with the new password, None when no password opens it."""
        found = self.read(encrypted)
        if found is None:
            return None
        plain, is_new = found
        return encrypted if is_new else self._encrypt(plain, encrypted)

    def _encrypt(self, plain: bytes, like: bytes) -> bytes:
        """Encrypt, with the label that a text had; and read it back."""
        label = parse_vaulttext_envelope(like, default_vault_id="default")[3]
        library = VaultLib([(label, self.new)])
        result: bytes = library.encrypt(
            plain, self.new, vault_id=None if label == "default" else label
        )
        if library.decrypt(result) != plain:
            raise ValueError("An encrypted text differs from what was encrypted. Nothing changed.")
        return result


def is_interrupted(directory: Path) -> bool:
    """Return whether a change of an inventory's password has begun and not ended."""
    return (directory / PENDING).exists()


def change(directory: Path, password_file: Path) -> list[Path]:
    """Give all encrypted files of an inventory a new password, and write it to its file.

    Args:
        directory: the inventory.
        password_file: the file with the present password; it holds the new one afterwards.

    Returns:
        The files that have the new password now.

    Raises:
        ValueError: a file can't be read with the present password, or the password isn't this
            inventory's alone; nothing has changed.

    """
    if password_file.resolve() != directory.resolve() / password_file.name:
        raise ValueError(
            f"{password_file} is not in {directory}: another inventory may have the same password. "
            f"Copy it to {directory}/.vault-password and leave out --vault-password-file."
        )
    old = content.password(password_file)
    pending = directory / PENDING
    found = _pending(pending, old)
    if found is None and pending.exists():
        # The last step had begun: the password file holds the new one already.
        files = _changed(directory, _Passwords(old, old))
        pending.unlink()
        return list(files)
    new = found or secrets.token_urlsafe(32).encode()
    passwords = _Passwords(old, VaultSecret(new))
    files = _changed(directory, passwords)
    if not files:
        raise ValueError(f"{directory} holds nothing that is encrypted.")
    if found is None:
        content.write_file(pending, VaultLib([("default", old)]).encrypt(new, old))
    for path, result in files.items():
        if path.read_bytes() != result:
            content.write_file(path, result)
    content.write_file(password_file, new + b"\n")
    pending.unlink()
    return list(files)


def _pending(path: Path, old: VaultSecret) -> bytes | None:
    """Return the new password of a change that was interrupted, None when there is none."""
    if not path.exists():
        return None
    try:
        text: bytes = VaultLib([("default", old)]).decrypt(path.read_bytes())
    except AnsibleError:
        return None
    return text


def _changed(directory: Path, passwords: _Passwords) -> dict[Path, bytes]:
    """Return what the files with encrypted texts will hold.

    Raises:
        ValueError: some can't be changed, with the reasons of all.

    """
    results: dict[Path, bytes] = {}
    faults = []
    for path in _files(directory):
        try:
            results[path] = _file(path, passwords)
        except ValueError as error:
            faults.append(f"{path}: {error}")
    if faults:
        raise ValueError("\n".join([*faults, "Nothing was changed."]))
    return results


def _files(directory: Path) -> Iterator[Path]:
    """Return the files of an inventory in which something is encrypted."""
    for path in sorted(directory.rglob("*")):
        inside = path.relative_to(directory).parts
        if ".git" in inside or path.name == PENDING or not path.is_file():
            continue
        with path.open("rb") as stream:
            whole = stream.read(len(_MARK)) == _MARK
        if whole or (path.suffix in _WITH_TEXTS and _has_texts(path.read_bytes())):
            yield path


def _has_texts(text: bytes) -> bool:
    """Return whether `!vault` marks a text in a file, and not only its remarks."""
    return re.search(rb"^[^#\n]*!vault\b", text, re.MULTILINE) is not None and _MARK in text


def _file(path: Path, passwords: _Passwords) -> bytes:
    """Return a file's content with the new password.

    Raises:
        ValueError: it can't be changed.

    """
    if path.is_symlink():
        raise ValueError(f"is a link to {path.resolve()}, which may have other users")
    text = path.read_bytes()
    if is_encrypted(text):
        result = passwords.changed(text)
        if result is None:
            raise ValueError("has another password")
        return result
    return _texts(text.decode(), passwords).encode()


def _texts(text: str, passwords: _Passwords) -> str:
    """Return a YAML file with its single encrypted texts changed, and nothing else.

    Raises:
        ValueError: it is no YAML, or a text has another password.

    """
    try:
        documents = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise ValueError(f"is not valid YAML: {error}") from error
    nodes = {node.start_mark.index: node for one in documents for node in _encrypted(one)}
    for _, node in sorted(nodes.items(), reverse=True):
        result = passwords.changed(str(node.value).encode())
        if result is None:
            raise ValueError(f"line {node.start_mark.line + 1} has another password")
        if result == str(node.value).encode():
            continue
        start, end = node.start_mark.index, node.end_mark.index
        written = text[start:end]
        text = text[:start] + _written(written, node, result.decode()) + text[end:]
    return text


def _written(before: str, node: yaml.ScalarNode, value: str) -> str:
    """Return an encrypted text as it stands in a file, in the form it had."""
    if node.style not in {"|", ">"}:
        return f"{_VAULT} {json.dumps(value.strip())}"
    head, *lines = before.splitlines(keepends=True)
    indent = next(line[: len(line) - len(line.lstrip())] for line in lines if line.strip())
    tail = before[len(before.rstrip()) :]
    return head + "\n".join(f"{indent}{line}" for line in value.splitlines()) + tail


def _encrypted(node: yaml.Node | None) -> Iterator[yaml.ScalarNode]:
    """Return the encrypted texts in a part of a YAML document."""
    if isinstance(node, yaml.ScalarNode) and node.tag == _VAULT:
        yield node
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _encrypted(item)
    elif isinstance(node, yaml.MappingNode):
        for _, value in node.value:
            yield from _encrypted(value)
