"""The WSGI application."""

import os

from django.core.wsgi import get_wsgi_application
from django.urls import resolve

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "octoco.settings.production")

application = get_wsgi_application()
# Load the views as well, once for all processes that are forked.
resolve("/health")
