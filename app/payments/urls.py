"""The pages' addresses."""

from django.urls import path

from payments import views

urlpatterns = [
    path("", views.request_list, name="request-list"),
    path("requests/new/", views.request_create, name="request-create"),
    path("requests/<int:pk>/", views.request_detail, name="request-detail"),
    path("requests/<int:pk>/invoice/", views.invoice, name="request-invoice"),
    path("requests/<int:pk>/approve/", views.approve, name="request-approve"),
    path("requests/<int:pk>/reject/", views.reject, name="request-reject"),
    path("requests/<int:pk>/paid/", views.mark_paid, name="request-paid"),
]
