"""One team's app leaves a server; the other team's does not notice."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field

import pytest
import yaml

from testbed.demo import changes
from testbed.shell import run
from tests.seeds.conftest import System, waited_for
from tests.seeds.visitors import Seen, Visit, visitors

pytestmark = [
    pytest.mark.parametrize("system", ["piggy-bank-and-coffee"], indirect=True),
    pytest.mark.leaves_traces,
]

LEAVES, STAYS = "coffee-payments", "octoco"
NEW_ROW = "/api/v1/deposits/"
# curl's words for an end of the connection, before and after the request was read.
HANDSHAKE_REFUSED, CLOSED = 35, {52, 56}
# What runs for the app that stays, and what both use.
UNITS = f"bedstone-{STAYS}-* redis-{STAYS}-* postgresql@* nginx.service docker.service"


@dataclass
class Removal:
    """A removal as the operator's page has it, seen from both sides.

    Attributes:
        seen: what visitors of the app that stays met while it went on.
        batch: of the rows that they wrote.
        before: of what has to be the same afterwards, by its name.
        after: the same things, afterwards.

    """

    batch: str
    seen: Seen = field(default_factory=Seen)
    before: dict[str, str] = field(default_factory=dict)
    after: dict[str, str] = field(default_factory=dict)


def picture(system: System) -> dict[str, str]:
    """Return what a removal has to leave as it is."""
    docker = "docker inspect --format '{{.Name}} {{.Id}} {{.State.StartedAt}}'"
    units = f"systemctl list-units --plain --no-legend --state=active {UNITS} | cut -d' ' -f1"
    shown = "systemctl show --property=Id,MainPID,InvocationID,NRestarts,ActiveEnterTimestamp"
    kept = f"/srv/bedstone/{LEAVES} /var/backups/bedstone/{LEAVES} /var/lib/valkey/{LEAVES}-store"
    orders = "runuser -u postgres -- psql -XAtqc 'SELECT count(*) FROM payments_order'"
    return {
        name: system.on_server(command)
        for name, command in {
            "containers": f"{docker} $(docker ps --quiet --filter label=bedstone.app={STAYS})",
            "units": f"{shown} $({units})",
            "settings": f"cd /etc/bedstone/apps/{STAYS} && sha256sum $(find . -type f | sort)",
            "orders": f"{orders} coffee_payments",
            "kept": f"find {kept} -type f ! -name '*.aof' -printf '%p %s\\n' | sort",
            "backups": f"ls /var/backups/bedstone/{LEAVES}",
        }.items()
    }


@pytest.fixture(scope="module")
def removal(system: System) -> Removal:
    """Take an app out of the settings, retire it, and look before and afterwards."""
    coffee, piggy = system.tenant("coffee-payments"), system.tenant("piggy-bank")
    assert system.ask("/orders/", "device=M-9", "cents=180", tenant=coffee)["paid"] is True
    system.on_server(f"bedstone backup {LEAVES}")
    found = Removal(secrets.token_hex(4))
    path = system.directory / "group_vars/all/settings.yml"
    settings = yaml.safe_load(path.read_text())
    found.before = picture(system)
    path.write_text(yaml.safe_dump(
        settings
        | {"bedstone_apps": [app for app in settings["bedstone_apps"] if app["name"] != LEAVES]},
        sort_keys=False,
    ))  # fmt: skip
    row = Visit(NEW_ROW, 202, {"batch": found.batch, "count": "1"})
    rows = Visit(f"{NEW_ROW}?batch={found.batch}")
    place = (piggy.domain, system.server.address, system.authority)
    with visitors(*place, Visit("/health"), row, rows) as found.seen:
        system.play("site", "-e", f"retire={LEAVES}")
    found.after = picture(system)
    return found


def test_visitors_of_the_other_see_nothing_of_it(system: System, removal: Removal) -> None:
    assert removal.seen.failures == []
    assert len(removal.seen.good) == 3, removal.seen.good
    assert min(removal.seen.good.values()) >= 10, removal.seen.good
    written = removal.seen.good[NEW_ROW]

    def rows() -> int:
        return int(system.ask(f"{NEW_ROW}?batch={removal.batch}")["rows"])

    waited_for("all are written", lambda: rows() >= written)
    assert rows() == written


@pytest.mark.parametrize("what", ["containers", "units", "settings"])
def test_nothing_of_the_other_was_started_again(removal: Removal, what: str) -> None:
    assert removal.before[what].strip()
    assert removal.after[what] == removal.before[what]


@pytest.mark.usefixtures("removal")
def test_its_domain_is_an_unknown_host(system: System) -> None:
    def ended(scheme: str, domain: str) -> int:
        port = {"http": 80, "https": 443}[scheme]
        command = ["curl", "--silent", "--max-time", "20", "--cacert", str(system.authority)]
        command += ["--resolve", f"{domain}:{port}:{system.server.address}"]
        return run([*command, f"{scheme}://{domain}/health"], check=False).returncode

    stays, gone = system.tenant("piggy-bank").domain, system.tenant("coffee-payments").domain
    for domain in (gone, "never-there.example.com"):
        assert ended("https", domain) == HANDSHAKE_REFUSED
        assert ended("http", domain) in CLOSED
    assert (ended("https", stays), ended("http", stays)) == (0, 0)


@pytest.mark.usefixtures("removal")
def test_nothing_of_it_runs(system: System) -> None:
    lists = {
        "containers": "docker ps --all --format '{{.Names}}'",
        "networks": "docker network ls --format '{{.Name}}'",
        "units": "systemctl list-units --plain --no-legend --type=service,timer",
        "timers and services": "systemctl list-unit-files --no-legend --state=enabled",
        "routes": "nginx -T 2>&1 | grep -E 'server_name|ssl_certificate|alias|proxy_pass'",
    }
    for what, command in lists.items():
        told = system.on_server(command)
        assert STAYS in told, what
        for name in (LEAVES, system.tenant("coffee-payments").domain):
            assert name not in told, (what, told)


def test_its_data_and_backups_stay(system: System, removal: Removal) -> None:
    for what in ("orders", "kept", "backups"):
        assert removal.after[what] == removal.before[what]
    assert int(removal.after["orders"]) >= 1
    assert "backup_" in removal.after["backups"]
    told = json.loads(system.on_server("bedstone status --json || true"))
    assert [each["app"] for each in told["retired"]] == [LEAVES]
    assert [(each["app"], each["ok"]) for each in told["apps"]] == [(STAYS, True)]


@pytest.mark.usefixtures("removal")
def test_next_run_changes_nothing(system: System) -> None:
    told = system.play("site")
    assert changes(told) == 0, told
