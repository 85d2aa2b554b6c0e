"""The JSON API, below /api/. Its description is at /api/openapi.json.

A program sends `Authorization: Bearer TOKEN` (`manage.py api_token` makes one); a page of
this site may use the session, with the CSRF token.
"""

# No postponed annotations here: the API reads them to know what to accept.
from datetime import datetime
from decimal import Decimal
from typing import Annotated, cast

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from ninja import Field, NinjaAPI, Query, Schema
from ninja import Status as Reply
from ninja.pagination import LimitOffsetPagination, paginate
from ninja.security import HttpBearer, SessionAuth

from payments import services
from payments.models import ApiToken, Currency, PaymentRequest, PaymentRequestQuerySet, Status

Amount = Annotated[Decimal, Field(gt=0, max_digits=12, decimal_places=2)]


class TokenAuth(HttpBearer):
    """Accepts a token of payments.models.ApiToken."""

    def authenticate(self, _request: HttpRequest, token: str) -> User | None:
        """Return the token's user, or None."""
        return ApiToken.user_of(token)


api = NinjaAPI(
    title="Payments",
    version="1",
    docs_url=None,  # the page would load scripts from somebody else's server
    auth=[TokenAuth(), SessionAuth()],
)


class NewRequest(Schema):
    """What a new request needs."""

    payee: Annotated[str, Field(min_length=1, max_length=200)]
    purpose: Annotated[str, Field(min_length=1, max_length=1000)]
    amount: Amount
    currency: Currency = Currency.EUR


class Note(Schema):
    """An approval's note."""

    note: Annotated[str, Field(max_length=500)] = ""


class Reason(Schema):
    """A rejection's reason."""

    reason: Annotated[str, Field(min_length=1, max_length=500)]


class Payment(Schema):
    """The bank's reference of a payment."""

    reference: Annotated[str, Field(max_length=100)] = ""


class Filters(Schema):
    """What to leave in a list."""

    status: Status | None = None
    search: Annotated[str, Field(max_length=100)] = ""


class Request(Schema):
    """A payment request. Amounts are strings, so that no program rounds them."""

    id: int
    number: str
    payee: str
    purpose: str
    amount: Decimal
    currency: str
    status: str
    requested_by: Annotated[str, Field(alias="requested_by.username")]
    requested_at: datetime
    decided_by: Annotated[str | None, Field(alias="decided_by.username")] = None
    decided_at: datetime | None
    decision_note: str
    paid_by: Annotated[str | None, Field(alias="paid_by.username")] = None
    paid_at: datetime | None
    payment_reference: str


class HistoryEntry(Schema):
    """One entry of a request's audit trail."""

    at: datetime
    actor: Annotated[str, Field(alias="actor.username")]
    status_before: str
    status_after: str
    note: str
    request_id: str


class RequestWithHistory(Request):
    """A payment request and everything that happened to it."""

    history: Annotated[list[HistoryEntry], Field(alias="audit_entries")]


def _user(request: HttpRequest) -> User:
    return cast("User", request.auth)  # type: ignore[attr-defined]  # ninja sets it


def _visible(request: HttpRequest) -> PaymentRequestQuerySet:
    visible = PaymentRequest.objects.visible_to(_user(request))
    return visible.select_related("requested_by", "decided_by", "paid_by")


@api.get("/requests", response=list[Request], summary="List the requests that you may see")
@paginate(LimitOffsetPagination, max_limit=100)
def list_requests(request: HttpRequest, filters: Query[Filters]) -> PaymentRequestQuerySet:
    """Newest first; `limit` (100 at most) and `offset` page through them."""
    return _visible(request).matching(status=filters.status or "", search=filters.search)


@api.post("/requests", response={201: Request}, summary="Make a request")
def create_request(request: HttpRequest, new: NewRequest) -> Reply[PaymentRequest]:
    """Make a request, which then waits for somebody else's decision."""
    return Reply(201, services.create(_user(request), **new.dict()))


@api.get("/requests/{pk}", response=RequestWithHistory, summary="Show a request")
def show_request(request: HttpRequest, pk: int) -> PaymentRequest:
    """With its history, oldest entry first."""
    return get_object_or_404(_visible(request).prefetch_related("audit_entries__actor"), pk=pk)


@api.post("/requests/{pk}/approve", response=Request, summary="Approve somebody else's request")
def approve_request(request: HttpRequest, pk: int, body: Note) -> PaymentRequest:
    """409 if it is decided already."""
    return services.approve(_user(request), pk, note=body.note)


@api.post("/requests/{pk}/reject", response=Request, summary="Reject somebody else's request")
def reject_request(request: HttpRequest, pk: int, body: Reason) -> PaymentRequest:
    """409 if it is decided already."""
    return services.reject(_user(request), pk, reason=body.reason)


@api.post("/requests/{pk}/pay", response=Request, summary="Mark an approved request as paid")
def pay_request(request: HttpRequest, pk: int, body: Payment) -> PaymentRequest:
    """409 if it is not approved, or paid already."""
    return services.mark_paid(_user(request), pk, reference=body.reference)


def _answer(request: HttpRequest, status: int, detail: object) -> HttpResponse:
    return api.create_response(request, {"detail": detail}, status=status)


@api.exception_handler(PermissionDenied)
def _forbidden(request: HttpRequest, error: PermissionDenied) -> HttpResponse:
    return _answer(request, 403, str(error))


@api.exception_handler(PaymentRequest.DoesNotExist)
def _not_found(request: HttpRequest, _error: PaymentRequest.DoesNotExist) -> HttpResponse:
    return _answer(request, 404, "There is no such request.")


@api.exception_handler(services.WrongStateError)
def _conflict(request: HttpRequest, error: services.WrongStateError) -> HttpResponse:
    return _answer(request, 409, str(error))


@api.exception_handler(services.ReasonMissingError)
def _no_reason(request: HttpRequest, error: services.ReasonMissingError) -> HttpResponse:
    return _answer(request, 422, str(error))


@api.exception_handler(ValidationError)
def _invalid(request: HttpRequest, error: ValidationError) -> HttpResponse:
    return _answer(request, 422, error.message_dict)
