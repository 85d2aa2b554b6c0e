"""Compute what a site's configuration of nginx says of clients: limits, lists and passwords."""

from __future__ import annotations

import hashlib
import re
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

from bedstone_control.settings.edge import Rate

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DEFAULT_RATE = Rate.model_validate({}).model_dump()
# How much a client may be ahead when it isn't said: of seconds ten, of minutes one.
_BURST = {"second": 10, "minute": 1}
HASH = re.compile(r"\$(?:y|7|6|2b)\$[A-Za-z0-9./$,=]+")
USER = re.compile(r"[a-z][a-z0-9_]{0,30}")
CONTACT = re.compile(r"(?:mailto:|https://|tel:)[\x21-\x7e]+")
EXPIRES = re.compile(r"[0-9T:.Z+-]{20,35}")
# The settings that a path may have of its own.
OF_A_PATH = (
    "allow",
    "deny",
    "basic_auth",
    "rate",
    "compress",
    "max_body_mb",
    "timeout_seconds",
    "buffering",
)
_DIGITS = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
# scrypt's costs: 2 MiB and some milliseconds, which one of nginx's workers spends at each request.
# The passwords are 18 random bytes, which need no slow hash; it is for those chosen by hand.
_LOG2_N, _R, _P = 11, 8, 1


def password_hash(password: str, salt: str) -> str:
    """Return a password as crypt(3) keeps it for nginx: scrypt, `$7$` of crypt(5).

    The same password and salt give the same hash, so that a second run changes nothing.

    Args:
        password: the password.
        salt: a text that differs for each user of each site.

    """
    short = hashlib.sha256(salt.encode()).hexdigest()[:32]
    key = hashlib.scrypt(password.encode(), salt=short.encode(), n=2**_LOG2_N, r=_R, p=_P, dklen=32)
    costs = _DIGITS[_LOG2_N] + _digits(_R, 30) + _digits(_P, 30)
    words = [key[start : start + 3] for start in range(0, len(key), 3)]
    coded = "".join(_digits(int.from_bytes(word, "little"), 8 * len(word)) for word in words)
    return f"$7${costs}{short}${coded}"


def _digits(value: int, bits: int) -> str:
    """Return a number in crypt(3)'s digits of six bits, the lowest first."""
    return "".join(_DIGITS[value >> shift & 63] for shift in range(0, bits, 6))


def access(rules: Mapping[str, Any], of_site: str) -> list[str]:
    """Return the directives that let addresses in or keep them out, the first match deciding.

    Raises:
        ValueError: an entry is no network.

    """
    denied = networks(rules.get("deny"), f"deny {of_site}")
    allowed = networks(rules.get("allow"), f"allow {of_site}")
    lines = [f"deny {network}" for network in denied]
    lines += [f"allow {network}" for network in allowed]
    return [*lines, "deny all"] if allowed else lines


def networks(texts: Iterable[str] | None, what: str) -> list[str]:
    """Return networks as nginx takes them.

    Raises:
        ValueError: an entry is none.

    """
    found = []
    for text in texts or ():
        try:
            found.append(str(ip_network(str(text))))
        except ValueError as error:
            raise ValueError(f"{what}: {error}. Examples: 203.0.113.0/24, 2001:db8::/32.") from None
    return found


def htpasswd(users: Mapping[str, str] | None, of_site: str) -> str:
    """Return the lines of a password file.

    Raises:
        ValueError: a name that can't be one, or a password that is no hash.

    """
    lines = []
    for user, hashed in sorted((users or {}).items()):
        if not USER.fullmatch(user):
            raise ValueError(f"{user!r} can't be a user in basic_auth {of_site}.")
        if not HASH.fullmatch(str(hashed)):
            raise ValueError(
                f"The password of {user!r} in basic_auth {of_site} is no hash. Make one with the "
                "filter nginx_password_hash, or with mkpasswd."
            )
        lines.append(f"{user}:{hashed}\n")
    return "".join(lines)


def rate(given: Mapping[str, Any] | None, zone: str, of_site: str) -> dict[str, Any] | None:
    """Return a limit for requests as the template takes it, None where there is none.

    Raises:
        ValueError: a number below zero, or another unit than second and minute.

    """
    values = {**DEFAULT_RATE, **{key: v for key, v in (given or {}).items() if v is not None}}
    requests, per = int(values["requests"]), str(values["per"])
    if per not in _BURST:
        raise ValueError(f"rate {of_site} is per {per!r}; it can be per second or minute.")
    burst = requests * _BURST[per] if values["burst"] is None else int(values["burst"])
    if requests < 0 or burst < 0:
        raise ValueError(f"rate {of_site}: requests and burst are 0 or more.")
    if requests == 0:
        return None
    return {
        "zone": zone,
        "rate": f"{requests}r/{per[0]}",
        "burst": burst,
        "dry_run": not values["enforce"],
    }


def security_txt(given: Mapping[str, Any], domain: str, of_site: str) -> str:
    """Return the file by which a site says whom to tell of a vulnerability (RFC 9116).

    Raises:
        ValueError: a contact that is no URI, or an expiry that is no moment.

    """
    contacts = [str(contact) for contact in given["contact"]]
    expires = str(given["expires"])
    if not contacts or not all(CONTACT.fullmatch(contact) for contact in contacts):
        raise ValueError(
            f"contact of security_txt {of_site}: each is a URI with mailto:, https:// or tel:."
        )
    if not EXPIRES.fullmatch(expires):
        raise ValueError(f"{expires!r} can't be when security_txt {of_site} expires (RFC 3339).")
    lines = [f"Contact: {contact}" for contact in contacts]
    lines += [f"Expires: {expires}", f"Canonical: https://{domain}/.well-known/security.txt"]
    return "\n".join(lines) + "\n"


def rules_of(
    path: str, site: Mapping[str, Any], paths: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the rules that hold for a path: the site's, and those of each path that it is below.

    Args:
        path: with a slash at its end.
        site: the site's own rules.
        paths: the site's `paths`, each `path` with a slash at its end.

    """
    found = {key: site.get(key) for key in OF_A_PATH}
    for item in sorted(paths, key=lambda item: len(item["path"])):
        if path.startswith(item["path"]):
            found |= {key: item[key] for key in OF_A_PATH if item.get(key) is not None}
    return found
