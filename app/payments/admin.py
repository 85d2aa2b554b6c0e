"""Django's admin.

Requests and their audit trail can only be looked at: a change there would go around the
services, and leave no audit entry.
"""

from __future__ import annotations

from typing import Any

from django.contrib import admin

from payments.models import ApiToken, AuditEntry, PaymentRequest

admin.site.site_header = "Payments"
admin.site.site_title = "Payments"


class _LookOnly:
    """Takes away adding, changing and deleting."""

    def has_add_permission(self, *_: Any) -> bool:
        """Nobody adds here."""
        return False

    def has_change_permission(self, *_: Any) -> bool:
        """Nobody changes here."""
        return False

    def has_delete_permission(self, *_: Any) -> bool:
        """Nobody deletes here."""
        return False


class AuditInline(_LookOnly, admin.TabularInline[AuditEntry, PaymentRequest]):
    """A request's history, below it."""

    model = AuditEntry
    fields = ("at", "actor", "status_before", "status_after", "note", "request_id")


@admin.register(PaymentRequest)
class PaymentRequestAdmin(_LookOnly, admin.ModelAdmin[PaymentRequest]):
    """Payment requests, to look at."""

    list_display = ("number", "payee", "amount", "currency", "status", "requested_by")
    list_filter = ("status", "currency")
    search_fields = ("payee", "purpose", "payment_reference")
    exclude = ("invoice",)  # the page ("view on site") hands it out, to whoever may see it
    inlines = (AuditInline,)


@admin.register(AuditEntry)
class AuditEntryAdmin(_LookOnly, admin.ModelAdmin[AuditEntry]):
    """The audit trail, to look at."""

    list_display = ("at", "payment_request", "actor", "status_before", "status_after", "note")
    list_filter = ("status_after",)
    date_hierarchy = "at"


@admin.register(ApiToken)
class ApiTokenAdmin(admin.ModelAdmin[ApiToken]):
    """API tokens, to see and to revoke; `manage.py api_token` makes them."""

    list_display = ("name", "user", "created_at")
    fields = ("name", "user", "created_at")
    readonly_fields = fields

    def has_add_permission(self, *_: Any) -> bool:
        """Forbid it: a token is shown once, on the terminal."""
        return False
