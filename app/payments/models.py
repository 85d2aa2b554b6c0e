"""Payment requests, their audit trail, and the API's tokens.

What must always hold is a constraint or a trigger in the database (see the migrations),
so that it holds for every program that writes, not only for this one. Changes go through
`payments.services`, which writes the audit trail in the same transaction.
"""

from __future__ import annotations

import hashlib
import secrets
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from django.conf import settings
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.urls import reverse

if TYPE_CHECKING:
    from django.contrib.auth.models import User


class Currency(models.TextChoices):
    """The currencies in which the company pays."""

    EUR = "EUR", "EUR"
    GBP = "GBP", "GBP"
    USD = "USD", "USD"
    CHF = "CHF", "CHF"


class Status(models.TextChoices):
    """Where a request stands: requested, then approved or rejected; approved, then paid."""

    REQUESTED = "requested", "Requested"
    APPROVED = "approved", "Approved"
    REJECTED = "rejected", "Rejected"
    PAID = "paid", "Paid"


class PaymentRequestQuerySet(models.QuerySet["PaymentRequest"]):
    """Queries that pages and API share."""

    def visible_to(self, user: Any) -> PaymentRequestQuerySet:
        """Leave what `user` may see: everything with the view permission, else their own."""
        if user.has_perm("payments.view_paymentrequest"):
            return self
        return self.filter(requested_by_id=user.pk)

    def matching(self, *, status: str = "", search: str = "") -> PaymentRequestQuerySet:
        """Leave those with `status`, and with `search` in payee, purpose or reference."""
        found = self.filter(status=status) if status else self
        if search:
            found = found.filter(
                Q(payee__icontains=search)
                | Q(purpose__icontains=search)
                | Q(payment_reference__icontains=search)
            )
        return found


def invoice_path(_request: PaymentRequest, _filename: str) -> str:
    """Return where to store an invoice: a random name, so that none can be guessed."""
    return f"invoices/{uuid4().hex}.pdf"


class PaymentRequest(models.Model):
    """One request to pay somebody, from the question to the payment."""

    payee = models.CharField(max_length=200, help_text="Who is to be paid.")
    purpose = models.CharField(max_length=1000, help_text="What for, in a sentence or two.")
    amount: models.DecimalField[Decimal, Decimal] = models.DecimalField(
        max_digits=12, decimal_places=2, validators=[MinValueValidator(Decimal("0.01"))]
    )
    currency = models.CharField(max_length=3, choices=Currency, default=Currency.EUR)
    invoice = models.FileField(
        upload_to=invoice_path, blank=True, help_text="The invoice as a PDF of at most 5 MB."
    )
    status = models.CharField(max_length=10, choices=Status, default=Status.REQUESTED)

    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="payment_requests"
    )
    requested_at = models.DateTimeField()
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    decided_at = models.DateTimeField(null=True, blank=True)
    decision_note = models.CharField(max_length=500, blank=True)
    paid_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    paid_at = models.DateTimeField(null=True, blank=True)
    payment_reference = models.CharField(max_length=100, blank=True)

    objects = PaymentRequestQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        permissions = (
            ("decide_paymentrequest", "Can approve or reject payment requests of others"),
            ("pay_paymentrequest", "Can mark payment requests of others as paid"),
        )
        indexes = (models.Index(fields=["status", "-id"], name="payments_by_status"),)
        constraints = (
            models.CheckConstraint(condition=Q(amount__gt=0), name="amount_is_positive"),
            models.CheckConstraint(
                condition=Q(currency__in=Currency.values), name="currency_is_known"
            ),
            models.CheckConstraint(condition=Q(status__in=Status.values), name="status_is_known"),
            models.CheckConstraint(
                condition=~Q(decided_by=F("requested_by")), name="nobody_decides_their_own"
            ),
            models.CheckConstraint(
                condition=~Q(paid_by=F("requested_by")), name="nobody_pays_their_own"
            ),
            models.CheckConstraint(
                condition=Q(status=Status.REQUESTED, decided_by=None, decided_at=None)
                | (
                    ~Q(status=Status.REQUESTED)
                    & Q(decided_by__isnull=False, decided_at__isnull=False)
                ),
                name="decided_by_somebody_or_not_yet",
            ),
            models.CheckConstraint(
                condition=~Q(status=Status.REJECTED) | ~Q(decision_note=""),
                name="rejected_with_a_reason",
            ),
            models.CheckConstraint(
                condition=(~Q(status=Status.PAID) & Q(paid_by=None, paid_at=None))
                | Q(status=Status.PAID, paid_by__isnull=False, paid_at__isnull=False),
                name="paid_by_somebody_or_not_yet",
            ),
        )

    def __str__(self) -> str:
        return f"{self.number}: {self.amount} {self.currency} to {self.payee}"

    def get_absolute_url(self) -> str:
        """Return the page of this request."""
        return reverse("request-detail", args=[self.pk])

    @property
    def number(self) -> str:
        """The request's number as people say it."""
        return f"PR-{self.pk or 0:05d}"


class AuditEntry(models.Model):
    """One change of a payment request. Never changed and never deleted: a trigger refuses."""

    payment_request = models.ForeignKey(
        PaymentRequest, on_delete=models.PROTECT, related_name="audit_entries"
    )
    at = models.DateTimeField()
    actor = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    status_before = models.CharField(max_length=10, choices=Status, blank=True)
    status_after = models.CharField(max_length=10, choices=Status)
    note = models.CharField(max_length=500, blank=True)
    request_id = models.CharField(max_length=64, blank=True)

    class Meta:
        ordering = ("id",)
        verbose_name_plural = "audit entries"
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.payment_request.number} {self.get_status_after_display().lower()}"


class ApiToken(models.Model):
    """Lets a program use the API as one user. Only a digest is stored, as for passwords.

    A plain SHA-256 is enough here: the token is 256 random bits, which nobody can guess.
    """

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_tokens"
    )
    name = models.CharField(max_length=100, help_text="Which program has it.")
    digest = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("id",)
        constraints = (models.UniqueConstraint(fields=["user", "name"], name="token_name_once"),)

    def __str__(self) -> str:
        return f"{self.name} of {self.user}"

    @classmethod
    def issue(cls, user: User, name: str) -> str:
        """Make a token for `user` and return it: the only time that it can be read."""
        token = secrets.token_urlsafe(32)
        cls.objects.create(user=user, name=name, digest=cls._digest(token))
        return token

    @classmethod
    def user_of(cls, token: str) -> User | None:
        """Return the active user to whom a token belongs, or None."""
        found = cls.objects.select_related("user").filter(
            digest=cls._digest(token), user__is_active=True
        )
        return next((entry.user for entry in found), None)

    @staticmethod
    def _digest(token: str) -> str:
        return hashlib.sha256(token.encode()).hexdigest()
