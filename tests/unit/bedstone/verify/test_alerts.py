"""Another host verifies the backups: its results come back by the destinations alone.

In these tests both hosts have one root; all that they share is what lies at the destinations.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from bedstone.backup import verify_settings
from bedstone.cli import backups, main
from bedstone.core import paths
from bedstone.ledger import database
from bedstone.ledger import verifications as verify_history
from bedstone.ledger.verifications import Verification
from bedstone.notify import alarms
from bedstone.offsite import copies, observe, verification_reports
from bedstone.storage import destinations, restic_errors
from bedstone.verify import alerts, status

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bedstone.backup.settings import Settings
    from bedstone.storage.destinations import Destinations
    from tests.unit.fixtures.repositories import Elsewhere

NAME = "backup_20261120_020000"
NEWER = "backup_20261121_020000"
KINDS = ("dump", "media")


class Hosts:
    """The server `db1`, and `proofs1`, which verifies its backups."""

    def __init__(self, settings: Settings, known: Destinations, elsewhere: Elsewhere) -> None:
        self.settings = settings
        self.known = known
        self.elsewhere = elsewhere

    def prove(
        self, *, ago: timedelta = timedelta(0), state: str = "succeeded", **changes: Any
    ) -> None:
        """Record on `proofs1` the result of the verification of each part."""
        moment = (datetime.now(UTC) - ago).isoformat()
        entry = Verification("payments", "dump", NAME, "offsite", state, moment, moment, 1.5)
        error = None if state == "succeeded" else "the disk\nsmells"
        with paths.of_origin("db1"):
            for kind in KINDS:
                changed = {"kind": kind, "host": "proofs1", "error": error, **changes}
                verify_history.record(replace(entry, **changed))

    def leave(self) -> list[str]:
        """Leave the marks; return what failed."""
        with paths.of_origin("db1"):
            failures = verification_reports.leave(destinations.load().remote, "proofs1")
        return [error.message for error in failures]

    def look(self) -> None:
        """Look at the destinations, as `db1` does each hour."""
        for place in self.known.all:
            observe.measure(self.settings, place)

    def recorded(self) -> list[Verification]:
        """Return the results on `db1`, the newest first."""
        with database.opened() as connection:
            return verify_history.of_app(connection, "payments")

    def shown(self) -> dict[str, Any]:
        """Return what `bedstone status` shows on `db1`."""
        found = status.app_status("payments", None)
        assert found is not None
        return found


@pytest.fixture
def hosts(
    configure: Callable[..., Settings],
    declare: Callable[..., Destinations],
    key: Path,
    elsewhere: Elsewhere,
    root: Path,
) -> Hosts:
    assert key.exists()
    settings = configure(verify={"host": "proofs1", "origin": "db1", "checks": {}})
    known = declare()
    home = root / "etc/bedstone/verify/db1"
    home.mkdir(parents=True)
    for name in ("backup.json", "destinations.json", "backup.key"):
        shutil.copy(root / "etc/bedstone" / name, home / name)
    for place in known.remote:
        elsewhere.home(place.name).mkdir(parents=True)
    return Hosts(settings, known, elsewhere)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The events that the hooks get."""
    from bedstone.notify import events as hooks

    events: list[Any] = []

    def tell(event: Any) -> tuple[bool, tuple[str, ...]]:
        events.append(event)
        return True, ()

    monkeypatch.setattr(hooks, "send", tell)
    return events


def test_what_was_found_comes_back_once_whoever_looks_and_wherever(hosts: Hosts) -> None:
    hosts.prove()
    assert hosts.leave() == []
    assert hosts.recorded() == []
    hosts.look()
    found = hosts.recorded()
    assert [(a.kind, a.destination, a.state, a.backup, a.host) for a in found] == [
        ("media", "offsite", "succeeded", NAME, "proofs1"),
        ("dump", "offsite", "succeeded", NAME, "proofs1"),
    ]
    assert found[0].seconds == 1.5
    hosts.elsewhere.calls.clear()
    hosts.look()
    assert hosts.recorded() == found
    # Nor is a mark read again that was read.
    assert not [call for call in hosts.elsewhere.calls if "read" in call]


def test_attempt_whose_mark_was_lost_comes_with_the_next(hosts: Hosts) -> None:
    hosts.prove(ago=timedelta(days=7), state="prevented")
    hosts.elsewhere.broken = dict.fromkeys(("offsite", "bucket"), restic_errors.UNREACHABLE)
    assert len(hosts.leave()) == 2
    hosts.elsewhere.broken = {}
    hosts.prove()
    assert hosts.leave() == []
    hosts.look()
    assert [a.state for a in hosts.recorded()] == ["succeeded"] * 2 + ["prevented"] * 2


def test_destination_that_is_away_keeps_no_mark_from_the_other(hosts: Hosts) -> None:
    hosts.prove()
    hosts.elsewhere.broken = {"offsite": restic_errors.UNREACHABLE}
    assert hosts.leave() == ["offsite fails: unreachable."]
    hosts.look()
    assert [a.destination for a in hosts.recorded()] == ["offsite", "offsite"]


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        json.dumps({"schema": 2, "attempts": []}),
        json.dumps({"schema": 1, "attempts": [{"app": "payments"}]}),
        json.dumps({"schema": 1, "attempts": 7}),
    ],
)
def test_mark_of_no_use_is_told_once_and_harms_nothing(
    hosts: Hosts, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    hosts.prove()
    hosts.leave()
    for path in hosts.elsewhere.root.glob("elsewhere/*/*/verification.json"):
        path.write_text(text)
    hosts.look()
    assert hosts.recorded() == []
    assert capsys.readouterr().err.count("of proofs1 is of no use") == 2
    hosts.look()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "changes", [{"kind": "image"}, {"state": "perfect"}, {"finished_at": "2026-11-20T10:00:00"}]
)
def test_mark_with_something_unknown_in_it_is_of_no_use(
    hosts: Hosts, changes: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    hosts.prove()
    hosts.leave()
    for path in hosts.elsewhere.root.glob("elsewhere/*/*/verification.json"):
        document = json.loads(path.read_text())
        document["attempts"][0].update(changes)
        path.write_text(json.dumps(document))
    hosts.look()
    assert hosts.recorded() == []
    assert "is of no use" in capsys.readouterr().err


def test_without_another_host_declared_nobody_tells_of_proofs(
    hosts: Hosts, configure: Callable[..., Settings]
) -> None:
    hosts.prove()
    hosts.leave()
    configure()
    hosts.look()
    assert hosts.recorded() == []


def test_old_marks_go_and_the_newest_never(hosts: Hosts) -> None:
    hosts.prove()
    for _ in range(3):
        hosts.leave()
    kept = hosts.elsewhere.kept("offsite", kind="verification")
    old = [replace(mark, time=mark.time - timedelta(days=91)) for mark in kept]
    assert verification_reports.expired(old) == [mark.id for mark in old[:-1]]
    assert verification_reports.expired([old[0], *kept[1:]]) == [old[0].id]
    assert verification_reports.expired([]) == []
    # A mark is no backup.
    assert copies.whole(kept, "payments") == []


def test_status_says_when_where_and_by_whom(hosts: Hosts) -> None:
    for place in ("offsite", "bucket"):
        hosts.prove(ago=timedelta(days=1), destination=place)
    hosts.leave()
    hosts.look()
    shown = hosts.shown()
    assert shown["ok"]
    assert (shown["destination"], shown["backup"], shown["host"]) == ("offsite", NAME, "proofs1")
    # What lies on the server was sent there, byte by byte: it isn't verified again.
    assert [place["destination"] for place in shown["destinations"]] == ["offsite", "bucket"]


def test_silence_is_red_and_says_where_to_look(hosts: Hosts) -> None:
    hosts.prove(ago=timedelta(days=9))
    hosts.leave()
    hosts.look()
    assert hosts.shown()["problem"] == (
        "the last verification at offsite is 9 days old:"
        " `systemctl status bedstone-verify@db1.timer` on proofs1"
    )


def test_never_proved_is_red_and_says_the_command(hosts: Hosts) -> None:
    moment = (datetime.now(UTC) - timedelta(days=9)).isoformat()
    with database.opened() as connection:
        connection.execute(
            "INSERT INTO copies (app, kind, backup, destination, state, started_at, finished_at)"
            " VALUES ('payments', 'dump', ?, 'bucket', 'succeeded', ?, ?)",
            (NAME, moment, moment),
        )
    assert hosts.shown()["problem"] == (
        "no backup at bucket was ever verified: `bedstone verify --of db1 payments` on proofs1"
    )


def test_hooks_are_told_once_of_a_failure_and_once_that_it_is_over(
    hosts: Hosts, told: list[Any]
) -> None:
    hosts.prove(ago=timedelta(hours=2))
    hosts.prove(ago=timedelta(hours=1), state="failed")
    hosts.leave()
    hosts.look()
    alerts.report(hosts.settings)
    alerts.report(hosts.settings)
    (event,) = told
    assert event.app == "payments"
    assert f"payments: the verification of {NAME} failed: the disk (offsite)" in event.title
    assert event.hint == "proofs1 proves them: `journalctl -u bedstone-verify@db1` there."
    hosts.prove(backup=NEWER)
    hosts.leave()
    hosts.look()
    alerts.report(hosts.settings)
    assert len(told) == 1
    alerts.report(hosts.settings)
    assert [event.kind for event in told] == ["failure", "recovered"]
    assert alarms.since("verifications") == {}


def test_server_that_proves_its_own_leaves_that_to_its_unit(
    hosts: Hosts, configure: Callable[..., Settings], told: list[Any]
) -> None:
    hosts.prove(state="failed")
    hosts.leave()
    hosts.look()
    configure()
    alerts.report(hosts.settings)
    assert told == []


def test_proof_of_the_copy_counts_for_what_lies_here_and_its_damage_does_not(hosts: Hosts) -> None:
    hosts.prove()
    hosts.prove(state="failed", destination="bucket")
    hosts.leave()
    hosts.look()
    found = backups._elsewhere(hosts.recorded(), NAME, set(KINDS))
    assert found is not None
    assert (found.destination, found.state) == ("offsite", "succeeded")
    assert backups._elsewhere(hosts.recorded(), NEWER, set(KINDS)) is None


def test_metrics_leave_out_what_nobody_proves_any_longer(
    hosts: Hosts, capsys: pytest.CaptureFixture[str]
) -> None:
    hosts.prove(destination="offsite")
    hosts.leave()
    hosts.look()
    moment = (datetime.now(UTC) - timedelta(days=30)).isoformat()
    verify_history.record(
        Verification("payments", "dump", NAME, "local", "succeeded", moment, moment, 1.0)
    )
    assert main.main(["metrics"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "verified_timestamp" in line]
    assert [line for line in lines if 'destination="offsite"' in line]
    assert not [line for line in lines if 'destination="local"' in line]


def test_each_origin_has_settings_keys_and_a_ledger_of_its_own(hosts: Hosts, root: Path) -> None:
    own = (destinations.key_path(), paths.ledger(), hosts.known.get("offsite").secrets)
    with paths.of_origin("db1"):
        there = (destinations.key_path(), paths.ledger(), hosts.known.get("offsite").secrets)
        assert verify_settings.load().origin == "db1"
    assert not {*own} & {*there}
    assert there[0] == root / "etc/bedstone/verify/db1/backup.key"
    assert there[1] == root / "var/lib/bedstone/verify/db1/ledger.sqlite"
    assert (destinations.key_path(), paths.ledger()) == own[:2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--of", "db2"], "Those of: db1."),
        (["--of", "../../etc"], "Those of: db1."),
        (["--of", "db1", "--destination", "local"], "offsite, bucket."),
    ],
)
def test_what_can_not_be_proved_here_is_refused(
    hosts: Hosts, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hosts.known.remote
    assert main.main(["verify", *arguments]) == 3
    assert said in capsys.readouterr().err


def test_server_of_no_inventory_is_told_how_to_become_one_that_proves(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not (root / "etc/bedstone/verify").exists()
    assert main.main(["verify", "--of", "db1"]) == 3
    assert "the inventory's group `verify`" in capsys.readouterr().err
