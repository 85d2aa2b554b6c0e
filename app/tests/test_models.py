"""What the database itself refuses, whatever program asks."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models import ProtectedError
from django.db.utils import ProgrammingError

from payments import services
from payments.models import AuditEntry, PaymentRequest

if TYPE_CHECKING:
    from django.contrib.auth.models import User

NOW = datetime(2026, 2, 3, 4, 5, tzinfo=UTC)


def make(requester: User, **changes: Any) -> PaymentRequest:
    values: dict[str, Any] = {
        "payee": "Hilltop Stationery",
        "purpose": "Paper",
        "amount": "10.00",
        "requested_by": requester,
        "requested_at": NOW,
    }
    return PaymentRequest.objects.create(**values | changes)


@pytest.mark.parametrize(
    ("constraint", "changes"),
    [
        ("amount_is_positive", {"amount": "0.00"}),
        ("amount_is_positive", {"amount": "-1.00"}),
        ("currency_is_known", {"currency": "XXX"}),
        ("status_is_known", {"status": "lost", "decided_by": "approver", "decided_at": NOW}),
        (
            "nobody_decides_their_own",
            {"status": "approved", "decided_by": "requester", "decided_at": NOW},
        ),
        (
            "nobody_pays_their_own",
            {
                "status": "paid",
                "decided_by": "approver",
                "decided_at": NOW,
                "paid_by": "requester",
                "paid_at": NOW,
            },
        ),
        ("decided_by_somebody_or_not_yet", {"status": "approved"}),
        ("decided_by_somebody_or_not_yet", {"decided_by": "approver", "decided_at": NOW}),
        (
            "decided_by_somebody_or_not_yet",
            {"status": "approved", "decided_by": "approver", "decided_at": None},
        ),
        (
            "rejected_with_a_reason",
            {"status": "rejected", "decided_by": "approver", "decided_at": NOW},
        ),
        (
            "paid_by_somebody_or_not_yet",
            {"status": "paid", "decided_by": "approver", "decided_at": NOW},
        ),
        ("paid_by_somebody_or_not_yet", {"paid_by": "approver", "paid_at": NOW}),
    ],
)
def test_a_wrong_row_is_refused(
    requester: User, approver: User, constraint: str, changes: dict[str, Any]
) -> None:
    people = {"requester": requester, "approver": approver}
    values = {
        name: people[value] if name.endswith("_by") else value for name, value in changes.items()
    }
    with pytest.raises(IntegrityError, match=constraint):
        make(requester, **values)


@pytest.mark.parametrize(
    "change",
    [
        {"amount": "99.00"},
        {"payee": "Somebody else"},
        {"purpose": "Something else"},
        {"currency": "USD"},
        {"invoice": "invoices/other.pdf"},
        {"requested_at": NOW},
    ],
)
def test_the_terms_of_a_request_never_change(requester: User, change: dict[str, Any]) -> None:
    made = services.create(
        requester,
        payee="Hilltop",
        purpose="Paper",
        amount=Decimal(10),
        currency="EUR",
    )
    with pytest.raises(IntegrityError, match="not changed once it is made"):
        PaymentRequest.objects.filter(pk=made.pk).update(**change)


@pytest.mark.parametrize("status", ["requested", "approved", "paid"])
def test_a_rejected_request_stays_rejected(requester: User, approver: User, status: str) -> None:
    made = make(
        requester, status="rejected", decided_by=approver, decided_at=NOW, decision_note="Too much"
    )
    with pytest.raises(IntegrityError, match=f"can't go from rejected to {status}"):
        PaymentRequest.objects.filter(pk=made.pk).update(status=status)


def test_a_request_can_not_be_paid_before_it_is_approved(requester: User, approver: User) -> None:
    made = make(requester)
    with pytest.raises(IntegrityError, match="can't go from requested to paid"):
        PaymentRequest.objects.filter(pk=made.pk).update(
            status="paid", decided_by=approver, decided_at=NOW, paid_by=approver, paid_at=NOW
        )


def test_the_audit_trail_can_not_be_changed_or_deleted(requester: User) -> None:
    made = services.create(
        requester,
        payee="Hilltop",
        purpose="Paper",
        amount=Decimal(10),
        currency="EUR",
    )
    with pytest.raises(IntegrityError, match="never changed or deleted"), transaction.atomic():
        AuditEntry.objects.update(note="nothing happened")
    with pytest.raises(IntegrityError, match="never changed or deleted"), transaction.atomic():
        AuditEntry.objects.all().delete()
    with pytest.raises(ProtectedError):
        made.delete()
    assert AuditEntry.objects.get().status_after == "requested"


@pytest.mark.django_db
@pytest.mark.parametrize(
    "statement",
    [
        "TRUNCATE payments_auditentry",
        "ALTER TABLE payments_auditentry DISABLE TRIGGER ALL",
        "DROP TABLE payments_auditentry",
        "CREATE TABLE something (id int)",
        "CREATE INDEX something ON payments_paymentrequest (payee)",
        "DROP TRIGGER audit_is_append_only ON payments_auditentry",
    ],
)
def test_the_apps_role_can_not_change_the_schema(statement: str) -> None:
    with pytest.raises(ProgrammingError, match=r"permission denied|must be owner"):
        connection.cursor().execute(statement)
