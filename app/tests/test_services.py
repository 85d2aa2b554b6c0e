"""Who may do what to a payment request, and what it leaves behind."""

from __future__ import annotations

import threading
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import connection

from config import logs
from payments import services
from payments.groups import APPROVERS, REQUESTERS
from payments.models import AuditEntry, PaymentRequest
from tests.conftest import make_user

if TYPE_CHECKING:
    from collections.abc import Callable

TERMS: dict[str, Any] = {
    "payee": "Hilltop Stationery",
    "purpose": "Paper and toner",
    "amount": Decimal("184.20"),
    "currency": "EUR",
}


def history(request: PaymentRequest) -> list[tuple[str, str, str, str]]:
    return list(
        AuditEntry.objects.filter(payment_request=request).values_list(
            "actor__username", "status_before", "status_after", "note"
        )
    )


def test_every_step_leaves_an_audit_entry(requester: User, approver: User) -> None:
    made = services.create(requester, **TERMS)
    services.approve(approver, made.pk, note="Good price")
    paid = services.mark_paid(approver, made.pk, reference="2026-1")
    assert (paid.status, paid.amount, paid.payment_reference) == (
        "paid",
        Decimal("184.20"),
        "2026-1",
    )
    assert history(made) == [
        ("rosa", "", "requested", ""),
        ("arthur", "requested", "approved", "Good price"),
        ("arthur", "approved", "paid", "2026-1"),
    ]


def test_a_rejection_keeps_its_reason(requester: User, approver: User) -> None:
    made = services.create(requester, **TERMS)
    services.reject(approver, made.pk, reason="Too much")
    assert history(made)[-1] == ("arthur", "requested", "rejected", "Too much")


def test_a_rejection_needs_a_reason(requester: User, approver: User) -> None:
    made = services.create(requester, **TERMS)
    with pytest.raises(services.ReasonMissingError):
        services.reject(approver, made.pk, reason="  ")
    assert len(history(made)) == 1


def test_the_audit_entry_names_the_web_request(requester: User) -> None:
    token = logs.request_id.set("0123456789abcdef")
    try:
        made = services.create(requester, **TERMS)
    finally:
        logs.request_id.reset(token)
    assert made.audit_entries.get().request_id == "0123456789abcdef"


def test_an_approver_can_not_decide_or_pay_their_own_request(approver: User) -> None:
    approver.user_permissions.add(Permission.objects.get(codename="add_paymentrequest"))
    approver = User.objects.get(pk=approver.pk)
    made = services.create(approver, **TERMS)
    with pytest.raises(PermissionDenied, match="Nobody decides their own"):
        services.approve(approver, made.pk)
    with pytest.raises(PermissionDenied, match="Nobody decides their own"):
        services.reject(approver, made.pk, reason="No")
    colleague = make_user("anna", APPROVERS)
    services.approve(colleague, made.pk)
    with pytest.raises(PermissionDenied, match="Nobody pays their own"):
        services.mark_paid(approver, made.pk)


@pytest.mark.parametrize(
    "step",
    [
        services.approve,
        lambda user, pk: services.reject(user, pk, reason="No"),
        services.mark_paid,
    ],
    ids=["approve", "reject", "pay"],
)
def test_a_requester_can_not_take_an_approvers_steps(
    requester: User, outsider: User, step: Callable[[User, int], PaymentRequest]
) -> None:
    made = services.create(requester, **TERMS)
    with pytest.raises(PermissionDenied, match="You may not"):
        step(outsider, made.pk)


def test_an_approver_alone_can_not_make_requests(approver: User) -> None:
    with pytest.raises(PermissionDenied, match="may not make"):
        services.create(approver, **TERMS)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("amount", Decimal("0.00")),
        ("amount", Decimal("1.001")),
        ("amount", Decimal("10000000000.00")),
        ("currency", "XXX"),
        ("payee", ""),
        ("purpose", "x" * 1001),
    ],
)
def test_a_wrong_value_is_named(requester: User, field: str, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        services.create(requester, **TERMS | {field: value})
    assert field in caught.value.message_dict
    assert not PaymentRequest.objects.exists()


def test_a_request_is_decided_once(requester: User, approver: User) -> None:
    made = services.create(requester, **TERMS)
    services.approve(approver, made.pk)
    with pytest.raises(services.WrongStateError, match="is approved already"):
        services.reject(approver, made.pk, reason="Changed my mind")


def test_a_request_is_paid_once(requester: User, approver: User) -> None:
    made = services.create(requester, **TERMS)
    with pytest.raises(services.WrongStateError, match="is requested already"):
        services.mark_paid(approver, made.pk)
    services.approve(approver, made.pk)
    services.mark_paid(approver, made.pk)
    with pytest.raises(services.WrongStateError, match="is paid already"):
        services.mark_paid(approver, made.pk)


def test_of_two_decisions_at_once_one_wins(own_database: str) -> None:
    made = services.create(make_user("rosa", REQUESTERS), **TERMS)
    make_user("arthur", APPROVERS)
    make_user("anna", APPROVERS)
    outcomes: list[str] = []
    together = threading.Barrier(2, timeout=10)

    def decide(name: str) -> None:
        user = User.objects.get(username=name)
        user.has_perm("payments.decide_paymentrequest")  # asked before, so both reach the row
        together.wait()
        try:
            outcomes.append(services.approve(user, made.pk).status)
        except services.WrongStateError:
            outcomes.append("too late")
        finally:
            connection.close()

    threads = [threading.Thread(target=decide, args=(name,)) for name in ("arthur", "anna")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert sorted(outcomes) == ["approved", "too late"]
    assert made.audit_entries.count() == 2
