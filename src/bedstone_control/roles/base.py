"""Role base: the operator's account, time, and further authorities, checked on the controller."""

from __future__ import annotations

import base64
import binascii
import re
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bedstone_control.roles.deployers import (
    deployer_directories,
    deployer_files,
    deployers,
)
from bedstone_control.roles.groups import EVERY_HOST
from bedstone_control.roles.role import Port, Role, Stage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bedstone_control.roles.site import Site

KEY = re.compile(r"(?:^|\s)((?:ssh|ecdsa|sk)-[a-z0-9@.-]+)\s+([A-Za-z0-9+/]+={0,2})(?:\s|$)")
CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
ACCOUNT = re.compile(r"[a-z][a-z0-9_-]{0,30}")
# As in sysctl.d(5), where * stands for each interface.
SYSCTL = re.compile(r"[a-z0-9_]+(?:[./](?:[A-Za-z0-9_-]+|\*))+")
TRUSTED = "/usr/local/share/ca-certificates"


def operator_problems(keys: Sequence[str], name: str) -> list[str]:
    """Return what is wrong with the operator's account, in sentences; nothing when it can work.

    Args:
        keys: the role's `base_operator_authorized_keys`.
        name: the role's `base_operator_name`; empty for no such account.

    """
    if not name:
        return []
    problems = []
    if name == "root" or not ACCOUNT.fullmatch(name):
        problems.append(
            f"base_operator_name is {name!r}: it has to be an account of its own, of small "
            "letters, digits, - and _. Example: alice."
        )
    if not keys:
        problems.append(
            "base_operator_authorized_keys is empty: nobody could log in as "
            f"{name}. Put the content of your ~/.ssh/id_ed25519.pub there."
        )
    problems += [
        f"base_operator_authorized_keys has an entry that is no public key: {_shortened(key)!r}. "
        "Example: ssh-ed25519 AAAAC3Nza... alice@laptop."
        for key in keys
        if not _is_public_key(key)
    ]
    return problems


def _shortened(text: str, length: int = 40) -> str:
    return text if len(text) <= length else f"{text[:length]}..."


def _is_public_key(text: str) -> bool:
    match = KEY.search(text)
    if not match or "\n" in text.strip() or "PRIVATE KEY" in text:
        return False
    try:
        blob = base64.b64decode(match[2], validate=True)
    except binascii.Error:
        return False
    # The key itself begins with its type again, after four bytes that hold the type's length.
    return blob[4 : 4 + len(match[1])] == match[1].encode()


def trusted_certificate_files(paths: Sequence[str]) -> list[dict[str, Any]]:
    """Return one file for each certificate, in the form of converge's `files`.

    Debian's update-ca-certificates takes one certificate a file, so a bundle is split.

    Args:
        paths: PEM files on the controller.

    Raises:
        ValueError: a file can't be read, holds no certificate, or a private key.

    """
    files = []
    taken: set[str] = set()
    for path in map(Path, paths):
        certificates = _certificates_of(path)
        stem = re.sub(r"[^A-Za-z0-9]+", "-", path.stem).strip("-") or "ca"
        for number, certificate in enumerate(certificates, start=1):
            # `bedstone-ca-1.crt` is that of the servers' own authority (role ca).
            name = f"bedstone-extra-{stem}-{number}.crt"
            if name in taken:
                raise ValueError(
                    f"base_extra_ca_certificates has two files named {path.name}: rename one."
                )
            taken.add(name)
            files.append({"path": f"{TRUSTED}/{name}", "content": f"{certificate}\n"})
    return files


def _certificates_of(path: Path) -> list[str]:
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"base_extra_ca_certificates: {path} can't be read on this machine: {error}"
        ) from error
    if "PRIVATE KEY" in text:
        raise ValueError(
            f"base_extra_ca_certificates: {path} holds a private key. Only certificates are "
            "copied to the servers' trust store: make a file without the key."
        )
    found = CERTIFICATE.findall(text)
    if not found:
        raise ValueError(
            f"base_extra_ca_certificates: {path} holds no certificate in PEM form "
            "(-----BEGIN CERTIFICATE-----)."
        )
    try:
        for certificate in found:
            ssl.PEM_cert_to_DER_cert(certificate)
    except ValueError as error:
        raise ValueError(
            f"base_extra_ca_certificates: a certificate in {path} is damaged: {error}"
        ) from error
    return list(found)


def sysctl_settings(own: Mapping[str, Any], further: Mapping[str, Any]) -> dict[str, Any]:
    """Return kernel settings with an inventory's changes.

    Args:
        own: the role's settings by name.
        further: the role's `base_sysctl`; None takes a setting away.

    Raises:
        ValueError: a name or value that sysctl.d(5) has no form for.

    """
    for name, value in further.items():
        if not SYSCTL.fullmatch(str(name)):
            raise ValueError(
                f"base_sysctl has {name!r}, which is no kernel setting. Example: "
                "{net.ipv4.conf.all.rp_filter: 1}."
            )
        if value is not None and (isinstance(value, bool) or not _is_line(value)):
            raise ValueError(
                f"base_sysctl: {name} is {value!r}: it has to be a number or one line of text. "
                "Example: {net.ipv4.conf.all.rp_filter: 1}."
            )
    return {name: value for name, value in {**own, **further}.items() if value is not None}


def _is_line(value: Any) -> bool:
    return isinstance(value, int) or (isinstance(value, str) and bool(value) and "\n" not in value)


def operator_name(site: Site) -> str:
    """Return the name of the administrators' account, empty for none."""
    return site.settings.operator.name if site.settings.operator else ""


def operator_authorized_keys(site: Site) -> list[str]:
    """Return the public keys that may log in to it."""
    return list(site.settings.operator.authorized_keys) if site.settings.operator else []


def extra_ca_certificates(site: Site) -> list[str]:
    """Return the PEM files on the controller with further certificate authorities."""
    return [site.path(path) for path in site.settings.extra_ca_certificates]


ROLE = Role(
    name="base",
    group=EVERY_HOST,
    stage=Stage.MACHINE,
    arguments={
        "base_operator_name": operator_name,
        "base_operator_authorized_keys": operator_authorized_keys,
        "base_deployers": deployers,
        "base_timezone": lambda site: site.settings.timezone,
        "base_extra_ca_certificates": extra_ca_certificates,
    },
    ports=(Port("ansible_port", 22, "ssh", ("sshd", "systemd")),),
    filters=(
        deployer_directories,
        deployer_files,
        operator_problems,
        sysctl_settings,
        trusted_certificate_files,
    ),
)
