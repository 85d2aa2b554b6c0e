"""The pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from django.contrib import messages
from django.contrib.auth.decorators import login_required, permission_required
from django.core.paginator import Paginator
from django.db.models import Count
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from payments import services
from payments.forms import CreateForm, FilterForm, NoteForm, ReasonForm
from payments.models import PaymentRequest, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.contrib.auth.models import User

PER_PAGE = 25


def _user(request: HttpRequest) -> User:
    return cast("User", request.user)  # login_required stands before every view here


@require_GET
@login_required
def request_list(request: HttpRequest) -> HttpResponse:
    """Show the requests that the user may see, filtered and in pages."""
    filters = FilterForm(request.GET)
    wanted = filters.cleaned_data if filters.is_valid() else {"status": "", "search": ""}
    visible = PaymentRequest.objects.visible_to(_user(request))
    searched = visible.matching(search=wanted["search"])
    counts = dict(searched.order_by().values_list("status").annotate(Count("pk")))
    tabs = [("", "All", sum(counts.values()))]
    tabs += [(status.value, str(status.label), counts.get(status, 0)) for status in Status]
    found = searched.matching(status=wanted["status"]).select_related("requested_by")
    page = Paginator(found, PER_PAGE).get_page(request.GET.get("page"))
    context = {"page": page, "tabs": tabs, "wanted": wanted}
    return render(request, "payments/list.html", context)


@login_required
@permission_required("payments.add_paymentrequest", raise_exception=True)
def request_create(request: HttpRequest) -> HttpResponse:
    """Make a new request."""
    form = CreateForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        made = services.create(_user(request), **form.cleaned_data)
        messages.success(request, f"{made.number} is waiting for approval.")
        return redirect(made)
    return render(request, "payments/create.html", {"form": form})


@require_GET
@login_required
def request_detail(request: HttpRequest, pk: int) -> HttpResponse:
    """Show one request with its history, and the steps that the user can take."""
    user = _user(request)
    visible = PaymentRequest.objects.visible_to(user)
    found = get_object_or_404(
        visible.select_related("requested_by", "decided_by", "paid_by"), pk=pk
    )
    context = {
        "found": found,
        "history": found.audit_entries.select_related("actor"),
        "may_decide": services.may_decide(user, found),
        "may_pay": services.may_pay(user, found),
    }
    return render(request, "payments/detail.html", context)


@require_GET
@login_required
def invoice(request: HttpRequest, pk: int) -> FileResponse:
    """Send a request's invoice to those who may see the request."""
    visible = PaymentRequest.objects.visible_to(_user(request))
    found = get_object_or_404(visible.exclude(invoice=""), pk=pk)
    try:
        content = found.invoice.open("rb")
    except FileNotFoundError:
        raise Http404("The invoice's file is missing.") from None
    return FileResponse(
        content, as_attachment=True, filename=f"{found.number}.pdf", content_type="application/pdf"
    )


@require_POST
@login_required
def approve(request: HttpRequest, pk: int) -> HttpResponse:
    """Approve a request."""
    form = NoteForm(request.POST)
    note = form.cleaned_data["note"] if form.is_valid() else ""
    return _step(request, pk, lambda: services.approve(_user(request), pk, note=note))


@require_POST
@login_required
def reject(request: HttpRequest, pk: int) -> HttpResponse:
    """Reject a request; the reason is required."""
    form = ReasonForm(request.POST)
    reason = form.cleaned_data["reason"] if form.is_valid() else ""
    return _step(request, pk, lambda: services.reject(_user(request), pk, reason=reason))


@require_POST
@login_required
def mark_paid(request: HttpRequest, pk: int) -> HttpResponse:
    """Mark a request as paid."""
    form = NoteForm(request.POST)
    reference = form.cleaned_data["note"] if form.is_valid() else ""
    return _step(request, pk, lambda: services.mark_paid(_user(request), pk, reference=reference))


def _step(request: HttpRequest, pk: int, step: Callable[[], PaymentRequest]) -> HttpResponse:
    """Take a step and go back to the request, with what happened as a message."""
    try:
        done = step()
    except PaymentRequest.DoesNotExist:
        raise Http404("There is no such request.") from None
    except (services.WrongStateError, services.ReasonMissingError) as problem:
        messages.error(request, str(problem))
    else:
        messages.success(request, f"{done.number} is {done.status}.")
    return redirect("request-detail", pk=pk)
