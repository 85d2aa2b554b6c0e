"""What PostgreSQL says of a session of ours."""

from typing import Any

from django.db import connection


def facts() -> dict[str, Any]:
    """Return role and TLS of this process's session."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT session_user, ssl, version, client_dn, client_serial::text FROM pg_stat_ssl"
            " WHERE pid = pg_backend_pid()"
        )
        role, is_encrypted, version, name, serial = cursor.fetchone()
    return {
        "role": role,
        "encrypted": is_encrypted,
        "version": version,
        "client": name,
        "serial": serial,
    }
