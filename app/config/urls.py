"""URLs: the pages, the API, and Django's admin. Health checks are config.health's."""

from django.contrib import admin
from django.contrib.auth import views as auth_views
from django.urls import include, path

from payments.api import api

urlpatterns = [
    path("", include("payments.urls")),
    path("api/", api.urls),
    path("login/", auth_views.LoginView.as_view(), name="login"),
    path("logout/", auth_views.LogoutView.as_view(), name="logout"),
    path("admin/", admin.site.urls),
]
