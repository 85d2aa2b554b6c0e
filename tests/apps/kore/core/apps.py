"""The app's configuration."""

from django.apps import AppConfig


class CoreConfig(AppConfig):
    """What there is of Kore here."""

    name = "core"
