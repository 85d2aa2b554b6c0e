"""Production's settings with the tests' variables: only the cache and the broker are in memory."""

import os

os.environ.setdefault("SECRET_KEY", "for-tests")
os.environ.setdefault("ALLOWED_HOSTS", "testserver")
os.environ.setdefault("DATABASE_URL", "postgresql://postgres:postgres@localhost:5432/postgres")
os.environ.setdefault("REDIS_URL", "redis://127.0.0.1:1/0")
os.environ.setdefault("CELERY_BROKER_URL", "memory://")

from octoco.settings.production import *

CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
# A task runs where it is queued.
CELERY_TASK_ALWAYS_EAGER = True
