"""The addresses."""

from books.views import book_list, healthz
from django.contrib import admin
from django.urls import path

urlpatterns = [
    path("", book_list),
    path("healthz", healthz),
    path("admin/", admin.site.urls),
]
