"""What is asked of pgBackRest, and what is made of its answers."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bedstone.core import paths
from bedstone.core.errors import CommandError, RefusedError
from bedstone.core.process import Completed
from bedstone.postgres.server import Server
from bedstone.storage.destinations import Destination, Destinations, PointInTime
from bedstone.wal import info
from bedstone.wal import stanza as pgbackrest
from bedstone.wal.errors import ForeignError, GoneError, UnreachableError, WrongKeyError
from bedstone.wal.stanza import Stanza, address

LOCAL = Destination("local", "local", 1)
BUCKET = Destination("bucket", "s3", 2, endpoint="s3.example", bucket="b")
DUMPS = Destination("dumps", "sftp", None, host="h", user="u", path="/p")
KNOWN = Destinations((LOCAL, DUMPS, BUCKET), PointInTime("main", 7, 2, 60))
SYSTEM = 7000000000000000001


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def backup(label: str, at: str, kind: str = "full", **changes: Any) -> dict[str, Any]:
    start = int(moment(at).timestamp())
    return {
        "label": label,
        "type": kind,
        "timestamp": {"start": start, "stop": start + 60},
        "info": {"size": 1000, "repository": {"delta": 300}},
        "archive": {"start": "000000010000000000000003", "stop": "000000010000000000000004"},
        "prior": None,
        "error": False,
        "database": {"id": 1, "repo-key": 1},
        **changes,
    }


def stanza_of(*backups: dict[str, Any], **changes: Any) -> dict[str, Any]:
    ok = {"code": 0, "message": "ok"}
    return {
        "name": "main",
        "status": ok,
        "repo": [{"key": 1, "status": ok}, {"key": 2, "status": ok}],
        "db": [{"id": 1, "repo-key": 1, "system-id": SYSTEM, "version": "17"}],
        "archive": [
            {
                "database": {"id": 1},
                "id": "17-1",
                "min": "000000010000000000000001",
                "max": "000000010000000000000009",
            }
        ],
        "backup": list(backups),
        **changes,
    }


WEEK = (
    backup("20261101-010000F", "2026-11-01T01:00"),
    backup("20261101-010000F_20261102-010000I", "2026-11-02T01:00", "incr"),
    backup("20261108-010000F", "2026-11-08T01:00"),
)


class Programs:
    """In place of pgBackRest and psql: records the calls, and gives the test's answers."""

    def __init__(self, **answers: str | CommandError) -> None:
        self.answers = answers
        self.asked: list[list[str]] = []

    def __call__(self, argv: Sequence[str], **options: Any) -> Completed:
        self.asked.append(list(argv))
        command = next((name for name in self.answers if name in argv), None)
        answer = self.answers[command] if command else ""
        if isinstance(answer, CommandError):
            raise answer
        if options.get("stdout") is not None:
            options["stdout"].write(answer.encode())
        return Completed(tuple(argv), 0, answer, "", 0.1)

    def arguments(self, command: str) -> list[str]:
        return next(argv[argv.index("pgbackrest") + 1 :] for argv in self.asked if command in argv)


class FakeServer(Server):
    """A PostgreSQL that only says who it is."""

    def execute(
        self,
        sql: str,
        database: str = "postgres",
        *,
        timeout: float | None = 60,
        user: str = "postgres",
    ) -> str:
        del database, timeout, user
        return str(SYSTEM) if "system_identifier" in sql else "170012"


def stanza(programs: Programs) -> Stanza:
    server = FakeServer("/run", 5432)
    return Stanza(KNOWN, server=server, runner=programs, connect=lambda _: None)


def answering(*backups: dict[str, Any], **changes: Any) -> Programs:
    return Programs(info=json.dumps([stanza_of(*backups, **changes)]))


def test_destinations_without_wal_are_left_out() -> None:
    assert stanza(Programs()).repositories == (LOCAL, BUCKET)


def test_server_without_wal_is_told_how_to_turn_it_on() -> None:
    with pytest.raises(RefusedError, match="No WAL is archived"):
        Stanza(Destinations((LOCAL,)))


def test_no_wal_goes_to_a_destination_of_dumps() -> None:
    with pytest.raises(RefusedError, match="No WAL goes to dumps"):
        stanza(Programs()).info(DUMPS)


def test_cluster_of_another_server_is_asked_for_by_a_configuration_of_its_own() -> None:
    programs = answering(*WEEK)
    with paths.of_origin("db1"):
        stanza(programs).info(BUCKET)
    assert programs.arguments("info")[1:3] == [
        "--config=/etc/pgbackrest/verify/db1/pgbackrest.conf",
        "--repo=2",
    ]


def test_info_is_asked_of_one_repository() -> None:
    programs = answering(*WEEK)
    found = stanza(programs).info(BUCKET)
    assert programs.arguments("info") == ["--stanza=main", "--repo=2", "info", "--output=json"]
    assert [entry.label for entry in found.backups] == [entry["label"] for entry in WEEK]
    assert found.newest is not None
    assert found.newest.label == "20261108-010000F"
    assert found.newest_wal == "000000010000000000000009"
    assert (found.system, found.version, found.archive) == (SYSTEM, "17", "17-1")


def test_chain_of_an_incremental_backup_is_its_full_one() -> None:
    found = stanza(answering(*WEEK)).info(LOCAL)
    assert found.backups[1].full == "20261101-010000F"


def test_repository_without_half_of_its_files_is_broken() -> None:
    status = {"code": 3, "message": "missing stanza data"}
    with pytest.raises(GoneError, match="no whole repository at local"):
        stanza(answering(status=status, repo=[], db=[], archive=[])).info(LOCAL)


def test_repository_without_a_stanza_is_empty() -> None:
    status = {"code": 1, "message": "missing stanza path"}
    found = stanza(answering(status=status, repo=[], db=[], archive=[])).info(LOCAL)
    assert not found.exists
    assert found.newest is None


def test_info_of_a_repository_that_is_away_is_an_error() -> None:
    away = {"code": 99, "message": "[HostConnectError] unable to connect to 's3.example:443'"}
    repositories = [{"key": 2, "status": away}]
    with pytest.raises(UnreachableError, match="bucket"):
        stanza(answering(repo=repositories, db=[], archive=[])).info(BUCKET)


def test_noise_of_a_wrong_key_is_told_as_that() -> None:
    noise = "[FormatError] key/value found outside of section at line 1: \x07\x9d\x1b"
    text = json.dumps([stanza_of(repo=[{"key": 2, "status": {"code": 99, "message": "X"}}])])
    programs = Programs(info=text.replace('"X"', f'"{noise}"'))
    with pytest.raises(WrongKeyError) as refused:
        stanza(programs).info(BUCKET)
    assert "\x1b" not in refused.value.text()


def test_stanza_is_made_only_where_there_is_none() -> None:
    programs = answering(*WEEK)
    assert stanza(programs).create() == ()
    assert not [argv for argv in programs.asked if "stanza-create" in argv]
    missing = {"code": 1, "message": "missing stanza path"}
    programs = answering(status=missing, repo=[], db=[], archive=[])
    assert stanza(programs).create() == ("local", "bucket")
    assert programs.arguments("stanza-create") == ["--stanza=main", "stanza-create"]


def test_stanza_is_made_between_two_pieces_of_wal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pgbackrest, "_PAUSE_SECONDS", 0)
    programs = answering(*WEEK)
    locked = CommandError("failed", returncode=50, output="ERROR: [050]: unable to acquire lock")
    answers: list[str | CommandError] = [locked, locked, ""]

    def run(argv: Sequence[str], **options: Any) -> Completed:
        if "stanza-upgrade" in argv:
            programs.answers["stanza-upgrade"] = answers.pop(0)
        return programs(argv, **options)

    Stanza(KNOWN, server=FakeServer("/run", 5432), runner=run).upgrade()
    assert answers == []


@pytest.mark.parametrize(
    ("present", "words"),
    [
        ({"system-id": 42, "version": "17"}, f"cluster 42, and this is cluster {SYSTEM}"),
        ({"system-id": SYSTEM, "version": "15"}, "PostgreSQL 15, and this server runs 17"),
    ],
)
def test_archive_of_another_cluster_is_left_alone(present: dict[str, Any], words: str) -> None:
    programs = answering(db=[{"id": 1, "repo-key": 1, **present}])
    with pytest.raises(ForeignError) as refused:
        stanza(programs).create()
    assert words in refused.value.message
    assert "--new-cluster" in (refused.value.hint or "")
    assert not [argv for argv in programs.asked if "stanza-create" in argv]


def test_archive_of_the_cluster_after_an_upgrade_is_ours() -> None:
    history = [
        {"id": 1, "repo-key": 1, "system-id": 42, "version": "15"},
        {"id": 2, "repo-key": 1, "system-id": SYSTEM, "version": "17"},
    ]
    found = stanza(answering(db=history, archive=[]))
    assert found.is_ours(LOCAL)
    assert found.info(LOCAL).newest_wal is None


def test_backup_into_nothing_is_refused() -> None:
    with pytest.raises(GoneError, match="There is no repository at local"):
        stanza(answering(db=[], archive=[], repo=[], status={"code": 1, "message": "x"})).ready(
            LOCAL
        )


def test_backup_goes_to_one_destination_and_is_asked_for_there() -> None:
    programs = answering(*WEEK)
    found = stanza(programs).backup("incr", BUCKET)
    assert programs.arguments("backup") == ["--stanza=main", "--repo=2", "backup", "--type=incr"]
    assert found.newest is not None


def test_retention_is_told_to_one_repository() -> None:
    programs = answering(*WEEK)
    stanza(programs).expire(BUCKET, 3)
    assert programs.arguments("expire") == [
        "--stanza=main", "--repo=2", "expire", "--repo2-retention-full-type=count",
        "--repo2-retention-full=3",
    ]  # fmt: skip


def test_restore_begins_from_the_newest_backup_before_the_moment(tmp_path: Path) -> None:
    programs = answering(*WEEK)
    target = moment("2026-11-05T12:00:00.25")
    label = stanza(programs).restore(BUCKET, tmp_path, target=target, databases=["payments"])
    assert label == "20261101-010000F_20261102-010000I"
    arguments = programs.arguments("restore")
    for wanted in (
        f"--pg1-path={tmp_path}",
        f"--set={label}",
        "--type=time",
        "--target=2026-11-05 12:00:00.250000+00",
        "--target-action=promote",
        "--archive-mode=off",
        "--db-include=payments",
    ):
        assert wanted in arguments


def test_versioned_bucket_is_read_as_it_was(tmp_path: Path) -> None:
    programs = answering(*WEEK)
    then = BUCKET.at(moment("2026-11-05T12:00:00.25"))
    stanza(programs).restore(then, tmp_path)
    read = "--repo-target-time=2026-11-05 12:00:00+00"
    assert read in programs.arguments("info")
    assert read in programs.arguments("restore")


def test_restore_without_a_moment_takes_all_the_wal(tmp_path: Path) -> None:
    programs = answering(*WEEK)
    assert stanza(programs).restore(LOCAL, tmp_path) == "20261108-010000F"
    arguments = programs.arguments("restore")
    assert "--archive-mode=off" in arguments
    assert not [
        argument for argument in arguments if argument.startswith("--t") and "map" not in argument
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target": moment("2026-10-01T00:00")}, "oldest backup there ended at 2026-11-01 01:01"),
        (
            {"target": moment("2026-11-05T00:00"), "label": "20261108-010000F"},
            "the backup 20261108-010000F ended at",
        ),
        ({"label": "20200101-010000F"}, "no backup 20200101-010000F"),
    ],
)
def test_moment_that_no_backup_leads_to_is_refused(
    tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    programs = answering(*WEEK)
    with pytest.raises(RefusedError, match=words):
        stanza(programs).restore(LOCAL, tmp_path, **options)
    assert not [argv for argv in programs.asked if "restore" in argv]


def test_restore_from_where_nothing_is_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="There is no backup of the cluster at local"):
        stanza(answering()).restore(LOCAL, tmp_path)


def test_segments_are_listed_with_their_arrival() -> None:
    digest = "0123456789abcdef0123456789abcdef01234567"
    listing = {
        f"0000000100000000/00000001000000000000000{n}-{digest}.zst": {"type": "file", "time": n}
        for n in (2, 1)
    }
    listing["0000000100000000"] = {"type": "path"}
    programs = Programs(**{"repo-ls": json.dumps(listing)})
    found = stanza(programs).segments(BUCKET, "17-1")
    assert [segment.name[-1] for segment in found] == ["1", "2"]
    assert found[1].arrived_at == datetime.fromtimestamp(2, UTC)
    assert programs.arguments("repo-ls")[-1] == "archive/main/17-1"


def test_failure_is_told_with_the_place() -> None:
    failed = CommandError(
        "failed", returncode=49, output="ERROR: [049]: unable to connect to 's3.example:443'"
    )
    with pytest.raises(UnreachableError, match=r"bucket \(s3 s3\.example/b\)"):
        stanza(Programs(backup=failed)).backup("full", BUCKET)


def test_destination_that_is_away_is_not_waited_for() -> None:
    def away(where: tuple[str, int]) -> None:
        assert where == ("s3.example", 443)
        raise ConnectionRefusedError(111, "Connection refused")

    programs = answering(*WEEK)
    found = Stanza(KNOWN, server=FakeServer("/run", 5432), runner=programs, connect=away)
    with pytest.raises(UnreachableError, match="can't be reached: Connection refused"):
        found.info(BUCKET)
    assert not programs.asked
    assert found.info(LOCAL).exists


@pytest.mark.parametrize(
    ("place", "where"),
    [
        (DUMPS, ("h", 22)),
        (BUCKET, ("s3.example", 443)),
        (replace(BUCKET, endpoint="https://minio.lan:9000"), ("minio.lan", 9000)),
    ],
)
def test_address_of_a_destination(place: Destination, where: tuple[str, int]) -> None:
    assert address(place) == where


def test_what_is_no_json_is_told() -> None:
    with pytest.raises(Exception, match="can't be read"):
        info.parse("[{}]", 1)


def test_backup_is_ended_by_what_watches_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "pgbackrest"
    # Its own processes would copy on what they have begun.
    program.write_text(
        f"#!/bin/sh\ntail -f /dev/null & echo $! > {tmp_path}/child\n"
        f"touch {tmp_path}/begun\nexec tail -f /dev/null\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr("os.geteuid", lambda: 1000)

    def watch() -> None:
        if (tmp_path / "begun").exists():
            raise RefusedError("The disk is full.")

    with pytest.raises(RefusedError, match="The disk is full"):
        Stanza(KNOWN, server=Server("/run", 5432)).backup("full", LOCAL, watch=watch)

    child = Path("/proc") / (tmp_path / "child").read_text().strip() / "stat"
    limit = time.monotonic() + 30
    # Ended, or ended and not yet waited for by the process that inherited it.
    while child.exists() and child.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < limit


def test_server_is_knocked_at_once_in_a_while_and_again_after_a_failure() -> None:
    knocks: list[tuple[str, int]] = []
    programs = answering(*WEEK)
    found = Stanza(KNOWN, server=FakeServer("/run", 5432), runner=programs, connect=knocks.append)
    for _ in range(20):
        found.info(BUCKET)
    assert knocks == [("s3.example", 443)]

    programs.answers["info"] = CommandError("failed", returncode=49, output="ERROR: [049]: away")
    for _ in range(2):
        with pytest.raises(UnreachableError):
            found.info(BUCKET)
    assert len(knocks) == 2
