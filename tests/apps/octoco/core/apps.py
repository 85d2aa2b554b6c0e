"""The app's configuration."""

from django.apps import AppConfig


class CoreConfig(AppConfig):
    """What there is of the piggy bank here."""

    name = "core"

    def ready(self) -> None:
        """Let workers say that they live."""
        from core import alive  # noqa: F401, PLC0415 - the cache needs the settings
