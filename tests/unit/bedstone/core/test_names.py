"""Units of apps, told by their names, which hold dashes."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedstone.apps import config
from bedstone.core import names, paths
from bedstone.core.names import Unit

APPS = {"a": {"b-web", "sync"}, "a-b": {"api", "job-x"}, "a-job": {"y"}}


@pytest.mark.parametrize(
    ("unit", "found"),
    [
        ("bedstone-a-b-web@blue.service", ("service", "a", "b-web@blue")),
        ("bedstone-a-b-web@1.service", ("service", "a", "b-web@1")),
        ("bedstone-a-sync@green-2.service", ("service", "a", "sync@green-2")),
        ("bedstone-a-b-job-x@1.service", ("service", "a-b", "job-x@1")),
        ("bedstone-a-job-sync.service", ("job", "a", "sync")),
        ("bedstone-a-job-y@1.service", ("service", "a-job", "y@1")),
        # Of an earlier release: the app with the longest name is a guess.
        ("bedstone-a-b-worker@1.service", ("service", "a-b", "worker@1")),
        ("bedstone-a-b-job-old.service", ("job", "a-b", "old")),
        ("bedstone-operation@a-b.service", ("operation", "a-b", "a-b")),
        ("bedstone-alarms.service", None),
        ("nginx.service", None),
    ],
)
def test_app_of_a_unit_is_the_one_that_has_such_a_service(
    unit: str, found: tuple[str, str, str] | None
) -> None:
    assert names.parse_unit(unit, APPS) == (Unit(*found) if found else None)


def test_every_slots_unit_leads_back_to_its_app() -> None:
    for app, services in {"shop": ["web", "web-api"], "shop-web": ["beat"]}.items():
        known = {"shop": {"web", "web-api"}, "shop-web": {"beat"}}
        for service in services:
            unit = names.slot_unit(app, f"{service}@blue")
            assert names.app_of_slot_unit(unit, known) == app


def test_what_runs_in_no_slot_is_no_slot() -> None:
    for unit in ("bedstone-a-job-sync.service", "bedstone-operation@a.service", "ssh.service"):
        assert names.app_of_slot_unit(unit, APPS) is None


def test_apps_are_known_with_services_and_jobs_and_without_a_readable_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEDSTONE_ROOT", str(tmp_path))
    for app, text in {
        "shop": '{"services": {"web-api": {}}, "jobs": {"clean": {}}}',
        "wiki": '{"services": null}',
        "broken": "{",
        "list": "[]",
    }.items():
        paths.app_config(app).parent.mkdir(parents=True)
        paths.app_config(app).write_text(text)
    assert config.declared_parts() == {
        "shop": {"web-api", "clean"},
        "wiki": set(),
        "broken": set(),
        "list": set(),
    }


@pytest.mark.parametrize(
    ("app", "bridge"),
    [
        ("shop", "br-shop"),
        ("payments-web", "br-payments-web"),
        # Docker's own names have this form.
        ("deadbeefcafe", "br-deadb-"),
        ("payments-webs", "br-payme-"),
    ],
)
def test_interface_of_an_app_fits_the_kernel_and_is_not_one_of_dockers(
    app: str, bridge: str
) -> None:
    found = names.bridge(app)
    assert found.startswith(bridge[:9])
    assert len(found) <= 15


def test_interfaces_of_apps_with_long_names_differ() -> None:
    assert names.bridge("payments-internal") != names.bridge("payments-external")


@pytest.mark.parametrize(
    ("slot", "replica"), [("blue", "1"), ("green-2", "2"), ("1", "1"), ("12", "12")]
)
def test_replica_is_the_same_on_both_sides(slot: str, replica: str) -> None:
    assert names.replica(slot) == replica
