"""The JSON API, with a token as programs have it."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from django.test import Client

from payments import services
from payments.models import ApiToken, PaymentRequest

if TYPE_CHECKING:
    from django.contrib.auth.models import User

NEW = {"payee": "City Library", "purpose": "Membership", "amount": "95.10", "currency": "GBP"}


class Api:
    """Calls the API with one user's token."""

    def __init__(self, user: User) -> None:
        self.token = ApiToken.issue(user, "test")
        self.client = Client(headers={"authorization": f"Bearer {self.token}"})

    def get(self, path: str) -> tuple[int, Any]:
        answer = self.client.get(f"/api{path}")
        return answer.status_code, answer.json()

    def post(self, path: str, body: object) -> tuple[int, Any]:
        answer = self.client.post(f"/api{path}", body, content_type="application/json")
        return answer.status_code, answer.json()


@pytest.fixture
def asking(requester: User) -> Api:
    return Api(requester)


@pytest.fixture
def deciding(approver: User) -> Api:
    return Api(approver)


def test_a_request_goes_all_the_way(asking: Api, deciding: Api) -> None:
    status, made = asking.post("/requests", NEW)
    assert status == 201
    assert made["amount"] == "95.10"
    assert made["requested_by"] == "rosa"
    assert made["decided_by"] is None
    path = f"/requests/{made['id']}"
    status, approved = deciding.post(f"{path}/approve", {"note": "Good value"})
    assert (status, approved["status"], approved["decided_by"]) == (200, "approved", "arthur")
    status, paid = deciding.post(f"{path}/pay", {"reference": "2026-7"})
    assert (status, paid["status"], paid["payment_reference"]) == (200, "paid", "2026-7")
    status, shown = asking.get(path)
    assert [entry["status_after"] for entry in shown["history"]] == [
        "requested",
        "approved",
        "paid",
    ]
    assert [entry["actor"] for entry in shown["history"]] == ["rosa", "arthur", "arthur"]


def test_a_rejection_needs_a_reason(asking: Api, deciding: Api) -> None:
    _, made = asking.post("/requests", NEW)
    path = f"/requests/{made['id']}/reject"
    assert deciding.post(path, {})[0] == 422
    assert deciding.post(path, {"reason": ""})[0] == 422
    assert deciding.post(path, {"reason": "  "}) == (422, {"detail": "A rejection needs a reason."})
    assert deciding.post(path, {"reason": "Twice"})[1]["status"] == "rejected"


def test_what_is_not_possible_is_a_conflict(asking: Api, deciding: Api) -> None:
    _, made = asking.post("/requests", NEW)
    status, answer = deciding.post(f"/requests/{made['id']}/pay", {})
    assert status == 409
    assert "so this is no longer possible" in answer["detail"]


def test_who_may_not_is_told_so(asking: Api, deciding: Api) -> None:
    _, made = asking.post("/requests", NEW)
    assert asking.post(f"/requests/{made['id']}/approve", {})[0] == 403
    assert deciding.post("/requests", NEW) == (
        403,
        {"detail": "You may not make payment requests."},
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"amount": "0"},
        {"amount": "-1"},
        {"amount": "1.005"},
        {"amount": "much"},
        {"amount": None},
        {"currency": "XXX"},
        {"payee": ""},
        {"purpose": "x" * 1001},
    ],
)
def test_a_wrong_value_is_refused(asking: Api, wrong: dict[str, object]) -> None:
    status, answer = asking.post("/requests", NEW | wrong)
    assert status == 422
    assert next(iter(wrong)) in str(answer)
    assert not PaymentRequest.objects.exists()


def test_a_list_is_filtered_paged_and_ones_own(
    asking: Api, deciding: Api, outsider: User, approver: User
) -> None:
    for number in range(3):
        asking.post("/requests", NEW | {"payee": f"Payee {number}"})
    other = services.create(outsider, payee="Other", purpose="x", amount=Decimal(1), currency="EUR")
    services.approve(approver, other.pk)
    assert asking.get("/requests")[1]["count"] == 3
    assert deciding.get("/requests")[1]["count"] == 4
    status, answer = deciding.get("/requests?status=approved")
    assert [item["payee"] for item in answer["items"]] == ["Other"]
    status, answer = deciding.get("/requests?search=Payee&limit=1&offset=1")
    assert ([item["payee"] for item in answer["items"]], answer["count"]) == (["Payee 1"], 3)
    status, _ = deciding.get("/requests?status=nonsense")
    assert status == 422
    assert asking.get(f"/requests/{other.pk}")[0] == 404
    assert asking.get("/requests/999999")[0] == 404
    assert deciding.post("/requests/999999/approve", {})[0] == 404


@pytest.mark.django_db
@pytest.mark.parametrize("header", ["", "Bearer wrong", "Basic cm9zYTpyb3Nh"])
def test_without_a_good_token_nothing_is_answered(header: str) -> None:
    answer = Client(headers={"authorization": header}).get("/api/requests")
    assert answer.status_code == 401
    assert answer.json() == {"detail": "Unauthorized"}


def test_the_token_of_a_deactivated_user_is_dead(asking: Api, requester: User) -> None:
    requester.is_active = False
    requester.save()
    assert asking.get("/requests")[0] == 401


def test_only_a_digest_is_stored(asking: Api) -> None:
    stored = ApiToken.objects.values().get()
    assert asking.token not in str(stored)


def test_a_session_works_too_but_needs_the_csrf_token(requester: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(requester)
    assert client.get("/api/requests").status_code == 200
    assert client.post("/api/requests", NEW, content_type="application/json").status_code == 403
    client.get("/requests/new/")  # sets the cookie
    answer = client.post(
        "/api/requests",
        NEW,
        content_type="application/json",
        headers={"x-csrftoken": client.cookies["csrftoken"].value},
    )
    assert answer.status_code == 201


@pytest.mark.django_db
def test_the_description_lists_every_operation(client: Client) -> None:
    paths = client.get("/api/openapi.json").json()["paths"]
    assert {path: sorted(methods) for path, methods in paths.items()} == {
        "/api/requests": ["get", "post"],
        "/api/requests/{pk}": ["get"],
        "/api/requests/{pk}/approve": ["post"],
        "/api/requests/{pk}/reject": ["post"],
        "/api/requests/{pk}/pay": ["post"],
    }
