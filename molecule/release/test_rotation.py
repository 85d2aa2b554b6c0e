"""Other secrets and another authority, with requests on their way from the vault to the release."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from again import played
from ledger_app import CURL, ENVIRONMENT, SITE, Ledger, Load, said_at
from testinfra.host import Host

from bedstone_control.vault import content as vault

UNITS = ["bedstone-ledger-*", "bedstone-operation@ledger", "postgresql@*"]
COOKIES = "/run/rotation-cookies"
LOGINS = "SELECT rolname FROM pg_roles WHERE rolcanlogin AND rolname ~ '^ledger_app' ORDER BY 1"


@dataclass(frozen=True)
class Story:
    """What was seen, in the order of the fields."""

    password: str
    before: list[str]
    provisioned: str
    between: list[str]
    restarted: dict[str, Any]
    after_restart: list[str]
    again: str
    deployed: str
    after: list[str]
    rolled_back: dict[str, Any]
    visits: list[int]
    load: Load


@pytest.fixture(scope="module")
def story(host: Host, wait_until: Any) -> Story:
    """Replace password and key, provision, restart, release, roll back, forget, under load."""
    ledger = Ledger(host, wait_until)
    ledger.plain()
    ledger.fresh()
    server = str(host.backend.get_hostname())
    names = [f"apps.ledger.{name}" for name in ("database_password", "secret_key")]
    rotate(names[1], "--forget")  # what an earlier run has left
    # As on a server of an earlier version: the app role logs in itself.
    ledger.sql("ALTER ROLE ledger_app LOGIN PASSWORD 'of-an-earlier-version'")
    with ledger.load(seconds=10, kept=40) as load:
        before = ledger.sql(LOGINS).split()
        host.check_output("rm -f %s", COOKIES)
        visits = [visit(host)]
        rotate(*names)
        password = in_vault()["apps"]["ledger"]["database_password"]
        provisioned = played("provision", server, "--tags", "postgresql", "--diff")
        between = ledger.sql(LOGINS).split()
        # New containers, and so new connections, with the earlier password.
        restarted = ledger.bedstone("restart ledger")
        after_restart = ledger.sql(LOGINS).split()
        again = played("provision", server, "--tags", "postgresql", "--diff")
        deployed = played("deploy", server, "--diff")
        after = ledger.sql(LOGINS).split()
        visits.append(visit(host))
        rolled_back = ledger.bedstone("rollback ledger")
        visits.append(visit(host))
        rotate(names[1], "--forget")
        played("deploy", server)
        visits.append(visit(host))
    return Story(
        password, before, provisioned, between, restarted, after_restart, again, deployed, after,
        rolled_back, visits, load,
    )  # fmt: skip


def inventory() -> Path:
    return Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "production"


def in_vault() -> dict[str, Any]:
    """Return the inventory's secrets."""
    path, key = inventory() / "group_vars/all/vault.yml", inventory() / ".vault-password"
    found: dict[str, Any] = vault.read_vault(path, key)["bedstone_secrets"]
    return found


def rotate(*arguments: str) -> None:
    """Rotate, as the operator does."""
    command = [sys.executable, "-m", "bedstone_control", "rotate", str(inventory()), *arguments]
    subprocess.run(command, check=True, capture_output=True)


def visit(host: Host) -> int:
    """Return which visit this is of the session that began before the rotation.

    Its cookie is kept as it was signed first: the app signs a changed session with the new key.
    """
    kept = f"-b {COOKIES}" if host.file(COOKIES).exists else f"-c {COOKIES}"
    said = host.check_output(f"{CURL} -f {kept} {SITE}/session/")
    return int(json.loads(said)["visits"])


def test_no_request_fails_from_the_new_password_to_the_rollback(
    host: Host, wait_until: Any, story: Story
) -> None:
    ledger = Ledger(host, wait_until)
    ledger.check_nothing_lost(story.load)
    assert len(story.load.versions) == 2


def test_session_outlives_the_key_that_signed_it_until_that_is_forgotten(story: Story) -> None:
    made, released, rolled_back, forgotten = story.visits
    assert (made, released, rolled_back) == (1, 2, 2)
    assert forgotten == 1


def test_both_logins_are_there_until_the_release(story: Story) -> None:
    role, old = story.before
    assert role == "ledger_app"
    assert set(story.before) < set(story.between)
    assert len(story.between) == 3
    # What nothing uses went with the restart; the serving release's login did not.
    assert "ledger_app can't log in any more" in said_at(story.restarted, "logins")
    assert set(story.after_restart) == set(story.between) - {role}
    assert old in story.after_restart


def test_earlier_login_is_gone_after_the_release(story: Story) -> None:
    assert len(story.after) == 1
    assert story.after[0] not in story.before
    assert f"Role {story.before[1]} can still log in" in " ".join(story.again.split())


def test_rollback_to_a_release_with_the_earlier_login_takes_today_s(
    host: Host, wait_until: Any, story: Story
) -> None:
    ledger = Ledger(host, wait_until)
    assert ledger.status()["ok"]
    kept = f"/var/lib/bedstone/apps/ledger/releases/{story.rolled_back['release']}/app.env"
    for path in (kept, ENVIRONMENT):
        said = host.check_output("grep ^POSTGRES_USER= %s", path)
        assert said == f"POSTGRES_USER={story.after[0]}"


def test_session_acts_as_the_app_s_role_with_its_limits(
    host: Host, wait_until: Any, story: Story
) -> None:
    ledger = Ledger(host, wait_until)
    asked = (
        "from django.db import connection as c; k = c.cursor(); k.execute("
        "\"SELECT session_user, current_user, current_setting('statement_timeout')\");"
        " print(*k.fetchone())"
    )
    said = ledger.run(
        f"bedstone run ledger -- python manage.py shell -c '{asked}'".replace(
            "'statement_timeout'", "$$statement_timeout$$"
        )
    )
    assert said.stdout.split()[-3:] == [story.after[0], "ledger_app", "5min"], said.stderr


def test_second_run_changes_nothing_and_no_secret_is_shown(story: Story) -> None:
    assert "changed=0" in story.again
    for said in (story.provisioned, story.again, story.deployed):
        assert story.password not in said
        assert "SCRAM-SHA-256" not in said


# Another authority

TLS = "/etc/bedstone/tls"
SERVED = {
    "nginx": "openssl s_client -connect 127.0.0.1:443 -servername ledger.localhost",
    "postgresql": "openssl s_client -connect 127.0.0.1:5432 -starttls postgres",
}
CONNECT = (
    "import os, psycopg; e = os.environ; print(psycopg.connect(host=e['POSTGRES_HOST'],"
    " port=e['POSTGRES_PORT'], dbname=e['POSTGRES_DB'], user=e['POSTGRES_USER'],"
    " password=e['POSTGRES_PASSWORD'], sslmode=e['POSTGRES_SSL_MODE'],"
    " sslrootcert=e['POSTGRES_SSL_ROOT_CERT']).execute('SELECT 1').fetchone()[0])"
)


@dataclass(frozen=True)
class Exchange:
    """What was seen after each step: certificates, keys, connections of serving containers."""

    refused: str
    untouched: bool
    served: list[dict[str, str]]
    keys: list[str]
    connected: list[str]
    loads: list[Load]


@pytest.fixture(scope="module")
def exchange(host: Host, wait_until: Any) -> Exchange:
    """Exchange the authority in its three steps, and let it issue all certificates again."""
    ledger = Ledger(host, wait_until)
    ledger.plain()
    server = str(host.backend.get_hostname())
    seen: list[tuple[dict[str, str], str, str]] = [look(host)]
    rotate("ca")
    rotate("ca", "--sign")
    before = files(host)
    with pytest.raises(AssertionError) as error:
        played("provision", server, "--tags", "ca")
    refused, untouched = str(error.value), files(host) == before
    rotate("ca", "--unsign")
    with ledger.load() as first:
        played("provision", server, "--tags", "ca")
        played("deploy", server)
        seen.append(look(host))
    # Clients of this load have read the file with both. nginx closes idle connections at a reload.
    with ledger.load(kept=0) as second:
        rotate("ca", "--sign")
        played("provision", server, "--tags", "ca")
        seen.append(look(host))
        rotate("ca", "--forget")
        rotate("certificates")
        played("provision", server, "--tags", "ca")
        played("deploy", server)
        seen.append(look(host))
    served, keys, connected = zip(*seen, strict=True)
    return Exchange(refused, untouched, list(served), list(keys), list(connected), [first, second])


def look(host: Host) -> tuple[dict[str, str], str, str]:
    """Return who issued what is served, the site's key, and what a serving container reaches."""
    issuer = "</dev/null 2>/dev/null | openssl x509 -noout -issuer"
    served = {name: host.check_output(f"{ask} {issuer}") for name, ask in SERVED.items()}
    container = host.check_output("docker ps -q --filter name=bedstone-ledger-web | head -n 1")
    connected = host.check_output("docker exec %s python -c %s", container, CONNECT)
    return served, host.check_output(f"sha256sum < {TLS}/ledger.key"), connected


def files(host: Host) -> str:
    return str(host.check_output(f"find {TLS} -type f -exec sha256sum {{}} +"))


def test_authority_signs_nothing_before_it_is_trusted(exchange: Exchange) -> None:
    said = " ".join(exchange.refused.split())
    assert "The new authority is not trusted yet" in said
    assert "--unsign" in said
    assert exchange.untouched


def test_no_request_fails_from_one_authority_to_the_next(
    host: Host, wait_until: Any, exchange: Exchange
) -> None:
    for load in exchange.loads:
        Ledger(host, wait_until).check_nothing_lost(load)


def test_serving_containers_reach_the_database_after_each_step(exchange: Exchange) -> None:
    assert exchange.connected == ["1"] * 4


def test_next_authority_signs_from_the_second_step_on(exchange: Exchange) -> None:
    before, added, signing, alone = exchange.served
    assert added == before
    assert signing["nginx"] == signing["postgresql"] != before["nginx"]
    assert alone == signing


def test_previous_authority_is_out_of_trust_at_the_end(host: Host, exchange: Exchange) -> None:
    assert exchange.loads
    assert host.check_output(f"grep -c BEGIN {TLS}/ca.crt") == "1"
    assert host.run("ls /usr/local/share/ca-certificates/bedstone-ca-2.crt").rc != 0


def test_keys_stay_until_the_certificates_are_rotated(exchange: Exchange) -> None:
    before, added, signing, rotated = exchange.keys
    assert before == added == signing
    assert rotated != signing
