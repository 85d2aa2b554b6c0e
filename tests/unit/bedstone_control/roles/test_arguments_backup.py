"""When backups are verified and what is asked of them: from settings to role backup."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from bedstone_control.roles import destinations, registry
from tests.unit.bedstone_control.roles import test_arguments_jobs_and_hooks as jobs_and_hooks
from tests.unit.fixtures.destinations import BUCKET, HOST_KEY, OFFSITE
from tests.unit.fixtures.sites import Site

ARGUMENTS = registry.arguments()

CHECK = "SELECT count(*) > 0 FROM payments_request"


@pytest.mark.parametrize(
    ("backup", "expected"),
    [
        ({}, "Sun *-*-* 06:00:00"),
        ({"time": "05:00"}, "Sun *-*-* 07:00:00"),
        ({"time": "22:45"}, "Mon *-*-* 00:45:00"),
        ({"time": "22:45", "verify_schedule": "Sat 12:00"}, "Sat 12:00"),
    ],
)
def test_verification_follows_the_backup_unless_it_has_a_time_of_its_own(
    backup: dict[str, str], expected: str
) -> None:
    assert ARGUMENTS["backup_verify_schedule"](jobs_and_hooks.site(backup=backup)) == expected


def test_checks_reach_the_role_by_app() -> None:
    asked = jobs_and_hooks.APP | {"backup_checks": [CHECK]}
    silent = jobs_and_hooks.APP | {"name": "shop", "domains": ["shop.example.com"]}
    assert ARGUMENTS["backup_checks"](jobs_and_hooks.site(asked, silent)) == {"payments": [CHECK]}


@pytest.mark.parametrize(
    "query",
    [
        CHECK,
        "select true;",
        " WITH last AS (SELECT max(made) AS made FROM entry) SELECT made IS NOT NULL FROM last\n",
    ],
)
def test_queries_are_accepted(site: Site, query: str) -> None:
    site.app["backup_checks"] = [query]
    assert site.check() == []


@pytest.mark.parametrize("query", ["", "DELETE FROM entry", "SELECT true; DELETE FROM entry"])
def test_what_is_no_single_query_is_told(site: Site, query: str) -> None:
    site.app["backup_checks"] = [CHECK, query]
    (problem,) = site.check()
    assert problem.where == "bedstone_apps[payments].backup_checks[2]"
    assert "no single query" in problem.message


def test_checks_of_an_app_without_a_database_are_told(site: Site) -> None:
    site.other["backup_checks"] = [CHECK]
    (problem,) = site.check()
    assert "no database" in problem.message


def test_schedule_in_crons_form_is_told(site: Site) -> None:
    wanted: dict[str, Any] = {"verify_schedule": "30 4 * * 0"}
    site.settings["bedstone_backup"] = wanted
    (problem,) = site.check()
    assert problem.where == "bedstone_backup.verify_schedule"
    assert "cron" in problem.message


def entries(*places: dict[str, Any], **kept: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the destinations that the roles get."""
    made = jobs_and_hooks.site(backup={"destinations": list(places)})
    secrets = {**made.secrets, "backup": {"key": "k", "destinations": kept}}
    return destinations.entries(dataclasses.replace(made, secrets=secrets))


KEYS = {"access_key": "AK", "secret_key": "sk"}


def test_destinations_reach_the_roles_with_their_secrets() -> None:
    assert entries(OFFSITE, BUCKET, offsite={"private_key": "pem"}, bucket=KEYS) == [
        {
            "name": "offsite",
            "type": "sftp",
            "host": "backup.example.com",
            "port": 22,
            "user": "bedstone",
            "path": "/srv/bedstone",
            "host_keys": [HOST_KEY],
            "private_key": "pem",
            "wal": True,
            "immutable": False,
        },
        {
            "name": "bucket",
            "type": "s3",
            "endpoint": "s3.example.com:9000",
            "bucket": "backups",
            "region": "eu-central-1",
            "path": "/payments",
            "path_style": False,
            "access_key": "AK",
            "secret_key": "sk",
            "wal": False,
            "immutable": False,
        },
    ]


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/", ""), ("/a/", "/a"), ("/a/${host}", "/a/web1"), ("/${host}/", "/web1")],
)
def test_another_path_can_follow_a_destination_s(path: str, expected: str) -> None:
    place = BUCKET | {"s3": BUCKET["s3"] | {"path": path}}
    assert entries(place, bucket=KEYS)[0]["path"] == expected


@pytest.mark.parametrize(
    "line",
    [
        HOST_KEY,
        f"{HOST_KEY} root@backup",
        f"backup.example.com {HOST_KEY}",
        f"[backup.example.com]:2222 {HOST_KEY}\n",
        f"|1|c2FsdA==|aGFzaA== {HOST_KEY}",
    ],
)
def test_host_keys_are_taken_as_ssh_keyscan_prints_them(line: str) -> None:
    place = OFFSITE | {"sftp": OFFSITE["sftp"] | {"host_keys": [line]}}
    assert entries(place, offsite={"private_key": "pem"})[0]["host_keys"] == [HOST_KEY]


def test_missing_secret_is_named() -> None:
    with pytest.raises(ValueError, match=r"backup\.destinations\.bucket\.secret_key"):
        entries(BUCKET, bucket={"access_key": "AK"})


@pytest.mark.parametrize(
    ("backup", "full", "incremental"),
    [
        ({}, "Sun *-*-* 03:00:00", "Mon..Sat *-*-* 03:00:00"),
        ({"time": "00:15"}, "Sun *-*-* 23:15:00", "Mon..Sat *-*-* 23:15:00"),
        ({"time": "23:45"}, "Sun *-*-* 22:45:00", "Mon..Sat *-*-* 22:45:00"),
    ],
)
def test_cluster_is_backed_up_an_hour_before_the_dumps(
    backup: dict[str, str], full: str, incremental: str
) -> None:
    made = jobs_and_hooks.site(backup=backup)
    assert ARGUMENTS["pgbackrest_full_schedule"](made) == full
    assert ARGUMENTS["pgbackrest_incremental_schedule"](made) == incremental


def test_log_is_archived_unless_nobody_wants_it() -> None:
    made = jobs_and_hooks.site()
    command = "/usr/bin/pgbackrest --stanza=main archive-push %p"
    assert ARGUMENTS["postgresql_archive_command"](made) == command
    assert (
        ARGUMENTS["pgbackrest_point_in_time"](made)
        is ARGUMENTS["backup_point_in_time"](made)
        is True
    )
    assert ARGUMENTS["pgbackrest_keep_days"](made) == 7
    without = jobs_and_hooks.site(backup={"point_in_time": False, "keep_point_in_time_days": 14})
    assert ARGUMENTS["postgresql_archive_command"](without) == ""
    assert ARGUMENTS["pgbackrest_point_in_time"](without) is False
    assert ARGUMENTS["pgbackrest_keep_days"](without) == 14
    assert ARGUMENTS["backup_keep_point_in_time_days"](without) == 14


def test_key_and_secrets_reach_only_hosts_with_a_database() -> None:
    made = jobs_and_hooks.site(backup={"destinations": [BUCKET]})
    secrets = {**made.secrets, "backup": {"key": "k", "destinations": {"bucket": KEYS}}}
    made = dataclasses.replace(made, secrets=secrets)
    assert ARGUMENTS["pgbackrest_key"](made) == "k"
    assert [there["name"] for there in ARGUMENTS["pgbackrest_destinations"](made)] == ["bucket"]
    assert ARGUMENTS["backup_key"](made) == "k"
    assert ARGUMENTS["backup_destinations"](made) == ARGUMENTS["pgbackrest_destinations"](made)
    elsewhere = dataclasses.replace(made, groups={**made.groups, "postgresql": ["db1"]})
    assert ARGUMENTS["pgbackrest_key"](elsewhere) == ""
    assert ARGUMENTS["pgbackrest_destinations"](elsewhere) == []
    assert ARGUMENTS["postgresql_archive_command"](elsewhere) == ""


def test_without_a_key_there_is_none() -> None:
    assert ARGUMENTS["pgbackrest_key"](jobs_and_hooks.site()) == ""
