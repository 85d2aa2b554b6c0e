"""The coffee payments as their document has them, next to another team's app on the same server."""

from __future__ import annotations

import json
import secrets
from typing import Any

import pytest

from testbed.shell import run
from tests.seeds.conftest import System

pytestmark = pytest.mark.parametrize("system", ["piggy-bank-and-coffee"], indirect=True)

APP = "coffee-payments"
ROLE = "coffee_payments_app"
TLS = "/etc/bedstone/tls"
LOG = "cat /var/log/postgresql/*.log"
SESSION = "python manage.py session 2>&1"


def in_image(system: System, script: str) -> str:
    """Run a shell script in the app's image, with its environment."""
    return system.on_server(f"bedstone run {APP} -- sh -c {quoted(script)}")


def quoted(text: str) -> str:
    """Return a text that the server's shell takes as one word."""
    return "'" + text.replace("'", "'\\''") + "'"


def sessions(system: System) -> dict[str, Any]:
    """Return how the web server and a worker are logged in."""
    return system.ask("/tls/", tenant=system.tenant("coffee-payments"))


def superuser(system: System, sql: str) -> str:
    """Let the superuser run SQL, and return what it prints."""
    command = f"runuser -u postgres -- psql -XAtqc {quoted(sql)} coffee_payments"
    return system.on_server(command)


def test_order_is_paid_by_a_worker(system: System) -> None:
    tenant = system.tenant("coffee-payments")
    assert system.ask("/orders/", "device=M-1", "cents=220", tenant=tenant)["paid"] is True


def test_health_asks_no_query(system: System) -> None:
    tenant = system.tenant("coffee-payments")
    marker = f"seen-{secrets.token_hex(4)}"
    superuser(system, f"ALTER ROLE {ROLE} SET log_statement = 'all'")
    try:
        # Sessions that begin now log their statements; Django makes one for each request.
        before = system.on_server(LOG).count(f"{ROLE}@")
        for _ in range(20):
            assert system.ask("/health", tenant=tenant)["status"] == "healthy"
        assert system.on_server(LOG).count(f"{ROLE}@") == before
        system.ask("/orders/", f"device={marker}", "cents=1", tenant=tenant)
        assert marker in system.on_server(LOG)
    finally:
        superuser(system, f"ALTER ROLE {ROLE} RESET log_statement")


def test_web_and_worker_log_in_with_the_certificate_of_the_role(system: System) -> None:
    found = sessions(system)
    for each in (found["web"], found["worker"]):
        assert each["role"] == ROLE
        assert (each["encrypted"], each["version"]) == (True, "TLSv1.3")
        assert each["client"] == f"/CN={ROLE}"


def test_every_mode_but_disable_connects_and_encrypts(system: System) -> None:
    modes = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
    each = f"for mode in {' '.join(modes)}; do POSTGRES_SSL_MODE=$mode {SESSION} | tail -1; done"
    refused, *found = in_image(system, each).splitlines()
    assert "pg_hba.conf" in refused
    assert [json.loads(line)["client"] for line in found] == [f"/CN={ROLE}"] * 5
    assert all(json.loads(line)["encrypted"] for line in found)


def test_without_its_certificate_the_password_is_not_enough(system: System) -> None:
    without = "unset POSTGRES_SSL_CERT POSTGRES_SSL_KEY PGSSLCERT PGSSLKEY"
    said = in_image(system, f"{without}; {SESSION} || true")
    assert "connection requires a valid client certificate" in said


def test_wrong_mode_and_missing_file_stop_the_start(system: System) -> None:
    said = in_image(system, f"POSTGRES_SSL_MODE=full {SESSION} || echo ended: $?")
    assert "POSTGRES_SSL_MODE is 'full'; it is one of disable, allow" in said
    assert "ended: 1" in said
    said = in_image(system, f"POSTGRES_SSL_KEY=/run/absent.key {SESSION} || echo ended: $?")
    assert "POSTGRES_SSL_KEY is /run/absent.key, and there is no such file." in said
    assert "ended: 1" in said


def test_key_is_for_the_apps_containers_alone(system: System) -> None:
    listed = in_image(system, "stat -c '%n %U %a' /run/bedstone/postgresql/*")
    assert listed.splitlines() == [
        "/run/bedstone/postgresql/postgresql.crt root 644",
        "/run/bedstone/postgresql/postgresql.key root 640",
    ]
    own = in_image(
        system, "openssl x509 -noout -subject -in /run/bedstone/postgresql/*.crt || true"
    )
    assert "migrate" not in own
    other = system.on_server("bedstone run octoco -- ls /run/bedstone")
    assert other.split() == ["ca.crt"]
    key = f"{TLS}/{ROLE}/postgresql.key"
    read = run(system.server.ssh(f"runuser -u nobody -- cat {key}"), check=False)
    assert read.returncode != 0
    assert "Permission denied" in read.stderr


def test_renewed_certificate_is_used_without_a_release(system: System) -> None:
    before, ids = sessions(system), containers(system)
    system.on_server(f"rm {TLS}/{ROLE}/postgresql.crt")
    said = system.play("site", "--tags", "ca")
    assert "postgresql.crt" in said or "changed=" in said
    after = sessions(system)
    for name in ("web", "worker"):
        assert after[name]["client"] == f"/CN={ROLE}"
        assert after[name]["serial"] != before[name]["serial"]
    assert containers(system) == ids


def containers(system: System) -> list[str]:
    """Return the ids of the containers of the app."""
    return sorted(system.on_server(f"docker ps --quiet --filter label=bedstone.app={APP}").split())


def test_end_of_the_certificate_is_watched(system: System) -> None:
    told = json.loads(system.on_server("bedstone alarms --json || true"))
    places = {each["place"] for each in told["certificates"]}
    assert f"{TLS}/{ROLE}/postgresql.crt" in places


@pytest.mark.parametrize("service", ["web", "worker"])
def test_tls_settings_are_logged_at_the_start(system: System, service: str) -> None:
    lines = system.on_server(f"journalctl --no-pager -o cat -u 'bedstone-{APP}-{service}@*'")
    files = "/run/bedstone/postgresql/postgresql"
    assert (
        f"database over TLS: sslcert={files}.crt sslkey={files}.key sslmode=verify-full "
        "sslrootcert=/run/bedstone/ca.crt"
    ) in lines


def test_squashed_migration_is_what_was_applied(system: System) -> None:
    applied = "SELECT name FROM django_migrations WHERE app = 'payments' ORDER BY name"
    assert superuser(system, applied).split() == [
        "0001_initial",
        "0001_squashed_0003_paid",
        "0002_serial",
        "0003_paid",
    ]


def test_ten_releases_are_kept(system: System) -> None:
    environment = f"/etc/bedstone/apps/{APP}/app.env"
    without = f"sed -i '/^RELEASE_NUMBER=/d' {environment}"
    try:
        # With the first one and the last one eleven.
        for number in range(9):
            other = f"{without} && echo RELEASE_NUMBER={number} >> {environment}"
            system.on_server(f"{other} && bedstone release {APP}")
    finally:
        system.on_server(f"{without} && bedstone release {APP}")
    told = json.loads(system.on_server(f"bedstone releases {APP} --json"))
    assert len([each for each in told if each["serves"] or each["can_serve_again"]]) == 10
