"""What may happen to a payment request, and who may do it. Pages, API and admin use this.

Every function locks the row, checks the person and the state, changes it, and writes the
audit entry, in one transaction.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.utils import timezone

from config.logs import request_id
from payments.models import AuditEntry, PaymentRequest, Status

if TYPE_CHECKING:
    from decimal import Decimal

    from django.contrib.auth.models import User
    from django.core.files import File

logger = logging.getLogger(__name__)


class WrongStateError(Exception):
    """The request has moved on: what was asked for is not possible in its state."""


class ReasonMissingError(ValueError):
    """A rejection needs a reason."""


@transaction.atomic
def create(
    user: User,
    *,
    payee: str,
    purpose: str,
    amount: Decimal,
    currency: str,
    invoice: File[bytes] | None = None,
) -> PaymentRequest:
    """Make a new request of `user`.

    Raises:
        PermissionDenied: if the user may not make requests.
        ValidationError: if a value is wrong; it names the fields.

    """
    _require(user, "payments.add_paymentrequest", "You may not make payment requests.")
    request = PaymentRequest(
        payee=payee,
        purpose=purpose,
        amount=amount,
        currency=currency,
        requested_by=user,
        requested_at=timezone.now(),
    )
    if invoice:
        request.invoice = invoice
    request.full_clean()
    request.save()
    _record(request, user, before="", note="")
    return request


@transaction.atomic
def approve(user: User, pk: int, *, note: str = "") -> PaymentRequest:
    """Approve somebody else's request.

    Raises:
        PermissionDenied: if the user may not decide, or made the request.
        WrongStateError: if it is decided already.

    """
    return _decide(user, pk, Status.APPROVED, note)


@transaction.atomic
def reject(user: User, pk: int, *, reason: str) -> PaymentRequest:
    """Reject somebody else's request.

    Raises:
        ReasonMissingError: if there is no reason.
        PermissionDenied: if the user may not decide, or made the request.
        WrongStateError: if it is decided already.

    """
    if not reason.strip():
        raise ReasonMissingError("A rejection needs a reason.")
    return _decide(user, pk, Status.REJECTED, reason)


@transaction.atomic
def mark_paid(user: User, pk: int, *, reference: str = "") -> PaymentRequest:
    """Say that an approved request was paid; `reference` is the bank's.

    Raises:
        PermissionDenied: if the user may not pay, or made the request.
        WrongStateError: if it is not approved, or paid already.

    """
    _require(user, "payments.pay_paymentrequest", "You may not mark requests as paid.")
    request = _locked(user, pk, Status.APPROVED)
    if request.requested_by_id == user.pk:
        raise PermissionDenied("Nobody pays their own request.")
    request.status = Status.PAID
    request.paid_by = user
    request.paid_at = timezone.now()
    request.payment_reference = reference.strip()
    request.save()
    _record(request, user, before=Status.APPROVED, note=request.payment_reference)
    return request


def may_decide(user: User, request: PaymentRequest) -> bool:
    """Tell whether `user` can approve or reject the request now."""
    return (
        request.status == Status.REQUESTED
        and request.requested_by_id != user.pk
        and user.has_perm("payments.decide_paymentrequest")
    )


def may_pay(user: User, request: PaymentRequest) -> bool:
    """Tell whether `user` can mark the request as paid now."""
    return (
        request.status == Status.APPROVED
        and request.requested_by_id != user.pk
        and user.has_perm("payments.pay_paymentrequest")
    )


def _decide(user: User, pk: int, status: Status, note: str) -> PaymentRequest:
    _require(user, "payments.decide_paymentrequest", "You may not decide payment requests.")
    request = _locked(user, pk, Status.REQUESTED)
    if request.requested_by_id == user.pk:
        raise PermissionDenied("Nobody decides their own request.")
    request.status = status
    request.decided_by = user
    request.decided_at = timezone.now()
    request.decision_note = note.strip()
    request.save()
    _record(request, user, before=Status.REQUESTED, note=request.decision_note)
    return request


def _require(user: User, permission: str, message: str) -> None:
    if not user.has_perm(permission):
        raise PermissionDenied(message)


def _locked(user: User, pk: int, expected: Status) -> PaymentRequest:
    """Lock a request against everybody else's changes until the transaction ends."""
    visible = PaymentRequest.objects.visible_to(user)
    request = visible.select_for_update(of=("self",)).get(pk=pk)
    if request.status != expected:
        raise WrongStateError(
            f"{request.number} is {request.status} already, so this is no longer possible."
        )
    return request


def _record(request: PaymentRequest, user: User, *, before: str, note: str) -> None:
    AuditEntry.objects.create(
        payment_request=request,
        at=timezone.now(),
        actor=user,
        status_before=before,
        status_after=request.status,
        note=note,
        request_id=request_id.get() or "",
    )
    logger.info(
        "%s %s by %s",
        request.number,
        request.status,
        user.get_username(),
        extra={"payment_request": request.number},
    )
