"""Return the state of each declared certificate, for people, alarms and programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bedstone.acme import config, due, record

if TYPE_CHECKING:
    from datetime import datetime

    from bedstone.acme.record import Failure
    from bedstone.core.x509 import Certificate


@dataclass(frozen=True)
class State:
    """A declared certificate as it is.

    Attributes:
        name: the app's.
        domains: what it is for.
        certificate: the last one that was issued, or None.
        failure: the last attempt, when it failed.
        renew_at: when it is renewed; None without one.

    """

    name: str
    domains: tuple[str, ...]
    certificate: Certificate | None
    failure: Failure | None
    renew_at: datetime | None

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        found, failure = self.certificate, self.failure
        return {
            "name": self.name,
            "domains": list(self.domains),
            "ends_at": found.end.isoformat() if found else None,
            "renew_at": self.renew_at.isoformat() if self.renew_at else None,
            "problem": failure.reason if failure else None,
            "problem_since": failure.since.isoformat() if failure else None,
        }


def gather() -> list[State]:
    """Return the state of all declared certificates; none on a server without any.

    Raises:
        ConfigError: the settings can't be read.

    """
    settings = config.load()
    return [_state(wanted) for wanted in settings.certificates] if settings else []


def _state(wanted: config.Wanted) -> State:
    found = record.load(wanted.name)
    certificate = found.certificate()
    renew_at = None
    if certificate is not None:
        share = due.renewal_share(certificate)
        renew_at = certificate.start + (certificate.end - certificate.start) * share
        advised = found.advice and found.advice.digest == certificate.digest
        if advised and found.advice and found.advice.renew_at:
            renew_at = min(renew_at, found.advice.renew_at)
    return State(wanted.name, wanted.domains, certificate, found.failure, renew_at)
