"""The paths of the API."""

from django.urls import path

from core import health, views

urlpatterns = [
    path("health", health.health),
    path("api/v1/deposits/", views.deposits),
    path("api/v1/schedules/", views.schedules),
    path("api/v1/session/", views.session),
    path("api/v1/failures/", views.failures),
]
