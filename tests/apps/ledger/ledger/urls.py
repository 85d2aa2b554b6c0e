"""The addresses."""

from django.urls import path
from entries import views

urlpatterns = [
    path("", views.version),
    path("health/", views.health),
    path("session/", views.session),
    path("entries/", views.create),
    path("slow/<int:seconds>", views.slow),
    path("stream/<int:seconds>", views.stream),
]
