"""The host that verifies the backups of the others: what it gets, and what can't be one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from bedstone.backup import settings as backup_settings
from bedstone.backup import verify_settings
from bedstone.storage import destinations as host_destinations
from bedstone_control.checks import verifier
from bedstone_control.roles import registry
from bedstone_control.roles import verifier as origins_layout
from bedstone_control.roles.site import Site as Known
from tests.unit.bedstone_control.checks.test_check_settings import Case, both, put
from tests.unit.bedstone_control.checks.test_check_settings import (
    test_mistake_is_told_alone_with_place_and_example as told_alone,
)
from tests.unit.fixtures import destinations
from tests.unit.fixtures.roles import site_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.fixtures.sites import Site


ARGUMENTS = registry.arguments()


def group(*hosts: str) -> Callable[[Site], object]:
    """Return a change of the inventory's group."""
    return lambda site: site.groups.update(verify=list(hosts), all=["web1", *hosts])


def no_destination(site: Site) -> None:
    site.settings["bedstone_backup"] = {}
    del site.secrets["bedstone_secrets"]["backup"]


CASES = [
    Case(
        "a host that proves its own backups", group("web1"), "group verify",
        "The host web1 would prove its own backups.", "proofs1", file="hosts.yml",
    ),
    Case(
        "two hosts", group("proofs1", "proofs2"), "group verify",
        "proofs1 and proofs2 would both restore all backups", "proofs1", file="hosts.yml",
    ),
    Case(
        "no destination", both(group("proofs1"), no_destination), "bedstone_backup.destinations",
        "proofs1 fetches the backups from a destination alone", "backup.example.com",
    ),
    Case(
        "a log that goes nowhere",
        both(group("proofs1"), put("bedstone_backup", "destinations", 0, "wal", False)),
        "bedstone_backup.destinations[offsite].wal", "so proofs1 can't prove it", "wal: true",
        line="wal",
    ),
]  # fmt: skip


@pytest.fixture
def declared(site: Site) -> Site:
    destinations.declare(site)
    return site


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_can_not_prove_anything_is_told_with_a_right_value(declared: Site, case: Case) -> None:
    told_alone(declared, case)


def test_host_of_its_own_is_right(declared: Site) -> None:
    group("proofs1")(declared)
    assert declared.check() == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"release": "bookworm"}, "which has Debian trixie, and has Debian bookworm itself"),
        ({"postgresql": "16"}, "which has PostgreSQL 17, and has PostgreSQL 16 itself"),
    ],
)
def test_another_debian_or_postgresql_is_told_before_anything_changes(
    changes: dict[str, str], said: str
) -> None:
    db = {"release": "trixie", "postgresql": "17"}
    (problem,) = verifier.unlike("proofs1", {"proofs1": db | changes, "db1": db})
    assert said in problem.message
    assert "backups of db1" in problem.message
    assert problem.example.split()[-1].strip('"') in db.values()


def test_servers_that_nobody_has_looked_at_are_not_compared() -> None:
    db = {"release": "trixie", "postgresql": "17"}
    assert verifier.unlike("proofs1", {"db1": db}) == []
    assert verifier.unlike("proofs1", {"proofs1": db | {"release": "bookworm"}}) == []
    assert verifier.unlike("proofs1", {"proofs1": db, "db1": db}) == []


def known(site: Site, host: str) -> Known:
    """Return the arguments' input of a host in an inventory with two servers and a verifier."""
    settings = {name.removeprefix("bedstone_"): v for name, v in site.settings.items()}
    there = settings["backup"]["destinations"]
    there[0]["sftp"]["path"] = "/srv/bedstone/${host}"
    settings["apps"][0]["backup_checks"] = ["SELECT true"]
    return site_of(
        settings,
        site.secrets["bedstone_secrets"],
        groups={"postgresql": ["db1", "db2"], "app": ["db1"], "verify": ["proofs1"]},
        host=host,
        addresses={},
        inventory_directory=str(site.directory),
        cache_directory=str(site.directory),
    )


def test_each_server_with_a_database_is_proved_by_the_host_of_the_group(declared: Site) -> None:
    assert ARGUMENTS["backup_verify_host"](known(declared, "db1")) == "proofs1"
    assert ARGUMENTS["backup_verify_host"](known(declared, "proofs1")) == ""
    assert ARGUMENTS["backup_origins"](known(declared, "db1")) == []
    first, second = ARGUMENTS["backup_origins"](known(declared, "proofs1"))
    assert [first["name"], second["name"]] == ["db1", "db2"]
    # As the servers themselves have it.
    for origin in (first, second):
        server = known(declared, origin["name"])
        assert origin["destinations"] == ARGUMENTS["backup_destinations"](server)
        assert origin["databases"] == ARGUMENTS["backup_databases"](server) != []
        assert origin["key"] == ARGUMENTS["backup_key"](server) != ""
    assert first["destinations"][0]["path"] == "/srv/bedstone/db1"
    assert [len(first["media"]), len(second["media"])] == [1, 0]


def files(origins: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the files on the verifying host, by path."""
    found = origins_layout.files(
        origins,
        host="proofs1",
        verify={"directory": "/var/cache/bedstone-verify", "limit_minutes": 90},
        reserve_mb=100,
        jobs=2,
        processes=1,
    )
    return {entry["path"]: entry for entry in found}


def test_host_program_reads_what_the_role_lays_out(declared: Site) -> None:
    found = files(ARGUMENTS["backup_origins"](known(declared, "proofs1")))
    home = "/etc/bedstone/verify/db2"
    data = json.loads(found[f"{home}/backup.json"]["content"])
    settings, how = backup_settings.parse(data), verify_settings.parse(data)
    assert [app.app for app in settings.apps] == ["payments"]
    assert (how.host, how.origin, how.limit_seconds) == ("proofs1", "db2", 5400)
    assert how.checks == {"payments": ("SELECT true",)}
    there = host_destinations.parse(json.loads(found[f"{home}/destinations.json"]["content"]))
    assert [(place.name, place.pgbackrest) for place in there.all] == [
        ("local", None),
        ("offsite", 2),
        ("bucket", None),
    ]
    assert there.point_in_time is not None
    conf = found["/etc/pgbackrest/verify/db2/pgbackrest.conf"]["content"]
    assert "repo2-path=/srv/bedstone/db2/pgbackrest\n" in conf
    assert "[main]\n" in conf


def test_secrets_are_for_those_who_need_them_and_never_shown(declared: Site) -> None:
    origins = ARGUMENTS["backup_origins"](known(declared, "proofs1"))
    secrets = [origins[0]["key"], "BEGIN OPENSSH PRIVATE KEY", "sk/+="]
    for path, entry in files(origins).items():
        if any(secret in entry["content"] for secret in secrets):
            assert entry["sensitive"], path
        assert entry["mode"] == ("0640" if path.endswith(".conf") else "0600"), path
        owner = "postgres" if path.startswith("/etc/pgbackrest/") else "root"
        assert owner in {entry.get("owner", "root"), entry.get("group", "root")}, path
    modes = {entry["path"]: entry["mode"] for entry in origins_layout.directories(origins)}
    assert modes["/etc/bedstone/verify/db1"] == "0700"
    assert modes["/etc/pgbackrest/verify"] == "0750"


def test_without_a_log_there_is_nothing_of_pgbackrest(declared: Site) -> None:
    origins = [
        {**origin, "point_in_time": False}
        for origin in ARGUMENTS["backup_origins"](known(declared, "proofs1"))
    ]
    assert not [path for path in files(origins) if "pgbackrest" in path]
    assert "pgbackrest" not in origins_layout.packages(origins)
    data = json.loads(files(origins)["/etc/bedstone/verify/db1/destinations.json"]["content"])
    assert host_destinations.parse(data).point_in_time is None


def test_each_origin_has_a_timer_of_its_own(declared: Site) -> None:
    origins = ARGUMENTS["backup_origins"](known(declared, "proofs1"))
    names = [unit["name"] for unit in origins_layout.units(origins)]
    assert names == ["bedstone-verify@db1.timer", "bedstone-verify@db2.timer"]
    laid_out = [entry["path"] for entry in origins_layout.timers(origins, "a.timer.j2")]
    assert laid_out == [f"/etc/systemd/system/{name}" for name in names]
