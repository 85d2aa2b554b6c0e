"""Two pages: the list, and the health check."""

from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from books.models import Book


def book_list(request: HttpRequest) -> HttpResponse:
    """List the books."""
    return render(request, "books/list.html", {"books": Book.objects.all()})


def healthz(_request: HttpRequest) -> HttpResponse:
    """Say ok if the database answers."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return HttpResponse("ok\n", content_type="text/plain")
