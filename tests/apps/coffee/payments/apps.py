"""The app's configuration."""

import logging

from coffee_payment import tls
from django.apps import AppConfig
from django.conf import settings


class PaymentsConfig(AppConfig):
    """What there is of the coffee payments here."""

    name = "payments"

    def ready(self) -> None:
        """Log how the database is reached, in web servers, workers and commands."""
        line = tls.told(settings.DATABASES["default"]["OPTIONS"])
        logging.getLogger("coffee_payment").warning(line)
