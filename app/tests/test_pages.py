"""The pages, as a person meets them."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from payments import services
from payments.forms import MAX_INVOICE_BYTES
from payments.models import AuditEntry, PaymentRequest

if TYPE_CHECKING:
    from django.conf import LazySettings

FORM = {"payee": "City Library", "purpose": "Membership", "amount": "95.00", "currency": "GBP"}
PDF = b"%PDF-1.7 a very small invoice"


def make(user: User, **changes: Any) -> PaymentRequest:
    values: dict[str, Any] = {"payee": "Hilltop", "purpose": "Paper", "amount": Decimal(10)}
    return services.create(user, currency="EUR", **values | changes)


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/", "/requests/new/", "/requests/1/", "/requests/1/invoice/"])
def test_a_stranger_is_sent_to_the_login(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 302
    assert answer.headers["Location"].startswith("/login/?next=")


def test_signing_in_and_out(client: Client, requester: User) -> None:
    wrong = client.post("/login/", {"username": "rosa", "password": "guess"})
    assert "Please enter a correct username and password" in wrong.text
    right = client.post("/login/", {"username": "rosa", "password": "rosa's password"})
    assert right.headers["Location"] == "/"
    assert "New request" in client.get("/").text
    assert client.post("/logout/").headers["Location"] == "/login/"
    assert client.get("/").status_code == 302


def test_a_request_goes_from_the_form_to_paid(as_requester: Client, as_approver: Client) -> None:
    answer = as_requester.post("/requests/new/", FORM, follow=True)
    made = PaymentRequest.objects.get()
    assert answer.redirect_chain == [(f"/requests/{made.pk}/", 302)]
    assert f"{made.number} is waiting for approval." in answer.text
    assert "Waiting for somebody else" in answer.text

    page = as_approver.get(f"/requests/{made.pk}/").text
    assert "Your decision" in page
    page = as_approver.post(
        f"/requests/{made.pk}/approve/", {"note": "Good value"}, follow=True
    ).text
    assert f"{made.number} is approved." in page
    assert "Good value" in page
    page = as_approver.post(f"/requests/{made.pk}/paid/", {"note": "2026-7"}, follow=True).text
    assert f"{made.number} is paid." in page

    made.refresh_from_db()
    assert (made.status, made.amount, made.payment_reference) == (
        "paid",
        Decimal("95.00"),
        "2026-7",
    )
    assert AuditEntry.objects.filter(payment_request=made).count() == 3


def test_a_rejection_asks_for_a_reason(
    requester: User, as_requester: Client, as_approver: Client
) -> None:
    made = make(requester)
    page = as_approver.post(f"/requests/{made.pk}/reject/", {"reason": ""}, follow=True).text
    assert "A rejection needs a reason." in page
    page = as_approver.post(f"/requests/{made.pk}/reject/", {"reason": "Twice"}, follow=True).text
    assert "is rejected" in page
    assert "Twice" in as_requester.get(f"/requests/{made.pk}/").text


def test_the_second_decision_is_told_what_happened(requester: User, as_approver: Client) -> None:
    made = make(requester)
    as_approver.post(f"/requests/{made.pk}/approve/")
    page = as_approver.post(f"/requests/{made.pk}/approve/", follow=True).text
    assert "is approved already" in page


def test_requesters_see_their_own_and_approvers_all(
    requester: User, outsider: User, as_requester: Client, as_approver: Client
) -> None:
    own, other = make(requester, payee="Own payee"), make(outsider, payee="Other payee")
    mine, all_of_them = as_requester.get("/").text, as_approver.get("/").text
    assert own.payee in mine
    assert other.payee not in mine
    assert own.payee in all_of_them
    assert other.payee in all_of_them
    assert as_requester.get(f"/requests/{other.pk}/").status_code == 404


def test_a_requester_can_not_decide(requester: User, as_requester: Client) -> None:
    made = make(requester)
    assert as_requester.post(f"/requests/{made.pk}/approve/").status_code == 403
    made.refresh_from_db()
    assert made.status == "requested"


def test_the_list_is_filtered_searched_and_paged(
    requester: User, approver: User, as_approver: Client
) -> None:
    for number in range(27):
        make(requester, payee=f"Payee {number:02d}")
    special = make(requester, payee="Miller & Sons <b>")
    services.approve(approver, special.pk)
    page = as_approver.get("/").text
    assert "Page 1 of 2" in page
    assert "Miller &amp; Sons &lt;b&gt;" in page
    assert "Payee 00" in as_approver.get("/?page=2").text
    approved = as_approver.get("/?status=approved").text
    assert "Miller" in approved
    assert "Payee 05" not in approved
    found = as_approver.get("/?search=payee 05").text
    assert "Payee 05" in found
    assert "Payee 06" not in found
    assert "Nothing matches." in as_approver.get("/?search=nobody").text
    assert as_approver.get("/?status=nonsense&page=99").status_code == 200


@pytest.mark.parametrize("amount", ["0", "-5", "ten", "1.999", ""])
def test_a_wrong_amount_is_shown_at_its_field(as_requester: Client, amount: str) -> None:
    answer = as_requester.post("/requests/new/", FORM | {"amount": amount})
    assert answer.status_code == 200
    assert "errorlist" in answer.text
    assert not PaymentRequest.objects.exists()


def test_an_invoice_is_stored_and_only_shown_to_those_who_may_see_the_request(
    as_requester: Client, as_approver: Client, outsider: User, media_root: Path
) -> None:
    upload = SimpleUploadedFile("../../evil name.pdf", PDF, "application/pdf")
    as_requester.post("/requests/new/", FORM | {"invoice": upload})
    made = PaymentRequest.objects.get()
    stored = [path for path in media_root.rglob("*") if path.is_file()]
    assert [path.read_bytes() for path in stored] == [PDF]
    assert "evil" not in stored[0].name
    answer = as_approver.get(f"/requests/{made.pk}/invoice/")
    assert b"".join(answer) == PDF
    assert answer.headers["Content-Type"] == "application/pdf"
    assert f'filename="{made.number}.pdf"' in answer.headers["Content-Disposition"]
    stranger = Client()
    stranger.force_login(outsider)
    assert stranger.get(f"/requests/{made.pk}/invoice/").status_code == 404


def test_a_lost_invoice_is_not_found(as_requester: Client, media_root: Path) -> None:
    upload = SimpleUploadedFile("invoice.pdf", PDF, "application/pdf")
    as_requester.post("/requests/new/", FORM | {"invoice": upload})
    next(media_root.rglob("*.pdf")).unlink()
    made = PaymentRequest.objects.get()
    assert as_requester.get(f"/requests/{made.pk}/invoice/").status_code == 404


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"<script>alert(1)</script>", "must be a PDF"),
        (PDF + b"x" * MAX_INVOICE_BYTES, "too large"),
    ],
    ids=["no PDF", "too large"],
)
def test_a_wrong_invoice_is_refused(as_requester: Client, content: bytes, problem: str) -> None:
    upload = SimpleUploadedFile("invoice.pdf", content, "application/pdf")
    answer = as_requester.post("/requests/new/", FORM | {"invoice": upload})
    assert problem in answer.text
    assert not PaymentRequest.objects.exists()


@pytest.mark.django_db
def test_pages_send_the_security_headers(client: Client) -> None:
    headers = client.get("/login/").headers
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.django_db
def test_static_files_carry_their_hash(client: Client) -> None:
    assert "/static/payments/style." in client.get("/login/").text
    assert "/static/payments/style.css" not in client.get("/login/").text


def test_anybody_may_read_static_files_and_nobody_else_an_invoice(
    as_requester: Client, media_root: Path, settings: LazySettings
) -> None:
    """The web server reads static files as another user; the app itself serves invoices."""
    static = [path for path in Path(settings.STATIC_ROOT).rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in static} == {0o644}
    upload = SimpleUploadedFile("invoice.pdf", PDF, "application/pdf")
    as_requester.post("/requests/new/", FORM | {"invoice": upload})
    assert next(media_root.rglob("*.pdf")).stat().st_mode & 0o777 == 0o640
    assert (media_root / "invoices").stat().st_mode & 0o777 == 0o750


@pytest.mark.django_db
def test_a_missing_page_looks_like_the_others(as_requester: Client) -> None:
    answer = as_requester.get("/nowhere/")
    assert answer.status_code == 404
    assert "There is no such page" in answer.text


@pytest.mark.django_db
def test_the_admin_shows_requests_and_history_but_changes_neither(requester: User) -> None:
    made = make(requester)
    User.objects.create_superuser("root", password="root's password")
    client = Client()
    assert client.login(username="root", password="root's password")
    change = f"/admin/payments/paymentrequest/{made.pk}/change/"
    page = client.get(change).text
    assert "Hilltop" in page
    assert 'name="_save"' not in page
    assert client.post(change, {"payee": "Somebody else"}).status_code == 403
    for path in ("paymentrequest/add/", "auditentry/add/", "apitoken/add/"):
        assert client.get(f"/admin/payments/{path}").status_code == 403
    entry = made.audit_entries.get()
    assert client.post(f"/admin/payments/auditentry/{entry.pk}/delete/").status_code == 403
    for path in ("", "payments/paymentrequest/", "payments/auditentry/", "payments/apitoken/"):
        assert client.get(f"/admin/{path}").status_code == 200
