"""`manage.py demo_data`: two users and a few payment requests, to try the app with."""

from __future__ import annotations

import secrets
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from django.contrib.auth.models import Group, User
from django.core.management.base import BaseCommand
from django.db import transaction

from payments import services
from payments.groups import APPROVERS, REQUESTERS
from payments.models import Currency, PaymentRequest

if TYPE_CHECKING:
    from django.core.management.base import CommandParser

DEMO_USERS = {"rosa": REQUESTERS, "arthur": APPROVERS}
DEMO_REQUESTS = (
    ("Hilltop Stationery", "Paper and toner for spring", "184.20", Currency.EUR, "paid"),
    ("Brandt Catering", "Lunch for the annual meeting", "1260.00", Currency.EUR, "approved"),
    ("Northwind Travel", "First-class flights to the fair", "6480.00", Currency.USD, "rejected"),
    ("Miller & Sons", "Repair of the workshop's roof", "8350.00", Currency.EUR, ""),
    ("City Library", "Membership for the research team", "95.00", Currency.GBP, ""),
)


class Command(BaseCommand):
    """Makes demo users and requests."""

    help = (
        "Makes the users rosa (asks for payments) and arthur (decides) with random passwords, "
        "prints these, and adds a few requests. Run again, it gives both new passwords and "
        "adds nothing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Offer to keep the passwords."""
        parser.add_argument(
            "--keep-passwords",
            action="store_true",
            help="leave users that exist already alone, and print no password for them",
        )

    @transaction.atomic
    def handle(self, *_: Any, **options: Any) -> None:
        """Make what is missing and print the logins."""
        users = {}
        for name, group in DEMO_USERS.items():
            user, created = User.objects.get_or_create(username=name)
            if created or not options["keep_passwords"]:
                password = secrets.token_urlsafe(12)
                user.set_password(password)
                user.save()
                self.stdout.write(f"{name} {password}")
            user.groups.add(Group.objects.get(name=group))
            users[name] = User.objects.get(pk=user.pk)  # with the new group's permissions
        if not PaymentRequest.objects.filter(requested_by=users["rosa"]).exists():
            _make_requests(users["rosa"], users["arthur"])


def _make_requests(rosa: User, arthur: User) -> None:
    for payee, purpose, amount, currency, outcome in DEMO_REQUESTS:
        made = services.create(
            rosa, payee=payee, purpose=purpose, amount=Decimal(amount), currency=currency
        )
        if outcome == "rejected":
            services.reject(arthur, made.pk, reason="Economy class will do, as agreed in May.")
        elif outcome:
            services.approve(arthur, made.pk)
        if outcome == "paid":
            services.mark_paid(arthur, made.pk, reference="2026-0117")
