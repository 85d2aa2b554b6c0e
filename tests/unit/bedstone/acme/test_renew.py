"""The run as a whole: what is asked of the authority, what nginx serves, what is remembered."""

from __future__ import annotations

import datetime as dt
import json
import ssl
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bedstone.acme import config, record, site, state
from bedstone.acme.config import Settings, Wanted
from bedstone.acme.directory import Directory
from bedstone.acme.record import Advice, Record
from bedstone.acme.renew import Result, Tools, renew
from bedstone.core.errors import BedstoneError
from bedstone.core.x509 import first
from bedstone.system.certbot import AccountLostError, Order
from tests.unit.fixtures.issued import CA_PEM, DAY, DIRECTORY, NOW, pair, put

SETTINGS = Settings(
    DIRECTORY, None, False, None, None, None, True, (Wanted("pay", ("pay.example.com",)),)
)
OWN = "ssl_certificate /etc/bedstone/tls/pay.crt;\n"


class World:
    """An authority, nginx, and DNS that can be set."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.orders: list[Order] = []
        self.deleted: list[str] = []
        self.reloads = 0
        self.external = False
        self.down = self.refuses = self.lost = self.rejects = False
        self.dns: list[str] = []
        self.renew_at: dt.datetime | None = None
        self.forgotten: list[str] = []
        self.conf = root / "etc/nginx/bedstone/certificates/pay.conf"
        self.conf.parent.mkdir(parents=True)
        self.conf.write_text(OWN)

    # --- certbot
    def order(self, order: Order) -> tuple[str, str]:
        self.orders.append(order)
        if self.lost and not self.forgotten:
            raise AccountLostError("certbot failed: Account not found.")
        if self.refuses:
            raise BedstoneError("the authority refused: pay.example.com: rate limited")
        issued = put(self.root, order.name, pair(domains=order.domains))
        return issued.certificate, issued.key

    def forget_account(self, directory: str) -> None:
        self.forgotten.append(directory)

    def delete(self, name: str) -> None:
        self.deleted.append(name)

    # --- nginx
    def test(self) -> None:
        if self.rejects:
            raise BedstoneError("nginx: [emerg] no")

    def reload(self) -> set[int]:
        self.reloads += 1
        return set()

    # --- the authority
    def directory(self, _url: str) -> Directory:
        if self.down:
            raise BedstoneError(f"{DIRECTORY} can't be reached: refused")
        return Directory("https://ca.example.com/ari", frozenset({"short"}), self.external)

    def advice(self, _directory: Directory, certificate: Any, now: dt.datetime) -> Advice:
        return Advice(now, certificate.digest, self.renew_at)

    def run(self, settings: Settings = SETTINGS, **options: Any) -> Result:
        tools = Tools(self, self, lambda _: self.dns, self.directory, self.advice)  # type: ignore[arg-type]
        (result,) = renew(settings, tools=tools, **{"now": NOW, **options})
        return result


@pytest.fixture
def world(root: Path) -> World:
    return World(root)


def test_first_certificate_is_issued_and_served(world: World) -> None:
    assert world.run() == Result("pay", True, None)
    assert "archive/pay/fullchain1.pem;" in world.conf.read_text()
    assert 'set $bedstone_trusted "";' in world.conf.read_text(), "the test's authority is unknown"
    assert world.reloads == 1


def test_second_run_asks_and_changes_nothing(world: World) -> None:
    world.run()
    assert world.run() == Result("pay", False, None)
    assert (len(world.orders), world.reloads) == (1, 1)


def test_wrong_dns_asks_nothing_and_serves_on(world: World) -> None:
    world.dns = ["pay.example.com resolves to 198.51.100.9, this server is 203.0.113.7"]
    assert world.run().problem == world.dns[0]
    assert (world.orders, world.conf.read_text()) == ([], OWN)
    world.dns = []
    assert world.run() == Result("pay", True, None), "the next run heals it"
    assert record.load("pay").failure is None


def test_unreachable_authority_is_asked_again_by_the_next_run(world: World) -> None:
    world.down = True
    assert "can't be reached" in str(world.run().problem)
    world.down = False
    assert world.run().problem is None


def test_refusals_make_pauses_that_an_operator_shortens(world: World) -> None:
    world.refuses = True
    for hours in (0, 0.5, 1.5, 2.5):
        said = world.run(now=NOW + hours * DAY / 24).problem
    assert "rate limited (asked again after " in str(said)
    assert len(world.orders) == 2
    world.run(now=NOW + 2 * DAY / 24, by_hand=True)
    assert len(world.orders) == 3
    failure = record.load("pay").failure
    assert failure is not None
    assert (failure.orders, failure.since) == (3, NOW)


def test_lost_account_is_registered_again(world: World) -> None:
    world.lost = True
    assert world.run().problem is None
    assert (len(world.orders), world.forgotten) == (2, [DIRECTORY])


def test_configuration_that_nginx_refuses_is_put_back(world: World) -> None:
    world.rejects = True
    assert world.run().problem == "nginx: [emerg] no"
    assert world.conf.read_text() == OWN
    world.rejects = False
    assert world.run() == Result("pay", True, None)
    assert len(world.orders) == 1, "what was issued is used"


def test_site_that_was_made_again_gets_its_certificate_back(world: World) -> None:
    world.run()
    world.conf.write_text(OWN)
    assert world.run() == Result("pay", True, None)
    assert len(world.orders) == 1


def test_reload_that_was_killed_is_made_up_for(world: World, root: Path) -> None:
    world.run()
    (root / "var/lib/bedstone/acme/pay.reload-owed").touch()
    world.run()
    assert world.reloads == 2


def test_added_domain_is_asked_for_and_the_old_one_serves_until_then(world: World) -> None:
    world.run()
    both = ("pay.example.com", "www.example.com")
    more = replace(SETTINGS, certificates=(Wanted("pay", both),))
    world.dns = ["www.example.com has no address in DNS"]
    served = world.conf.read_text()
    assert world.run(more).problem == world.dns[0]
    assert world.conf.read_text() == served
    world.dns = []
    world.run(more)
    assert world.orders[-1].domains == both


def test_advice_of_a_revocation_renews_once_a_day(world: World) -> None:
    world.run()
    world.renew_at = NOW - DAY
    for hours in (1, 23, 25, 26, 48):
        world.run(now=NOW + hours * DAY / 24)
    assert len(world.orders) == 2, "at 25 hours; not again before 49"


def test_profile_that_the_authority_lacks_is_said_without_an_order(world: World) -> None:
    wrong = replace(SETTINGS, profile="tiny")
    assert world.run(wrong).problem == "the authority has no profile tiny; it has: short"
    assert world.orders == []


def test_forced_renewal_is_one(world: World) -> None:
    world.run()
    world.run(names=["pay"], force=True)
    assert len(world.orders) == 2


def test_certificate_declared_no_more_stays_until_it_ends(world: World, root: Path) -> None:
    world.run()
    record.save("old", Record(put(root, "old", pair(age_days=100), 100)))
    record.save("shop", Record(put(root, "shop", pair(age_days=80), 80)))
    world.run()
    assert (world.deleted, record.known()) == (["old"], ["pay", "shop"])


def test_trust_is_what_clients_with_the_servers_authorities_say(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    issued = put(root, "pay", pair())
    assert not site.trusted(issued, ["pay.example.com"])
    file = root / "ca.crt"
    file.write_text(CA_PEM)
    monkeypatch.setattr(
        ssl,
        "create_default_context",
        lambda real=ssl.create_default_context: real(cafile=str(file)),
    )
    assert site.trusted(issued, ["pay.example.com"])
    assert not site.trusted(issued, ["pay.example.com", "other.example.com"])
    assert 'set $bedstone_trusted "1";' in site.text(issued, trusted=True)


def test_key_of_another_certificate_is_refused(root: Path) -> None:
    issued = put(root, "pay", (pair()[0], pair()[1]))
    with pytest.raises(BedstoneError, match="can't be served"):
        site.trusted(issued, ["pay.example.com"])


def test_state_names_domains_end_renewal_and_problem(world: World, root: Path) -> None:
    path = root / "etc/bedstone/acme.json"
    assert state.gather() == []
    path.parent.mkdir(parents=True)
    values = {"directory": DIRECTORY, "check_challenge": True, "external_account": False}
    values |= {"certificates": [{"name": "pay", "domains": ["pay.example.com"]}]}
    path.write_text(json.dumps(values))
    assert config.load() == SETTINGS
    world.dns = ["no"]
    world.run()
    (entry,) = state.gather()
    assert (entry.certificate, entry.as_json()["problem"]) == (None, "no")
    world.dns = []
    world.run()
    (entry,) = state.gather()
    assert entry.certificate == first(pair_text(root))
    assert entry.renew_at is not None
    assert dt.timedelta(days=59) < entry.renew_at - NOW < dt.timedelta(days=61)


def pair_text(root: Path) -> str:
    return (root / "var/lib/bedstone/acme/certbot/archive/pay/fullchain1.pem").read_text()


def test_record_that_can_not_be_read_is_as_none(world: World, root: Path) -> None:
    world.run()
    (root / "var/lib/bedstone/acme/pay.json").write_text("{")
    assert record.load("pay") == Record()


def test_kill_after_the_order_loses_no_certificate(world: World) -> None:
    def killed() -> set[int]:
        raise KeyboardInterrupt

    world.reload = killed  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        world.run()
    del world.reload
    assert world.run() == Result("pay", True, None)
    assert (len(world.orders), world.reloads) == (1, 1)


def test_missing_external_account_is_said_without_an_order(world: World) -> None:
    world.external = True
    assert "set `account_id`" in str(world.run().problem)
    assert world.orders == []
    assert world.run(replace(SETTINGS, external_account=True)).problem is None
    assert world.orders[0].external_account
