"""Derive all names from an app's name in one place, so that every role agrees."""

from __future__ import annotations

import hashlib
import re
import zlib
from functools import lru_cache

from bedstone.core.fields import NAME

# As the program on the server has it.
APP_NAME = NAME.pattern
# Path of a URL as nginx's configuration takes it: neither patterns nor escapes.
URL_PATH = r"/[A-Za-z0-9._~/-]*"
ENVIRONMENT_NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"

CONFIG_DIRECTORY = "/etc/bedstone/apps"
STATE_DIRECTORY = "/var/lib/bedstone/apps"
CONTENT_DIRECTORY = "/srv/bedstone"
TLS_DIRECTORY = "/etc/bedstone/tls"
OWN_TLS_DIRECTORY = "/etc/nginx/bedstone/tls"
CA_ON_HOST = f"{TLS_DIRECTORY}/ca.crt"
CA_IN_CONTAINER = "/run/bedstone/ca.crt"
# A directory, since a renewal replaces the file and a mounted file would stay the previous one.
CLIENT_IN_CONTAINER = "/run/bedstone/postgresql"
CLIENT_CERTIFICATE = "postgresql"

DATABASE_HOST = "postgres"
DATABASE_REPLICA_HOST = "postgres-replica"
REDIS_HOST = "redis"
RABBITMQ_HOST = "rabbitmq"
POOL_HOST = "pgbouncer"
# PgBouncer's system user, and its role in PostgreSQL (plugins/module_utils names that, too).
POOL_USER = "bedstone-pool"
POOL_ROLE = "bedstone_pool"
# The metrics' role in PostgreSQL and the system user that may be it, their user in Redis, and the
# common name of the certificate with which Prometheus asks for them.
METRICS_ROLE = "bedstone_metrics"
METRICS_SYSTEM_USER = "prometheus"
METRICS_REDIS_USER = "metrics"
METRICS_CLIENT = "bedstone-monitoring"

# "bedstone_", and eight digits of a hash after another underscore, make 63.
_LONGEST_PLAIN = 45


def replication_slot(host: str) -> str:
    """Return the replication slot of a standby: at most 63 small letters, digits, underscores."""
    plain = re.sub("[^a-z0-9_]", "_", host.lower())
    tag = (
        "" if plain == host and len(host) <= _LONGEST_PLAIN else f"_{zlib.crc32(host.encode()):08x}"
    )
    return f"bedstone_{plain[:_LONGEST_PLAIN]}{tag}"


def database_name(app: str) -> str:
    """Return the database of an app: PostgreSQL names take no dash without quoting."""
    return app.replace("-", "_")


def owner_role(database: str) -> str:
    """Return the role that owns the database and can't log in."""
    return f"{database}_owner"


def migrate_role(database: str) -> str:
    """Return the role that changes the schema."""
    return f"{database}_migrate"


def app_role(database: str) -> str:
    """Return the role that the running app uses: data only."""
    return f"{database}_app"


def app_login(database: str, password: str) -> str:
    """Return the role that the running app logs in as: one for each password.

    With another password comes another login, so that the containers that hold the earlier one go
    on.
    """
    role = app_role(database)
    return f"{role}_{password_tag(role, password)}"


def broker_login(app: str, password: str) -> str:
    """Return the user of RabbitMQ that an app logs in as: one for each password, too."""
    return f"{app}-{password_tag(app, password)}"


@lru_cache
def password_tag(role: str, password: str) -> str:
    """Return eight digits that change with the password.

    Other users of a server read the names of its logins: eight digits of a hash that is slow to
    compute (scrypt, RFC 7914) and salted with the role say too little about a password.
    """
    salt = f"bedstone {role}".encode()
    return hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1, dklen=4).hex()


def upstream(app: str, service: str) -> str:
    """Return the name of nginx's upstream for one HTTP service."""
    return f"{app}-{service}"
