"""`bedstone metrics`: what Prometheus reads, from the ledger and from files alone."""

from __future__ import annotations

import json
import os
import re
import subprocess
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from bedstone.cli import main
from bedstone.ledger import backups, database, observations, releases, verifications
from bedstone.ledger import growth as ledger_growth
from bedstone.ledger.verifications import Verification
from bedstone.status import growth as measurements
from bedstone.status.metrics import Collector
from bedstone.status.prometheus import Family, render

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
LINE = re.compile(r'([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)*)\})? (\S+)')


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BEDSTONE_ROOT", str(tmp_path))
    for directory in ("var/lib/docker", "var/lib/postgresql", "backups/payments"):
        (tmp_path / directory).mkdir(parents=True)
    settings = {
        "schema": 1,
        "directory": "/backups",
        "keep_days": 30,
        "keep_at_least": 2,
        "reserve_mb": 0,
        "jobs": 1,
        "socket": "/nowhere",
        "port": 5432,
        "databases": [{"app": "payments", "name": "payments", "owner": "payments_owner"}],
        "media": [{"app": "payments", "directory": "/srv/bedstone/payments/media"}],
    }
    path = tmp_path / "etc/bedstone/backup.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(settings))
    return tmp_path


def samples() -> dict[str, float]:
    """Return what is printed, each line checked: ``name{labels}`` -> value."""
    collector = Collector(NOW)
    text = render(collector.gather())
    assert collector.errors == []
    return parsed(text)


def parsed(text: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        match = LINE.fullmatch(line)
        assert match, line
        key = line.rpartition(" ")[0]
        assert key not in found, f"twice: {key}"
        found[key] = float(match[3])
    return found


def served(moment: datetime = NOW) -> str:
    """Let a release of payments serve, and return its id."""
    with database.opened() as connection:
        new = releases.NewRelease("v1.4.2", "f", "d", None)
        release, operation = releases.begin(connection, "payments", new)
        releases.commit(connection, "payments", release, "blue", operation)
        connection.execute("UPDATE operations SET finished_at = ?", (moment.isoformat(),))
    return release


def verified(state: str, moment: datetime, kind: str = "dump", destination: str = "local") -> None:
    stamp = moment.isoformat()
    verifications.record(
        Verification("payments", kind, "b", destination, state, stamp, stamp, 12.5)
    )


# --- the format ------------------------------------------------------------------------------


def test_label_values_and_help_are_escaped() -> None:
    family = Family("bedstone_x", 'a "quoted" \\ word\nand a line')
    family.add(1, path='C:\\new\n"dir"', app=None)
    assert render([family]) == (
        '# HELP bedstone_x a "quoted" \\\\ word\\nand a line\n'
        "# TYPE bedstone_x gauge\n"
        'bedstone_x{path="C:\\\\new\\n\\"dir\\"",app=""} 1\n'
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "1"),
        (3, "3"),
        (1_795_000_000.0, "1795000000"),
        (0.25, "0.25"),
        (float("inf"), "+Inf"),
        (float("-inf"), "-Inf"),
        (float("nan"), "NaN"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    family = Family("bedstone_x", "x")
    family.add(value)
    assert render([family]).splitlines()[-1] == f"bedstone_x {text}"


def test_family_without_a_sample_isnt_printed() -> None:
    family = Family("bedstone_x", "x")
    family.add(None, app="payments")
    assert render([family]) == ""


def test_name_that_is_no_utf8_doesnt_spoil_the_file() -> None:
    family = Family("bedstone_x", "x")
    family.add(1, path="/srv/\udcff")
    assert render([family]).encode()


def test_every_metric_has_one_type_and_its_lines_stand_together() -> None:
    served()
    verified("succeeded", NOW)
    backups.failed("payments", "nightly", NOW, "No space left on device")
    text = render(Collector(NOW).gather())
    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(names) == len(set(names))
    order = [re.split(r"[{ ]", line)[0] for line in text.splitlines() if line[0] != "#"]
    assert list(dict.fromkeys(order)) == names


# --- what is reported ----------------------------------------------------------------------------


def test_release_that_serves() -> None:
    release = served()
    found = samples()
    labels = f'app="payments",release="{release}",version="v1.4.2",slot="blue"'
    assert found[f"bedstone_release_serving_info{{{labels}}}"] == 1
    since = 'bedstone_release_serving_since_timestamp_seconds{app="payments"}'
    assert found[since] == NOW.timestamp()
    assert found['bedstone_operation_failed{app="payments"}'] == 0
    assert found['bedstone_maintenance{app="payments"}'] == 0
    assert found['bedstone_problems{app="payments"}'] == 0


def test_failed_release() -> None:
    served()
    with database.opened() as connection:
        operation = releases.begin_operation(connection, "payments", "rollback", "old")
        releases.fail(connection, operation, "verify", "answered 500")
    found = samples()
    assert found['bedstone_operation_failed{app="payments"}'] == 1
    assert found['bedstone_problems{app="payments"}'] == 1


def test_failed_backup_of_this_server() -> None:
    backups.failed("payments", "nightly", NOW, "No space left on device")
    found = samples()
    for kind in ("dump", "media"):
        labels = f'app="payments",kind="{kind}",destination="local"'
        assert found[f"bedstone_backup_failed{{{labels}}}"] == 1
        assert f"bedstone_backup_last_success_timestamp_seconds{{{labels}}}" not in found


def declare_destinations(root: Path) -> None:
    """Declare an SFTP server and a bucket; WAL goes to both, and stays here."""
    sftp = {"host": "backup.example.com", "port": 22, "user": "u", "path": "/srv"}
    s3 = {"endpoint": "s3.example.com", "bucket": "b", "region": "r", "path": "/p"}
    places = [
        {"name": "local", "type": "local", "restic": "/backups/.restic", "pgbackrest": 1},
        {"name": "offsite", "type": "sftp", "pgbackrest": None, **sftp},
        {"name": "bucket", "type": "s3", "pgbackrest": 3, "path_style": True, **s3},
    ]
    point = {"stanza": "main", "keep_days": 7, "keep_full": 2, "archive_timeout_seconds": 60}
    text = json.dumps({"schema": 1, "point_in_time": point, "destinations": places})
    (root / "etc/bedstone/destinations.json").write_text(text)
    (root / "etc/bedstone/backup.key").write_text("a long passphrase")


def test_what_was_seen_at_the_destinations(root: Path) -> None:
    declare_destinations(root)
    now = datetime.now(UTC).replace(microsecond=0)
    observations.record("offsite", "payments", "dump", newest="b", newest_at=now, size=4096)
    observations.record("bucket", "", "wal", newest="0001", newest_at=now, problem="a gap")
    observations.unseen("bucket", "payments", "media", "the server doesn't answer")
    observations.record("gone", "payments", "dump", newest="b", newest_at=now)
    found = samples()
    dump = 'app="payments",kind="dump",destination="offsite"'
    assert found[f"bedstone_backup_last_success_timestamp_seconds{{{dump}}}"] == now.timestamp()
    assert found[f"bedstone_backup_last_size_bytes{{{dump}}}"] == 4096
    assert found[f"bedstone_backup_problem{{{dump}}}"] == 0
    wal = 'app="",kind="wal",destination="bucket"'
    assert found[f"bedstone_backup_last_success_timestamp_seconds{{{wal}}}"] == now.timestamp()
    assert found[f"bedstone_backup_problem{{{wal}}}"] == 1
    media = 'app="payments",kind="media",destination="bucket"'
    assert found[f"bedstone_backup_problem{{{media}}}"] == 0, "out of reach for a moment"
    assert f"bedstone_backup_checked_timestamp_seconds{{{media}}}" not in found
    assert found['bedstone_problems{app=""}'] == 1
    assert not any('destination="gone"' in name for name in found), "not declared any more"


def test_old_copy_and_one_that_nobody_can_see_are_problems(root: Path) -> None:
    declare_destinations(root)
    now = datetime.now(UTC)
    observations.record(
        "offsite", "payments", "dump", newest="b", newest_at=now - timedelta(hours=30)
    )
    observations.unseen("bucket", "payments", "dump", "the server doesn't answer")
    with database.opened() as connection:
        since = (now - timedelta(hours=5)).isoformat()
        connection.execute(
            "UPDATE arrivals SET problem_since = ? WHERE destination = 'bucket'", (since,)
        )
    found = samples()
    for destination in ("offsite", "bucket"):
        labels = f'app="payments",kind="dump",destination="{destination}"'
        assert found[f"bedstone_backup_problem{{{labels}}}"] == 1
    assert found['bedstone_problems{app="payments"}'] == 2


def test_last_copy_to_a_destination_counts(root: Path) -> None:
    declare_destinations(root)
    with database.opened() as connection:
        for state in ("failed", "succeeded"):
            connection.execute(
                "INSERT INTO copies (app, kind, destination, state, started_at, finished_at)"
                " VALUES ('payments', 'dump', 'offsite', ?, '', '')",
                (state,),
            )
    name = 'bedstone_backup_failed{app="payments",kind="dump",destination="offsite"}'
    assert samples()[name] == 0


def test_verifications_by_kind_and_destination(root: Path) -> None:
    declare_destinations(root)
    verified("failed", NOW - timedelta(days=2))
    verified("succeeded", NOW, destination="gone")
    verified("succeeded", NOW - timedelta(days=1))
    verified("prevented", NOW)
    verified("failed", NOW, kind="wal", destination="offsite")
    found = samples()
    dump = 'app="payments",kind="dump",destination="local"'
    moment = (NOW - timedelta(days=1)).timestamp()
    assert found[f"bedstone_backup_verified_timestamp_seconds{{{dump}}}"] == moment
    assert found[f"bedstone_backup_verification_duration_seconds{{{dump}}}"] == 12.5
    assert found[f"bedstone_backup_verification_failed{{{dump}}}"] == 1, "came to nothing"
    wal = 'app="payments",kind="wal",destination="offsite"'
    assert found[f"bedstone_backup_verification_failed{{{wal}}}"] == 1
    assert f"bedstone_backup_verified_timestamp_seconds{{{wal}}}" not in found
    assert not any('destination="gone"' in name for name in found)


def test_growth_and_a_disk_that_will_be_full(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = str(root / "var/lib/docker")
    day = 86_400
    with database.opened() as connection:
        for past in range(4, 0, -1):
            free = {disk: 10_000 + past * day * 10}
            sizes = {"payments": 1_000_000 - past * day * 2}
            if past == 4:
                sizes["gone"] = 5
            ledger_growth.record(connection, NOW - timedelta(days=past), sizes, free)
    monkeypatch.setattr(measurements, "free", lambda _settings: {disk: 8_640_000})
    found = samples()
    assert found['bedstone_database_size_bytes{database="payments"}'] == 1_000_000 - 2 * day
    growth = found['bedstone_database_growth_bytes_per_second{database="payments"}']
    assert growth == pytest.approx(2)
    assert found[f'bedstone_disk_free_bytes{{path="{disk}"}}'] == 8_640_000
    assert found[f'bedstone_disk_full_in_seconds{{path="{disk}"}}'] == pytest.approx(864_000)
    assert 'bedstone_database_size_bytes{database="gone"}' not in found


def test_wal_that_waits(root: Path) -> None:
    status = root / "var/lib/postgresql/17/main/pg_wal/archive_status"
    status.mkdir(parents=True)
    for number, end in enumerate(("done", "ready", "ready")):
        path = status / f"00000001000000000000000{number}.{end}"
        path.touch()
        os.utime(path, (NOW.timestamp() + number,) * 2)
    found = samples()
    assert found['bedstone_wal_waiting_segments{cluster="17/main"}'] == 2
    since = 'bedstone_wal_waiting_since_timestamp_seconds{cluster="17/main"}'
    assert found[since] == NOW.timestamp() + 1
    for path in status.glob("*.ready"):
        path.unlink()
    found = samples()
    assert found['bedstone_wal_waiting_segments{cluster="17/main"}'] == 0
    assert since not in found


def test_one_broken_part_leaves_the_others(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    served()
    (root / "etc/bedstone/backup.json").write_text("{")
    assert main.main(["metrics"]) == 0
    printed = capsys.readouterr()
    found = parsed(printed.out)
    assert found['bedstone_collector_success{collector="backups"}'] == 0
    assert found['bedstone_collector_success{collector="releases"}'] == 1
    assert any(name.startswith("bedstone_release_serving_info") for name in found)
    assert "not measured: backups:" in printed.err


def test_bare_server_has_metrics_too(root: Path) -> None:
    (root / "etc/bedstone/backup.json").unlink()
    found = samples()
    assert found['bedstone_problems{app=""}'] == 0
    assert any(name.startswith("bedstone_build_info") for name in found)


# --- what runs it ----------------------------------------------------------------------------


def test_file_is_replaced_as_a_whole_and_everybody_may_read_it(root: Path) -> None:
    served()
    path = root / "bedstone.prom"
    path.write_text("old")
    path.chmod(0o600)
    assert main.main(["metrics", "--write", str(path)]) == 0
    assert parsed(path.read_text())
    assert path.stat().st_mode & 0o777 == 0o644
    assert [entry.name for entry in root.glob("*bedstone.prom*")] == ["bedstone.prom"]


def test_missing_directory_is_told(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["metrics", "--write", str(root / "nowhere/bedstone.prom")]) == 1
    assert "prometheus-node-exporter" in capsys.readouterr().err


def test_nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker, PostgreSQL and systemd may hang: they aren't asked."""

    def refuse(*arguments: object, **_: object) -> None:
        pytest.fail(f"starts {arguments}")

    served()
    for name in ("run", "Popen"):
        monkeypatch.setattr(subprocess, name, refuse)
    assert samples()
