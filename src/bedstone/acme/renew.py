"""Get the certificates that are due, and let nginx serve what there is.

A failure is kept with its reason, for `bedstone status` and the alarms; the site serves on with the
certificate that it has, at first one of Bedstone's own authority.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from bedstone.acme import directory as authority
from bedstone.acme import due, preflight, record, site
from bedstone.acme.config import Wanted
from bedstone.acme.record import Failure, Issued, Record
from bedstone.core import age, lock
from bedstone.core.errors import BedstoneError
from bedstone.system.certbot import AccountLostError, Certbot, Order
from bedstone.system.nginx import Nginx

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from bedstone.acme.config import Settings
    from bedstone.acme.directory import Directory
    from bedstone.acme.record import Advice
    from bedstone.core.x509 import Certificate

logger = logging.getLogger(__name__)

_LOCK = "acme"
_LOCK_SECONDS = 900.0


@dataclass(frozen=True)
class Result:
    """How it went with one certificate.

    Attributes:
        name: the app's.
        changed: whether nginx serves another certificate now.
        problem: why the declared certificate isn't served, or isn't renewed; None: it is well.

    """

    name: str
    changed: bool
    problem: str | None

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {"name": self.name, "changed": self.changed, "problem": self.problem}


@dataclass(frozen=True)
class Tools:
    """What the work is done with; tests replace it."""

    certbot: Certbot = field(default_factory=Certbot)
    nginx: Nginx = field(default_factory=Nginx)
    provable: Callable[[Iterable[str]], list[str]] = preflight.problems
    directory: Callable[[str], Directory] = authority.fetch
    advice: Callable[[Directory, Certificate, datetime], Advice] = authority.advice


def renew(
    settings: Settings,
    *,
    names: Collection[str] = (),
    force: bool = False,
    by_hand: bool = False,
    tools: Tools | None = None,
    now: datetime | None = None,
) -> list[Result]:
    """Get the certificates that are due and let nginx serve them.

    Args:
        settings: the authority and the certificates.
        names: those to look at; all when empty.
        force: whether they are due in any case.
        by_hand: whether an operator asks, who has mended something: after failures the authority
            is asked again sooner.
        tools: what the work is done with.
        now: the time to judge by.

    """
    tools, now = tools or Tools(), now or datetime.now(UTC)
    wanted = [each for each in settings.certificates if not names or each.name in names]
    with lock.held(_LOCK, "bedstone certificates renew", wait_seconds=_LOCK_SECONDS):
        if not names:
            _forget({each.name for each in wanted}, tools.certbot, now)
        work = _Work(settings, tools, now, force=force, by_hand=by_hand)
        return [work.one(each) for each in wanted]


class _Work:
    """One run."""

    def __init__(
        self, settings: Settings, tools: Tools, now: datetime, *, force: bool, by_hand: bool
    ) -> None:
        self._settings, self._tools, self._now = settings, tools, now
        self._force, self._by_hand = force, by_hand
        self._directory: Directory | None = None
        self._asked_for = ""

    def one(self, wanted: Wanted) -> Result:
        """Look at one certificate, get it when it is due, and let nginx serve it."""
        found = self._with_advice(record.load(wanted.name))
        present = found.certificate()
        self._asked_for = due.asked_for(self._settings, wanted)
        wait = due.waits_until(found, self._now, self._asked_for, by_hand=self._by_hand)
        reason = due.why(self._settings, wanted, found, present, self._now)
        if reason is None and self._force:
            reason = "the operator asks for it"
        if reason is None:
            found, wait = replace(found, failure=None), None
        elif wait is None:
            found = self._attempt(wanted, found, reason)
            # Before nginx is reloaded: what was issued isn't ordered again after a kill.
            record.save(wanted.name, found)
        changed, problem = False, found.failure.reason if found.failure else None
        if wait is not None:
            problem = f"{problem} (asked again after {age.short(wait.isoformat())})"
        if found.issued is not None and found.certificate() is not None:
            try:
                changed = site.serve(wanted.name, found.issued, wanted.domains, self._tools.nginx)
            except BedstoneError as error:
                problem = error.message
                found = self._failed(found, problem, asked=False)
        record.save(wanted.name, found)
        return Result(wanted.name, changed, problem)

    def _with_advice(self, found: Record) -> Record:
        """Ask the authority for its advice, once a day."""
        certificate = found.certificate()
        if (
            found.issued is None
            or certificate is None
            or found.issued.directory != self._settings.directory
            or not due.advice_is_due(found, certificate, self._now)
        ):
            return found
        try:
            advice = self._tools.advice(self._asked_directory(), certificate, self._now)
        except BedstoneError as error:
            logger.info("No advice on the renewal of %s: %s", certificate.subject, error.message)
            return found
        return replace(found, advice=advice)

    def _attempt(self, wanted: Wanted, found: Record, reason: str) -> Record:
        logger.info("%s: %s", wanted.name, reason)
        try:
            self._check(wanted)
        except BedstoneError as error:
            return self._failed(found, error.message, asked=False)
        try:
            chain, key = self._order(wanted)
        except BedstoneError as error:
            return self._failed(found, error.message, asked=True)
        issued = Issued(self._now, self._settings.directory, self._settings.profile, chain, key)
        logger.info("%s: the certificate was issued", wanted.name)
        return Record(issued)

    def _check(self, wanted: Wanted) -> None:
        """Find what would fail at the authority, or isn't worth an order.

        Raises:
            BedstoneError: something.

        """
        if self._settings.dns is None and self._settings.check_challenge:
            problems = self._tools.provable(wanted.domains)
            if problems:
                raise BedstoneError("; ".join(problems))
        if self._asked_directory().external_account and not self._settings.external_account:
            raise BedstoneError("the authority asks for an account made there: set `account_id`")
        profile, known = self._settings.profile, self._asked_directory().profiles
        if profile is not None and profile not in known:
            there = ", ".join(sorted(known)) or "none"
            raise BedstoneError(f"the authority has no profile {profile}; it has: {there}")

    def _order(self, wanted: Wanted) -> tuple[str, str]:
        settings = self._settings
        order = Order(
            wanted.name,
            wanted.domains,
            settings.directory,
            settings.email,
            settings.external_account,
            settings.profile,
            preflight.WEBROOT if settings.dns is None else None,
            settings.dns,
            settings.propagation_seconds,
        )
        try:
            return self._tools.certbot.order(order)
        except AccountLostError as error:
            logger.warning("%s: %s. Another account is registered.", wanted.name, error.message)
            self._tools.certbot.forget_account(settings.directory)
            return self._tools.certbot.order(order)

    def _asked_directory(self) -> Directory:
        if self._directory is None:
            self._directory = self._tools.directory(self._settings.directory)
        return self._directory

    def _failed(self, found: Record, reason: str, *, asked: bool) -> Record:
        before = found.failure
        same = before is not None and before.asked_for == self._asked_for
        orders = (before.orders if before and same else 0) + 1 if asked else 0
        since = before.since if before else self._now
        failure = Failure(self._now, reason, orders, since, self._asked_for)
        return replace(found, failure=failure)


def _forget(declared: Collection[str], certbot: Certbot, now: datetime) -> None:
    """Remove certificates that are declared no more, once they have ended.

    Until then an app that is switched back has its certificate at once, and no order is used up.
    """
    for name in record.known():
        certificate = record.load(name).certificate()
        if name in declared or (certificate is not None and certificate.end > now):
            continue
        try:
            certbot.delete(name)
        except BedstoneError as error:
            logger.warning("The former certificate of %s stays: %s", name, error.message)
        else:
            record.remove(name)
