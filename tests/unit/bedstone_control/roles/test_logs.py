"""Role logs: the collector, the table of services, and what the check refuses."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bedstone.core import names as host_names
from bedstone_control.checks import logs as check
from bedstone_control.checks.context import Context
from bedstone_control.roles import logs
from bedstone_control.roles.registry import ROLES
from bedstone_control.roles.site import Site
from bedstone_control.settings.root import Settings
from tests.unit.fixtures.roles import GROUPS, site_of

APP: dict[str, Any] = {
    "name": "shop",
    "source": {"image": "registry.example.com/shop:1"},
    "services": {"web": {"port": 3000}, "worker": {"command": "work"}},
    "jobs": {"clean": {"command": "clean", "schedule": "*-*-* 03:00:00"}},
}
TO = {"host": "logs.example.com"}


def site(given: dict[str, Any] | None) -> Site:
    settings = {"apps": [APP]} | ({} if given is None else {"logs": given})
    return site_of(settings, {}, groups=GROUPS, addresses={"web1": "192.0.2.10"}, host="web1")


def test_nothing_is_sent_unless_asked_for() -> None:
    here = site(None)
    assert logs.collector(here) is None
    assert logs.requests(here) is False
    assert logs.apps(here) == []
    assert logs.logs_files(None, "all") == []
    assert logs.logs_units(None) == []


def test_settings_become_arguments() -> None:
    here = site({"to": TO | {"ca": "files/ca.crt"}, "journal": "apps"})
    found = logs.collector(here)
    assert found is not None
    assert (found["host"], found["port"], found["tls"]) == ("logs.example.com", 6514, True)
    assert found["ca"] == str(here.inventory_directory.resolve() / "files/ca.crt")
    assert found["key"] is None
    assert logs.journal(here) == "apps"
    assert logs.requests(here) is True
    assert logs.requests(site({"to": TO, "requests": False})) is False
    assert logs.apps(here) == [{"name": "shop", "services": ["web", "worker"], "jobs": ["clean"]}]


def test_table_names_the_units_as_the_host_program_does() -> None:
    table = json.loads(logs.logs_services(logs.apps(site({"to": TO}))))
    found = {row["index"]: row["value"] for row in table["table"]}
    web = host_names.slot_unit("shop", "web@blue").partition("@")[0]
    assert found == {
        web: ' app="shop" service="web"',
        "bedstone-shop-worker": ' app="shop" service="worker"',
        host_names.job_unit("shop", "clean"): ' app="shop" job="clean"',
        host_names.operation_unit("shop"): ' app="shop"',
    }


def test_key_of_a_client_is_for_the_program_alone() -> None:
    given = TO | {"ca": "/a/ca.crt", "certificate": "/a/c.crt", "key": "/a/c.key"}
    files = {entry["path"]: entry for entry in logs.logs_files(given, "all")}
    key = files["/etc/bedstone/logs/client.key"]
    assert (key["source"], key["sensitive"]) == ("/a/c.key", True)
    assert (key["group"], key["mode"]) == ("bedstone-logs", "0640")
    variables = files["/etc/bedstone/logs/rsyslog.conf"]["variables"]
    assert variables["collector"] == {
        "host": "logs.example.com",
        "port": 6514,
        "name": "logs.example.com",
        "tls": True,
        "ca": "/etc/bedstone/logs/ca.crt",
        "client": True,
    }
    assert logs.logs_collector(TO)["ca"] == "/etc/ssl/certs/ca-certificates.crt"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (TO | {"tls": False}, "plain text"),
        ({"host": "192.0.2.1"}, "Set `name`"),
        ({"host": 'a" type="omprog'}, "can't be a host's name"),
        (TO | {"name": "*.example.com"}, "can't be a host's name"),
        (TO | {"port": 70000}, "use 1 to 65535"),
        (TO | {"certificate": "/c.crt"}, "needs both"),
        ({"host": "127.0.0.1", "tls": False, "ca": "/ca.crt"}, "leave one of both out"),
    ],
)
def test_collector_that_cannot_be_one_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        logs.logs_collector(given)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_plain_text_stays_on_the_server(host: str) -> None:
    assert logs.logs_collector({"host": host, "tls": False})["tls"] is False


def test_journal_is_all_or_apps() -> None:
    with pytest.raises(ValueError, match="not all or apps"):
        logs.logs_files(TO, "some")


# --- The check of the settings -------------------------------------------------------------------


def problems(directory: Path, to: dict[str, Any]) -> list[str]:
    context = Context({"bedstone_logs": {"to": to}}, groups=GROUPS, inventory_directory=directory)
    settings = Settings.model_validate({"apps": [APP], "logs": {"to": to}})
    return [problem.message for problem in check.check(context, settings)]


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """A directory with a certificate and its key outside the inventory, which is below it."""
    (tmp_path / "inventory").mkdir()
    new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=client"
    for name in ("client", "other"):
        files = ["-keyout", str(tmp_path / f"{name}.key"), "-out", str(tmp_path / f"{name}.crt")]
        subprocess.run(["openssl", *new.split(), *files], check=True, capture_output=True)
    return tmp_path / "inventory"


def test_good_settings_have_no_problem(pair: Path) -> None:
    assert problems(pair, TO) == []
    client = {"certificate": "../client.crt", "key": "../client.key"}
    assert problems(pair, TO | {"ca": "../client.crt", "client": client}) == []
    assert problems(pair, {"host": "192.0.2.1", "name": "logs.example.com"}) == []
    assert problems(pair, {"host": "127.0.0.1", "tls": False}) == []


@pytest.mark.parametrize(
    ("to", "words"),
    [
        (TO | {"tls": False}, "would travel in plain text"),
        ({"host": "192.0.2.1"}, "verified by its name"),
        ({"host": "logs example"}, "can't be the name of a host"),
        (TO | {"ca": "missing.crt"}, "There is no file"),
        (TO | {"ca": "../client.key"}, "holds no certificate"),
        ({"host": "127.0.0.1", "tls": False, "ca": "../client.crt"}, "`tls` is false"),
        (TO | {"client": {"certificate": "../client.crt", "key": "no.key"}}, "There is no file"),
        (
            TO | {"client": {"certificate": "../client.crt", "key": "../other.key"}},
            "not the one of the certificate",
        ),
    ],
)
def test_each_mistake_is_told(pair: Path, to: dict[str, Any], words: str) -> None:
    (message,) = problems(pair, to)
    assert words in message


def test_key_in_the_inventory_is_encrypted(pair: Path) -> None:
    for ending in ("crt", "key"):
        (pair.parent / f"client.{ending}").rename(pair / f"client.{ending}")
    client = {"certificate": "client.crt", "key": "client.key"}
    (message,) = problems(pair, TO | {"client": client})
    assert "in plain text" in message


def test_role_is_in_the_list() -> None:
    assert logs.ROLE in ROLES
