"""The paths."""

from django.urls import path
from payments import views

urlpatterns = [
    path("health", views.health),
    path("orders/", views.orders),
    path("tls/", views.tls),
]
