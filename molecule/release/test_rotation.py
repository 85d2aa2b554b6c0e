"""Another database password, with requests on their way from the settings' change to a rollback."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from again import played
from ledger_app import ENVIRONMENT, Ledger, Load, said_at
from testinfra.host import Host

from bedstone_control.vault import content as vault

UNITS = ["bedstone-ledger-*", "bedstone-operation@ledger", "postgresql@*"]
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
    load: Load


@pytest.fixture(scope="module")
def story(host: Host, wait_until: Any) -> Story:
    """Change the password, provision, restart, release and roll back, under load."""
    ledger = Ledger(host, wait_until)
    ledger.plain()
    ledger.fresh()
    server = str(host.backend.get_hostname())
    password = secrets.token_urlsafe(32)
    # As on a server of an earlier version: the app role logs in itself.
    ledger.sql("ALTER ROLE ledger_app LOGIN PASSWORD 'of-an-earlier-version'")
    with ledger.load(seconds=10, kept=40) as load:
        before = ledger.sql(LOGINS).split()
        change(password)
        provisioned = played("provision", server, "--tags", "postgresql", "--diff")
        between = ledger.sql(LOGINS).split()
        # New containers, and so new connections, with the earlier password.
        restarted = ledger.bedstone("restart ledger")
        after_restart = ledger.sql(LOGINS).split()
        again = played("provision", server, "--tags", "postgresql", "--diff")
        deployed = played("deploy", server, "--diff")
        after = ledger.sql(LOGINS).split()
        rolled_back = ledger.bedstone("rollback ledger")
    return Story(
        password, before, provisioned, between, restarted, after_restart, again, deployed, after,
        rolled_back, load,
    )  # fmt: skip


def change(password: str) -> None:
    """Put another password into the inventory's vault."""
    inventory = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "production"
    path, key = inventory / "group_vars/all/vault.yml", inventory / ".vault-password"
    content = vault.read_vault(path, key)
    content["bedstone_secrets"]["apps"]["ledger"]["database_password"] = password
    vault.write_vault(path, content, key)


def test_no_request_fails_from_the_new_password_to_the_rollback(
    host: Host, wait_until: Any, story: Story
) -> None:
    ledger = Ledger(host, wait_until)
    ledger.check_nothing_lost(story.load)
    assert len(story.load.versions) == 2


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
