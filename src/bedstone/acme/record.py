"""Keep what is known of each certificate: its files, the last failure, the authority's advice."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from bedstone.core import files, paths
from bedstone.core.x509 import first

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from bedstone.core.x509 import Certificate


@dataclass(frozen=True)
class Issued:
    """A certificate that was issued.

    Attributes:
        at: when it was received.
        directory: the authority's.
        profile: that was asked for.
        certificate: path of the certificate and its chain.
        key: path of the private key.

    """

    at: datetime
    directory: str
    profile: str | None
    certificate: str
    key: str


@dataclass(frozen=True)
class Failure:
    """The last attempt, when it failed.

    Attributes:
        at: when.
        reason: why, in a sentence.
        orders: how many attempts in a row have failed at the authority; 0: it wasn't asked.
        since: when the first attempt of the row failed.
        asked_for: what was asked for: after a change of that there is no pause.

    """

    at: datetime
    reason: str
    orders: int
    since: datetime
    asked_for: str = ""


@dataclass(frozen=True)
class Advice:
    """What the authority says of the renewal of a certificate (RFC 9773).

    Attributes:
        asked_at: when it was asked.
        digest: of the certificate that it is about.
        renew_at: the moment to renew, chosen at random in its window; None: no advice.
        explanation: a page of the authority's that says why, if it names one.

    """

    asked_at: datetime
    digest: str
    renew_at: datetime | None
    explanation: str | None = None


@dataclass(frozen=True)
class Record:
    """What is known of an app's certificate."""

    issued: Issued | None = None
    failure: Failure | None = None
    advice: Advice | None = None

    def certificate(self) -> Certificate | None:
        """Return the certificate; None when there is none, or it is gone or damaged."""
        if self.issued is None:
            return None
        try:
            return first(paths.host(self.issued.certificate).read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None


def load(name: str) -> Record:
    """Return an app's record; an empty one when there is none, or none that can be read."""
    try:
        values = json.loads(_path(name).read_text(encoding="utf-8"))
        issued, failure, advice = (values[key] for key in ("issued", "failure", "advice"))
        return Record(
            issued and Issued(**_moments(issued)),
            failure and Failure(**_moments(failure)),
            advice and Advice(**_moments(advice)),
        )
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return Record()


def save(name: str, record: Record) -> None:
    """Write an app's record."""
    paths.ensure_private(paths.acme())
    text = json.dumps(asdict(record), indent=2, default=datetime.isoformat)
    files.write(_path(name), f"{text}\n", mode=0o600)


def known() -> list[str]:
    """Return the names of all records."""
    return sorted(path.stem for path in paths.acme().glob("*.json"))


def remove(name: str) -> None:
    """Remove an app's record."""
    _path(name).unlink(missing_ok=True)


def _moments(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: datetime.fromisoformat(value)
        if value is not None and (key.endswith("at") or key == "since")
        else value
        for key, value in values.items()
    }


def _path(name: str) -> Path:
    return paths.acme() / f"{name}.json"
