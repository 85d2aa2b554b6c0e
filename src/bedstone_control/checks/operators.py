"""Check the operator's and the deployers' accounts, the time zone and further authorities."""

from __future__ import annotations

import base64
import binascii
import re
import zoneinfo
from typing import TYPE_CHECKING

from bedstone_control.checks.context import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bedstone_control.checks.context import Context
    from bedstone_control.checks.problems import Problem
    from bedstone_control.settings.root import Settings

_RESERVED = {"root", "daemon", "bin", "sys", "nobody", "postgres", "www-data", "backup", "docker"}
_KEY = re.compile(
    r"(?:^|\s)(?P<type>(?:sk-)?(?:ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp\d+)(?:@openssh\.com)?)"
    r"\s+(?P<data>[A-Za-z0-9+/=]+)(?:\s|$)"
)
_EXAMPLE_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI… alice@laptop"
_MIN_RSA_BYTES = 256


def check(context: Context, settings: Settings) -> Iterator[Problem]:
    """Check what concerns the servers as a whole."""
    yield from _operator(context, settings)
    yield from _deployers(context, settings)
    known = zoneinfo.available_timezones()
    # A machine without time zone data can't judge; the server's own timedatectl then does.
    if known and settings.timezone not in known:
        message = f"{settings.timezone!r} is no time zone."
        yield context.problem(
            ("bedstone_timezone",), message, {"bedstone_timezone": "Europe/Berlin"}
        )
    for index, name in enumerate(settings.extra_ca_certificates):
        path = context.path(name)
        message = ""
        if not path.is_file():
            message = f"There is no file {path}."
        elif "-----BEGIN CERTIFICATE-----" not in path.read_text(errors="replace"):
            message = f"{path} holds no certificate in PEM form."
        if message:
            where = ("bedstone_extra_ca_certificates", index)
            example = {"bedstone_extra_ca_certificates": ["files/company-ca.crt"]}
            yield context.problem(where, message, example)


def _operator(context: Context, settings: Settings) -> Iterator[Problem]:
    """Check the account's name, and that its keys are public ones."""
    if settings.operator is None:
        return
    if settings.operator.name in _RESERVED:
        message = f"`{settings.operator.name}` is an account of the system."
        yield context.problem(("bedstone_operator", "name"), message, {"name": "alice"})
    for index, key in enumerate(settings.operator.authorized_keys):
        wrong = key_fault(key)
        if wrong:
            where = ("bedstone_operator", "authorized_keys", index)
            yield context.problem(where, wrong, {"authorized_keys": [_EXAMPLE_KEY]})


def _deployers(context: Context, settings: Settings) -> Iterator[Problem]:
    """Check the deployers' names, keys and apps."""
    taken = {settings.operator.name: "the operator's"} if settings.operator else {}
    known = [app.name for app in settings.apps]
    for index, deployer in enumerate(settings.deployers):
        place = ("bedstone_deployers", index)
        message = ""
        if deployer.name in _RESERVED:
            message = f"`{deployer.name}` is an account of the system."
        elif deployer.name in taken:
            message = f"The account `{deployer.name}` is {taken[deployer.name]} already."
        if message:
            yield context.problem((*place, "name"), message, {"name": "deploy"})
        taken[deployer.name] = "another deployer's"
        for number, key in enumerate(deployer.authorized_keys):
            if wrong := key_fault(key):
                where = (*place, "authorized_keys", number)
                yield context.problem(where, wrong, {"authorized_keys": [_EXAMPLE_KEY]})
        for number, app in enumerate(deployer.apps):
            if app not in known:
                message = f"There is no app `{app}`. {did_you_mean(app, known)}"
                yield context.problem((*place, "apps", number), message, {"apps": known[:1]})


def key_fault(text: str) -> str | None:
    """Return what is wrong with a public ssh key, None when nothing is."""
    match = _KEY.search(text)
    private = (
        "This is a private key, which nobody else may ever see. Make a new pair with "
        "`ssh-keygen -t ed25519` and give the content of the file that ends in .pub."
    )
    faults = (
        ("PRIVATE KEY" in text, private),
        ("\n" in text.strip(), "One entry holds one key; this one has several lines."),
        (
            "ssh-dss" in text,
            "OpenSSH accepts no DSA keys any more; make one with `ssh-keygen -t ed25519`.",
        ),
        (
            match is None,
            "This is no public ssh key: it holds no key type followed by the key's data.",
        ),
    )
    found = next((fault for wrong, fault in faults if wrong), None)
    return _data_fault(match["type"], match["data"]) if match and not found else found


def _data_fault(kind: str, encoded: str) -> str | None:
    """Return what is wrong with the data of a key (RFC 4253, section 6.6), None when nothing is."""
    try:
        data = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        data = b""
    length = int.from_bytes(data[:4])
    if data[4 : 4 + length] != kind.encode() or len(data) <= 4 + length:
        return "The data of this ssh key is damaged; copy the whole line of the .pub file."
    if kind == "ssh-rsa" and len(data) < _MIN_RSA_BYTES:
        return "This RSA key has fewer than 2048 bits; make one with `ssh-keygen -t ed25519`."
    return None


def host_key_fault(text: str) -> str | None:
    """Return what is wrong with a server's public key, None when nothing is."""
    if text.lstrip().startswith(("@", "#")):
        return (
            "This is no line with a key: neither marks (`@cert-authority`) nor comments are read."
        )
    return key_fault(text)
