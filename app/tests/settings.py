"""The app's own settings, with an environment for a PostgreSQL that the tests start.

Port and passwords are chosen here, because Django reads its settings before the first
fixture runs; `tests.cluster` starts the server with them, when a test first needs it.
"""

from __future__ import annotations

import os
import secrets
import socket


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


PASSWORD = secrets.token_urlsafe(24)
ENVIRONMENT = {
    "SECRET_KEY": secrets.token_urlsafe(50),
    "ALLOWED_HOSTS": "testserver,localhost",
    "POSTGRES_DB": "payments",
    "POSTGRES_USER": "payments_app",
    "POSTGRES_PASSWORD": PASSWORD,
    "POSTGRES_HOST": "localhost",
    "POSTGRES_PORT": str(_free_port()),
    "POSTGRES_SSL_MODE": "require",
    "HTTPS_ENFORCED": "false",
}
# Only what the tests say: nothing that happens to be set on this machine.
SYSTEM = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}

os.environ.update(ENVIRONMENT)

from config.settings import *  # noqa: E402, F403

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # tests make many users
