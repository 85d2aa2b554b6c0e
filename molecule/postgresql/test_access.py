"""Who gets in, tried from another host."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from again import applied, apply, refused
from testinfra.host import Host

UNITS = ["postgresql@*"]
Query = Callable[..., Any]


def test_app_role_gets_in_over_verified_tls_1_3(query: Query) -> None:
    asked = "SELECT current_user, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    assert query(asked).stdout == "payments_app|TLSv1.3\n"


def test_plaintext_is_refused(query: Query) -> None:
    ended = query("SELECT 1", sslmode="disable")
    assert ended.rc != 0
    assert "pg_hba.conf rejects connection" in ended.stderr
    assert "no encryption" in ended.stderr


def test_server_of_another_authority_is_refused(query: Query) -> None:
    ended = query("SELECT 1", sslrootcert="/root/stranger.crt")
    assert "certificate verify failed" in ended.stderr


def test_server_under_another_name_is_refused(query: Query, address: str) -> None:
    ended = query("SELECT 1", host="other.example.com", hostaddr=address)
    assert 'does not match host name "other.example.com"' in ended.stderr


def test_tls_1_2_is_refused(peer: Host, server_name: str) -> None:
    command = "openssl s_client -starttls postgres -connect %s:5432 -brief %s </dev/null"
    assert peer.run(command, server_name, "-tls1_3").rc == 0
    ended = peer.run(command, server_name, "-tls1_2")
    assert ended.rc != 0
    assert "alert protocol version" in ended.stderr


def test_testssl_finds_nothing(peer: Host, server_name: str) -> None:
    report = "/root/testssl.json"
    peer.run(
        "rm -f %s; testssl --quiet --color 0 --warnings off --starttls postgres"
        " -p -s -f -U --jsonfile %s %s:5432",
        report,
        report,
        server_name,
    )
    findings = json.loads(peer.file(report).content_string)
    severities = {each["id"]: each["severity"] for each in findings}
    assert severities["TLS1_3"] == "OK"
    assert severities["FS"] == "OK"
    # It needs an old OpenSSL for some tests and says so.
    severities.pop("engine_problem", None)
    assert {name for name, level in severities.items() if level not in {"OK", "INFO"}} == set()


def test_superuser_is_refused_over_the_network_even_with_a_password(
    query: Query, superuser: Callable[..., str]
) -> None:
    superuser(
        "ALTER ROLE postgres PASSWORD 'known'; CREATE ROLE root2 SUPERUSER LOGIN PASSWORD 'x'"
    )
    try:
        for database in ("postgres", "payments"):
            for user, password in (("postgres", "known"), ("root2", "x")):
                ended = query("SELECT 1", user=user, password=password, dbname=database)
                assert "pg_hba.conf rejects connection" in ended.stderr, (user, database)
    finally:
        superuser("ALTER ROLE postgres PASSWORD NULL; DROP ROLE root2")


def test_wrong_password_is_refused(query: Query) -> None:
    assert "password authentication failed" in query("SELECT 1", password="wrong").stderr


@pytest.mark.parametrize("database", ["shop", "postgres", "template1"])
@pytest.mark.parametrize("role", ["payments_app", "payments_migrate"])
def test_role_of_an_app_reaches_no_other_database(query: Query, role: str, database: str) -> None:
    ended = query("SELECT 1", user=role, dbname=database)
    assert "pg_hba.conf rejects connection" in ended.stderr


def test_privileges_keep_apps_apart_as_well(superuser: Callable[..., str]) -> None:
    asked = "SELECT has_database_privilege('payments_app', 'shop', 'CONNECT'),"
    asked += " has_database_privilege('payments_migrate', 'shop', 'CONNECT')"
    assert superuser(asked) == "f|f"


def test_owner_can_not_log_in(query: Query, superuser: Callable[..., str]) -> None:
    assert query("SELECT 1", user="payments_owner").rc != 0
    assert superuser("SELECT rolcanlogin FROM pg_roles WHERE rolname = 'payments_owner'") == "f"


def test_passwords_are_stored_as_scram_and_never_logged(
    host: Host, superuser: Callable[..., str], passwords: dict[str, str]
) -> None:
    stored = superuser(
        "SELECT rolname FROM pg_authid WHERE rolpassword LIKE 'SCRAM-SHA-256$4096:%'"
    )
    assert set(stored.split()) == set(passwords)
    log = host.check_output("cat /var/log/postgresql/*.log; journalctl --no-pager")
    for role, password in passwords.items():
        assert password not in log, role


def test_local_role_is_its_system_user_and_nobody_else(host: Host) -> None:
    command = "runuser -u %s -- psql -XAtq -U bedstone_monitor -d payments -c %s"
    asked = "SELECT pg_has_role('pg_monitor', 'member')"
    assert host.check_output(command, "daemon", asked) == "t"
    assert host.run(command, "nobody", asked).rc != 0
    assert "rejects connection" in host.run("psql -U payments_app -d payments -c ''").stderr


@pytest.mark.usefixtures("restored")
def test_host_outside_the_allowed_networks_is_refused(query: Query, server_name: str) -> None:
    assert query("SELECT 1").rc == 0
    applied(server_name, postgresql_allowed_networks=["192.0.2.0/24"])
    assert "pg_hba.conf rejects connection" in query("SELECT 1").stderr


@pytest.mark.usefixtures("restored")
def test_client_certificate_is_asked_for_when_declared(
    query: Query,
    peer: Host,
    server_name: str,
    issue: Callable[..., tuple[str, str]],
    variables: dict[str, list[dict[str, str]]],
) -> None:
    payments, shop = variables["postgresql_databases"]
    for name in ("payments_app", "shop_app"):
        certificate, key = issue(name, name)
        peer.check_output("printf %%s %s > /root/%s.crt", certificate, name)
        peer.check_output("umask 077; printf %%s %s > /root/%s.key", key, name)
    asked = [{**each, "client_certificate": True} for each in (payments, shop)]
    said = refused(server_name, postgresql_databases=asked)
    assert "so the database shop can't have an app_login" in said
    applied(server_name, postgresql_databases=[asked[0], shop])
    assert "requires a valid client certificate" in query("SELECT 1").stderr
    own = {"sslcert": "/root/payments_app.crt", "sslkey": "/root/payments_app.key"}
    assert query("SELECT 1", **own).stdout == "1\n"
    assert query("SELECT 1", password="wrong", **own).rc != 0
    other = {"sslcert": "/root/shop_app.crt", "sslkey": "/root/shop_app.key"}
    assert query("SELECT 1", **other).rc != 0


@pytest.mark.usefixtures("restored")
def test_changed_password_counts_for_new_sessions(
    query: Query, server_name: str, variables: dict[str, list[dict[str, str]]]
) -> None:
    payments, shop = variables["postgresql_databases"]
    rotated = {**payments, "app_password": "rotated-app-password"}
    said = applied(server_name, "--diff", postgresql_databases=[rotated, shop])
    assert query("SELECT 1").rc != 0
    assert query("SELECT 1", password="rotated-app-password").rc == 0
    assert "role payments_app: the declared password" in said
    assert "rotated-app-password" not in said
    assert "SCRAM-SHA-256" not in said


@pytest.mark.usefixtures("restored")
def test_another_login_for_another_password_leaves_the_earlier_one_in(
    query: Query,
    server_name: str,
    variables: dict[str, list[dict[str, str]]],
    passwords: dict[str, str],
) -> None:
    payments, shop = variables["postgresql_databases"]
    rotated = {**shop, "app_password": "rotated-shop", "app_login": "shop_app_00000002"}
    said = applied(server_name, "--diff", postgresql_databases=[payments, rotated])
    assert "rotated-shop" not in said
    assert "SCRAM-SHA-256" not in said
    for user, password in (
        ("shop_app_00000001", passwords["shop_app_00000001"]),
        ("shop_app_00000002", "rotated-shop"),
    ):
        ended = query("SELECT current_user", dbname="shop", user=user, password=password)
        assert ended.stdout == "shop_app\n", ended.stderr
        elsewhere = query("SELECT 1", dbname="payments", user=user, password=password)
        assert "pg_hba.conf rejects connection" in elsewhere.stderr
    assert query("SELECT 1", dbname="shop", user="shop_app", password="rotated-shop").rc != 0
    again = apply(server_name, "--diff", postgresql_databases=[payments, rotated])
    assert "changed=0" in again.stdout
    warned = " ".join(f"{again.stdout} {again.stderr}".split())
    assert "Role shop_app_00000001 can still log in to shop" in warned
