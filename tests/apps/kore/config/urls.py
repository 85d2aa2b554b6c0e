"""The paths of the API."""

from core import views
from django.urls import path

urlpatterns = [
    path("api/v1/health/", views.health),
    path("api/v1/sums/", views.sums),
    path("api/v1/visits/", views.visits),
    path("api/v1/notes/", views.notes),
    path("api/v1/tasks/", views.tasks),
]
