"""The payments app: what Django needs to know about it."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class PaymentsConfig(AppConfig):
    """Makes the two groups, Requesters and Approvers, after a migration."""

    name = "payments"
    verbose_name = "Payments"

    def ready(self) -> None:
        """Register the groups' making; Django makes the permissions just before."""
        post_migrate.connect(_make_groups, sender=self)


def _make_groups(using: str, **_: Any) -> None:
    from payments.groups import make_groups  # noqa: PLC0415 - models aren't loaded earlier

    make_groups(using)
