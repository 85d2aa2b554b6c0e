"""The app's own commands."""

from __future__ import annotations

from io import StringIO

import pytest
from django.contrib.auth import authenticate
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client

from payments.models import PaymentRequest


def output_of(*command: str) -> str:
    out = StringIO()
    call_command(*command, stdout=out)
    return out.getvalue()


def logins() -> dict[str, str]:
    return dict(line.split() for line in output_of("demo_data").splitlines())


@pytest.mark.django_db
def test_demo_data_makes_two_users_who_can_sign_in_and_requests_to_decide() -> None:
    made = logins()
    assert {*made} == {"rosa", "arthur"}
    for name, password in made.items():
        assert len(password) >= 16
        assert authenticate(username=name, password=password) is not None
    statuses = PaymentRequest.objects.values_list("status", flat=True)
    assert sorted(statuses) == ["approved", "paid", "rejected", "requested", "requested"]


@pytest.mark.django_db
def test_demo_data_again_changes_only_the_passwords() -> None:
    first, second = logins(), logins()
    assert first["rosa"] != second["rosa"]
    assert authenticate(username="rosa", password=first["rosa"]) is None
    assert PaymentRequest.objects.count() == 5
    assert output_of("demo_data", "--keep-passwords") == ""
    assert authenticate(username="rosa", password=second["rosa"]) is not None


@pytest.mark.django_db
def test_an_api_token_is_printed_once_and_works(requester: User) -> None:
    token = output_of("api_token", "rosa", "bookkeeping").strip()
    client = Client(headers={"authorization": f"Bearer {token}"})
    assert client.get("/api/requests").status_code == 200
    with pytest.raises(CommandError, match="has a token 'bookkeeping' already"):
        output_of("api_token", "rosa", "bookkeeping")
    with pytest.raises(CommandError, match="no active user 'nobody'"):
        output_of("api_token", "nobody", "bookkeeping")


@pytest.mark.django_db
def test_a_first_user_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the README says; it is Django's own command."""
    monkeypatch.setenv("DJANGO_SUPERUSER_USERNAME", "chief")
    monkeypatch.setenv("DJANGO_SUPERUSER_EMAIL", "chief@example.com")
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", "a long and random one")
    output_of("createsuperuser", "--noinput")
    assert User.objects.get(username="chief").is_superuser
