"""Forms of the pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django import forms
from django.core.exceptions import ValidationError

from payments.models import PaymentRequest, Status

if TYPE_CHECKING:
    from django.core.files.uploadedfile import UploadedFile

MAX_INVOICE_BYTES = 5 * 1024 * 1024
PDF_SIGNATURE = b"%PDF-"


def validate_invoice(upload: UploadedFile[bytes]) -> None:
    """Refuse what is too large or no PDF by its content; a name proves nothing.

    Raises:
        ValidationError: if it is refused, with the reason.

    """
    if (upload.size or 0) > MAX_INVOICE_BYTES:
        raise ValidationError(
            f"The invoice is too large: at most {MAX_INVOICE_BYTES // 1024 // 1024} MB."
        )
    start = upload.read(len(PDF_SIGNATURE))
    upload.seek(0)
    if start != PDF_SIGNATURE:
        raise ValidationError("The invoice must be a PDF file.")


class CreateForm(forms.ModelForm[PaymentRequest]):
    """A new request."""

    invoice = forms.FileField(
        required=False,
        validators=[validate_invoice],
        widget=forms.FileInput(attrs={"accept": "application/pdf"}),
        help_text="The invoice as a PDF of at most 5 MB, if there is one.",
    )

    class Meta:
        model = PaymentRequest
        fields = ("payee", "amount", "currency", "purpose", "invoice")
        widgets = {  # noqa: RUF012 - Django's own way
            "purpose": forms.Textarea(attrs={"rows": 3}),
            "amount": forms.NumberInput(attrs={"min": "0.01", "step": "0.01"}),
        }


class FilterForm(forms.Form):
    """The list's filters; also checks what comes in the address."""

    status = forms.ChoiceField(choices=[("", "All"), *Status.choices], required=False)
    search = forms.CharField(max_length=100, required=False)


class NoteForm(forms.Form):
    """The one text that goes with a step: an approval's note, a payment's reference."""

    note = forms.CharField(max_length=100, required=False)


class ReasonForm(forms.Form):
    """Why a request is rejected."""

    reason = forms.CharField(max_length=500)
