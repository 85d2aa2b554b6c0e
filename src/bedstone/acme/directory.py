"""Ask an authority's directory (RFC 8555) and its advice on renewals (RFC 9773)."""

from __future__ import annotations

import base64
import json
import random
import ssl
import urllib.request
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError

from bedstone import __version__
from bedstone.acme.record import Advice
from bedstone.core.errors import BedstoneError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bedstone.core.x509 import Certificate

_SECONDS = 20.0
_MOST_BYTES = 100_000
# A window that is longer is a mistake of the authority's, not a plan.
_LONGEST_WINDOW = timedelta(days=400)


@dataclass(frozen=True)
class Directory:
    """An authority's directory, as far as it is used.

    Attributes:
        renewal_info: where advice is asked for; None: it gives none.
        profiles: the names of its profiles.
        external_account: whether it asks for an account that was made elsewhere.

    """

    renewal_info: str | None
    profiles: frozenset[str]
    external_account: bool = False


def fetch(url: str, get: Callable[[str], Mapping[str, Any]] | None = None) -> Directory:
    """Return an authority's directory.

    Args:
        url: its address.
        get: returns the JSON object at an address.

    Raises:
        BedstoneError: the authority doesn't answer, or with something else.

    """
    found = (get or get_json)(url)
    if not isinstance(found.get("newOrder"), str):
        raise BedstoneError(f"{url} is no directory of an ACME authority: it has no newOrder")
    meta = found.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    profiles = meta.get("profiles")
    renewal_info = found.get("renewalInfo")
    return Directory(
        renewal_info if isinstance(renewal_info, str) else None,
        frozenset(profiles if isinstance(profiles, dict) else ()),
        meta.get("externalAccountRequired") is True,
    )


def advice(
    directory: Directory,
    certificate: Certificate,
    now: datetime,
    get: Callable[[str], Mapping[str, Any]] | None = None,
) -> Advice:
    """Return the authority's advice on a certificate's renewal.

    Raises:
        BedstoneError: it doesn't answer, or with something else.

    """
    nothing = Advice(now, certificate.digest, None)
    if directory.renewal_info is None or not certificate.authority_key:
        return nothing
    url = f"{directory.renewal_info.rstrip('/')}/{identifier(certificate)}"
    found = (get or get_json)(url)
    try:
        window = found["suggestedWindow"]
        start, end = _moment(window["start"]), _moment(window["end"])
        if not timedelta() < end - start < _LONGEST_WINDOW:
            return nothing
    except (KeyError, TypeError, ValueError) as error:
        raise BedstoneError(f"{url} holds no suggested window ({error})") from error
    chosen = start + (end - start) * random.random()  # noqa: S311 - spreads load, hides nothing
    explanation = found.get("explanationURL")
    return Advice(
        now, certificate.digest, chosen, explanation if isinstance(explanation, str) else None
    )


def identifier(certificate: Certificate) -> str:
    """Return the identifier of a certificate for advice (RFC 9773, 4.1)."""
    parts = (certificate.authority_key, certificate.serial)
    return ".".join(base64.urlsafe_b64encode(each).decode().rstrip("=") for each in parts)


def get_json(url: str) -> Mapping[str, Any]:
    """Return the JSON object at an address.

    Raises:
        BedstoneError: it can't be had.

    """
    if not url.startswith("https://"):
        raise BedstoneError(f"{url} doesn't begin with https://")
    request = urllib.request.Request(url, headers={"User-Agent": "bedstone/" + __version__})  # noqa: S310 - https only
    context = ssl.create_default_context()
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS, context=context) as answer:  # noqa: S310
            found = json.loads(answer.read(_MOST_BYTES))
    except HTTPError as error:
        raise BedstoneError(f"{url} answers {error.code} {error.reason}") from error
    except URLError as error:
        raise BedstoneError(f"{url} can't be reached: {error.reason}") from error
    except (OSError, ValueError) as error:
        raise BedstoneError(f"{url} can't be read: {error}") from error
    if not isinstance(found, dict):
        raise BedstoneError(f"{url} holds no JSON object")
    return found


def _moment(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    return found
