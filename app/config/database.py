"""Django's DATABASES from the environment's PostgreSQL variables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from config.environment import Environment


def databases(env: Environment) -> dict[str, dict[str, Any]]:
    """Return Django's DATABASES; the TLS options go to libpq as they are."""
    libpq: dict[str, Any] = {
        "sslmode": env.postgres_ssl_mode.value,
        "sslrootcert": env.postgres_ssl_root_cert,
        "sslcert": env.postgres_ssl_cert,
        "sslkey": env.postgres_ssl_key,
        "connect_timeout": env.postgres_connect_timeout,
        "application_name": "payments",
    }
    return {
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": env.postgres_db,
            "USER": env.postgres_user,
            "PASSWORD": env.postgres_password.get_secret_value(),
            "HOST": env.postgres_host,
            "PORT": env.postgres_port,
            "CONN_MAX_AGE": env.postgres_conn_max_age,
            "CONN_HEALTH_CHECKS": True,  # a restarted server costs nobody a failed request
            # A named cursor is its connection's own.
            "DISABLE_SERVER_SIDE_CURSORS": env.postgres_pool_mode == "transaction",
            "OPTIONS": {name: value for name, value in libpq.items() if value is not None},
        },
    }
