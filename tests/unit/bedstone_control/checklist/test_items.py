"""Each item of the checklist, answered with yes, no and not yet."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bedstone_control.checklist import items, report
from bedstone_control.checklist.evidence import Evidence
from bedstone_control.checklist.items import ITEMS, LATER, NO, YES, Answer
from tests.unit.fixtures.roles import site_of

APP = {
    "name": "shop",
    "domains": ["shop.example.com"],
    "source": {"image": "a:1"},
    "services": {"web": {"port": 8000}},
    "database": True,
    "commands": {"migrate": ["python manage.py migrate"]},
    "env": {"DEBUG": "False", "STRIPE": "${secret.stripe}"},
}
BUCKET = {
    "name": "offsite",
    "s3": {"endpoint": "https://s3.example.com", "bucket": "copies", "region": "eu-central-1"},
}
SETTINGS = {
    "apps": [APP],
    "hooks": [{"events": ["failure"], "command": "/usr/local/bin/tell"}],
    "backup": {"destinations": [BUCKET], "key_held": "x"},
}
SERVED: dict[str, Any] = {
    "app": "shop",
    "ok": True,
    "problems": [],
    "release": "r1",
    "backup": {"problem": None},
    "verification": {"problem": None},
}
PICTURE = {"apps": [SERVED], "alarms": [], "database": {"problems": []}}
CHECKS = (
    "port 443",
    "other ports",
    "certificate of shop.example.com",
    "life of shop.example.com's certificate",
    "TLS 1.0 for shop.example.com",
    "http://shop.example.com",
    "headers of shop.example.com",
    "health of shop: /",
)


def row(check: str, **changes: Any) -> dict[str, Any]:
    return {"host": "web1", "check": check, "expected": "", "found": "it", "ok": True} | changes


@pytest.fixture
def ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Evidence:
    """Return what is found when everything is as it should be."""
    monkeypatch.setattr(items, "_addresses", lambda _name: frozenset({"192.0.2.10"}))
    (tmp_path / "group_vars/all").mkdir(parents=True)
    (tmp_path / "group_vars/all/vault.yml").write_text("$ANSIBLE_VAULT;1.1;AES256\n00\n")
    return Evidence(
        site_of(SETTINGS, {}),
        tmp_path,
        looks=[row(check) for check in CHECKS],
        status={"web1": PICTURE},
        checks={"shop": None},
    )


def answers(evidence: Evidence) -> dict[str, Answer]:
    return {item.id: item.answer(evidence) for item in ITEMS}


def changed(evidence: Evidence, **app: Any) -> Evidence:
    return replace(evidence, site=site_of({**SETTINGS, "apps": [APP | app]}, {}))


def picture(evidence: Evidence, **changes: Any) -> Evidence:
    return replace(evidence, status={"web1": PICTURE | changes})


def served(evidence: Evidence, **changes: Any) -> Evidence:
    return picture(evidence, apps=[SERVED | changes])


def look(check: str) -> Callable[[Evidence], Evidence]:
    rows = [row(name, ok=not name.startswith(check)) for name in CHECKS]
    return lambda evidence: replace(evidence, looks=rows)


def test_everything_right_is_yes(ready: Evidence) -> None:
    found = answers(ready)
    assert {name: answer for name, answer in found.items() if answer.state != YES} == {}
    pairs = [(item, found[item.id]) for item in ITEMS]
    assert report.exit_code(pairs) == 0
    assert report.lines(pairs)[-1] == f"{len(ITEMS)} yes"


WRONG: dict[str, Callable[[Evidence], Evidence]] = {
    "settings": lambda it: replace(it, settings_problems="settings.yml:3: wrong"),
    "secrets": lambda it: replace(it, inventory=it.inventory / "none"),
    "no-literals": lambda it: changed(it, env={"API_TOKEN": "abc123"}),
    "debug": lambda it: changed(it, env={"DEBUG": "True"}),
    "image": lambda it: changed(
        it, source_mount={"directory": "/srv/source/shop", "target": "/app"}
    ),
    "allowed-hosts": lambda it: changed(it, env={"ALLOWED_HOSTS": "other.example.com"}),
    "migrations": lambda it: changed(it, migrations="none"),
    "restore-point": lambda it: changed(it, restore_point="never"),
    "offsite": lambda it: replace(it, site=site_of({"apps": [APP]}, {})),
    "notifications": lambda it: replace(it, site=site_of({"apps": [APP]}, {})),
    "dns": lambda it: changed(it, domains=["nowhere.example.com"]),
    "ports": look("other ports"),
    "certificates": look("certificate"),
    "redirect": look("http://"),
    "headers": look("headers"),
    "health": look("health"),
    "services": lambda it: served(it, ok=False, problems=["web does not answer"]),
    "database": lambda it: picture(it, database={"problems": ["wraparound is near"]}),
    "backups": lambda it: served(it, backup={"problem": "the last one failed"}),
    "restore": lambda it: served(it, verification=None),
    "alarms": lambda it: picture(
        it, alarms=[{"severity": "red", "words": "the disk is full", "command": "df"}]
    ),
    "check-deploy": lambda it: replace(it, checks={"shop": "security.W004"}),
}


def test_each_item_has_its_negative() -> None:
    assert list(WRONG) == [item.id for item in ITEMS]


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_no_with_a_way(
    ready: Evidence, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "dns":
        there = {"192.0.2.10": "192.0.2.10", "nowhere.example.com": "198.51.100.1"}
        monkeypatch.setattr(items, "_addresses", lambda host: frozenset({there[host]}))
    answer = answers(WRONG[name](ready))[name]
    assert answer.state == NO
    assert answer.found
    assert answer.fix


def test_vault_that_is_not_encrypted_is_no(ready: Evidence) -> None:
    (ready.inventory / "group_vars/all/vault.yml").write_text("bedstone_secrets: {}\n")
    assert answers(ready)["secrets"].state == NO


def test_any_allowed_host_is_no(ready: Evidence) -> None:
    evidence = changed(ready, env={"ALLOWED_HOSTS": "*,shop.example.com"})
    assert "any name" in answers(evidence)["allowed-hosts"].found


def test_before_a_server_exists_its_items_are_not_yet(ready: Evidence) -> None:
    nothing = replace(
        ready,
        looks=[row("address", ok=False, found="192.0.2.10: no answer")],
        status={},
        silent={"web1": "Failed to connect to the host via ssh: timed out\nmore"},
        checks={},
    )
    found = answers(nothing)
    later = {item.id for item in ITEMS if item.source not in {"preflight", "settings", "DNS"}}
    assert {name for name, answer in found.items() if answer.state == LATER} == later
    assert all(found[name].fix for name in later)
    assert "the server does not answer" in found["services"].found
    assert "192.0.2.10: no answer" in found["ports"].found
    pairs = [(item, found[item.id]) for item in ITEMS]
    assert report.exit_code(pairs) == 2
    data = json.loads(report.as_json(pairs))
    assert data["ok"] is False
    assert [one["id"] for one in data["items"]] == [item.id for item in ITEMS]


def test_no_counts_more_than_not_yet(ready: Evidence) -> None:
    found = replace(ready, looks=None, look_fault="refused", settings_problems="x:1: wrong")
    pairs = [(item, item.answer(found)) for item in ITEMS]
    assert report.exit_code(pairs) == 1
    text = "\n".join(report.lines(pairs))
    assert "no       Settings, vault and inventory are complete" in text
    assert "how: each problem has its file, line and example" in text


def test_one_silent_server_of_several_is_no(ready: Evidence) -> None:
    evidence = replace(ready, silent={"web2": "timed out"})
    assert answers(evidence)["services"] == Answer(
        NO, "web2: timed out", "bedstone status on the server names the command"
    )
