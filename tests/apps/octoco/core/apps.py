"""The app's configuration."""

from django.apps import AppConfig


class CoreConfig(AppConfig):
    """What there is of the piggy bank here."""

    name = "core"
