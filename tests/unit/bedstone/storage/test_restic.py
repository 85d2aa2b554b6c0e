"""How restic is called, and what its words mean: recorded from 0.14 and 0.18."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bedstone.core import process
from bedstone.core.process import Completed
from bedstone.storage import as_of, destinations, reachability, restic_errors
from bedstone.storage.reachability import ReachError
from bedstone.storage.restic import Contents, Repository
from bedstone.storage.restic_errors import ResticError

if TYPE_CHECKING:
    from collections.abc import Callable

    from bedstone.storage.destinations import Destinations

SAID = [
    # exit code, what it said, what it means
    (12, "Fatal: wrong password or no key found", restic_errors.KEY),
    (1, "Fatal: wrong password or no key found", restic_errors.KEY),
    (
        10,
        (
            '{"message_type":"exit_error","code":10,"message":"Fatal: repository does not exist:'
            " unable to open config file: Lstat /srv/x/config: file does not exist\\nIs there a"
            ' repository at the following location?"}'
        ),
        restic_errors.MISSING,
    ),
    (
        1,
        (
            "Fatal: unable to open config file: stat /root/x/config: no such file or directory\n"
            "Is there a repository at the following location?\n/root/x"
        ),
        restic_errors.MISSING,
    ),
    (1, "Fatal: unable to open config file: Lstat: file does not exist", restic_errors.MISSING),
    (
        1,
        "Fatal: unable to open config file: Stat: The specified key does not exist.",
        restic_errors.MISSING,
    ),
    (
        1,
        (
            'Fatal: unable to open config file: Stat: Head "https://nowhere.invalid/b/restic/config":'
            " dial tcp: lookup nowhere.invalid on 10.89.2.1:53: no such host\n"
            "Is there a repository at the following location?"
        ),
        restic_errors.UNREACHABLE,
    ),
    (
        1,
        (
            "subprocess ssh: No ED25519 host key is known for offsite and you have requested strict"
            " checking.\nFatal: unable to open repository at x: unable to start the sftp session"
        ),
        restic_errors.HOST_KEY,
    ),
    (
        1,
        (
            "Fatal: unable to open repository at sftp:b@offsite:/srv/restic: unable to start the"
            " sftp session, error: read |0: file already closed"
        ),
        restic_errors.UNREACHABLE,
    ),
    (
        1,
        (
            "Save(<data/ba221698ef>) failed: sftp: no space left on device\n"
            '{"message_type":"exit_error","code":1,"message":"Fatal: unable to save snapshot: sftp:'
            ' no space left on device"}'
        ),
        restic_errors.FULL,
    ),
    (
        1,
        (
            'Save(<data/a62d05f4d1>) returned error, retrying after 552ms: Write: sftp: "Failure"'
            ' (SSH_FX_FAILURE)\nFatal: unable to save snapshot: Write: sftp: "Failure"'
            " (SSH_FX_FAILURE)"
        ),
        restic_errors.FULL,
    ),
    (
        11,
        "Fatal: unable to create lock in backend: repository is already locked by PID 5206",
        restic_errors.LOCKED,
    ),
    (
        1,
        "unable to create lock in backend: repository is already locked exclusively by PID 5206",
        restic_errors.LOCKED,
    ),
    (
        1,
        (
            "pack 122670a8c8e3: unexpected file size: got 1000, expected 3000444\n"
            "Fatal: repository contains errors"
        ),
        restic_errors.DAMAGED,
    ),
    (
        1,
        (
            "ignoring error for /media/sub/b: StreamPack: ReadFull: unexpected EOF\n"
            "Fatal: There were 5 errors"
        ),
        restic_errors.DAMAGED,
    ),
    (
        1,
        (
            "Fatal: create repository at sftp:b@offsite:/root/x/restic failed: ReadDir:"
            " (/root/x/restic/keys): permission denied"
        ),
        restic_errors.REFUSED,
    ),
    (1, "Fatal: create key in repository at s3:x failed: Access Denied.", restic_errors.REFUSED),
    (2, "panic: runtime error", restic_errors.OTHER),
]


def completed(code: int, stdout: str, stderr: str) -> Completed:
    return Completed(("restic",), code, stdout, stderr, 0.1)


@pytest.mark.parametrize(("code", "said", "meaning"), SAID)
def test_words_of_both_versions_are_understood(code: int, said: str, meaning: str) -> None:
    assert restic_errors.reason(completed(code, "", said)) == meaning


class Program:
    """restic in a test: what it is called with, and what it says."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.environments: list[dict[str, str]] = []
        self.answers: dict[str, Completed | Callable[[], Completed]] = {}

    def __call__(self, argv: list[str], *, env: dict[str, str], **options: object) -> Completed:
        self.calls.append(argv)
        self.environments.append(env)
        known = {"cat", "init", "backup", "copy", "snapshots", "ls", "stats", "forget", "unlock"}
        command = next(word for word in argv if word in known | {"restore", "prune", "check"})
        answer = self.answers.get(command, completed(0, "", ""))
        ended = answer() if callable(answer) else answer
        on_stdout = options.get("on_stdout")
        if callable(on_stdout):
            for line in ended.stdout.splitlines():
                on_stdout(line)
        return ended


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, key: object) -> Program:
    del key
    found = Program()
    monkeypatch.setattr(process, "run", found)
    monkeypatch.setattr(reachability, "require", lambda _: None)
    monkeypatch.setattr(reachability, "ssh_problem", lambda _: None)
    return found


@pytest.fixture
def known(declare: Callable[..., Destinations]) -> Destinations:
    return declare()


def test_the_key_goes_by_its_file_and_access_keys_by_the_environment(
    program: Program, known: Destinations, root: Path
) -> None:
    secrets = root / "etc/bedstone/destinations/bucket"
    secrets.mkdir(parents=True)
    (secrets / "s3.json").write_text('{"access_key": "an-access-key", "secret_key": "a-secret"}')

    Repository(known.get("bucket")).exists()

    (argv,) = program.calls
    line = " ".join(argv)
    assert f"--password-file={destinations.key_path()}" in argv
    assert "--repo=s3:https://s3.example.com/backups/payments/restic" in argv
    assert "s3.bucket-lookup=path" in argv
    assert "a key of a test" not in line
    assert "an-access-key" not in line
    assert "a-secret" not in line
    assert program.environments[0]["AWS_ACCESS_KEY_ID"] == "an-access-key"
    assert program.environments[0]["AWS_SECRET_ACCESS_KEY"] == "a-secret"


def test_ssh_trusts_the_declared_host_keys_alone_and_asks_nobody(
    program: Program, known: Destinations, root: Path
) -> None:
    Repository(known.get("offsite")).exists()

    (argv,) = program.calls
    assert "--repo=sftp:bedstone@backup.example.com:/srv/bedstone/restic" in argv
    command = next(word for word in argv if word.startswith("sftp.command="))
    own = root / "etc/bedstone/destinations/offsite"
    for part in (
        "-p 2222",
        "-l bedstone",
        f"-i {own}/id",
        f"UserKnownHostsFile={own}/known_hosts",
        "GlobalKnownHostsFile=/dev/null",
        "StrictHostKeyChecking=yes",
        "BatchMode=yes",
        "-F none",
    ):
        assert part in command
    assert command.endswith("-s -- backup.example.com sftp")


def test_append_only_account_is_spoken_to_by_its_forced_command(
    program: Program, known: Destinations
) -> None:
    Repository(replace(known.get("offsite"), immutable=True)).exists()

    (argv,) = program.calls
    assert "--repo=rclone:offsite:/srv/bedstone/restic" in argv
    command = next(word for word in argv if word.startswith("rclone.program="))
    assert "StrictHostKeyChecking=yes" in command
    assert command.endswith(" -- backup.example.com")
    assert not any(word.startswith("sftp.command=") for word in argv)


def test_earlier_moment_is_read_without_a_lock_and_without_the_buckets_key(
    program: Program, known: Destinations, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(as_of, "served", lambda _place: nullcontext("rest:http+unix:///x:/"))
    then = known.get("bucket").at(datetime(2026, 11, 20, tzinfo=UTC))

    Repository(then).restore("x", root / "out")

    (argv,) = program.calls
    assert {"--repo=rest:http+unix:///x:/", "--no-lock", "--no-cache"} <= set(argv)
    assert not any("AWS" in name for name in program.environments[0])


def test_snapshot_that_can_not_be_dropped_is_told_and_no_error(
    program: Program, known: Destinations, caplog: pytest.LogCaptureFixture
) -> None:
    program.answers["forget"] = completed(1, "", "unexpected HTTP response (403): 403 Forbidden")
    Repository(known.get("offsite")).drop("abcd")
    assert "abcd isn't whole, and stays" in caplog.text


def test_everybody_else_comes_first(program: Program, known: Destinations) -> None:
    Repository(known.local).prune()

    assert program.calls[0][:6] == ["nice", "-n", "5", "ionice", "-t", "-c"]


def test_who_only_looks_needs_no_lock(program: Program, known: Destinations, root: Path) -> None:
    local, offsite = Repository(known.local), Repository(known.get("offsite"))
    local.exists()
    offsite.exists()
    local.restore("x", root / "out")
    assert all("--no-lock" in call for call in program.calls)

    program.calls.clear()
    # What is fetched from elsewhere isn't removed during the fetch.
    offsite.restore("x", root / "out")
    local.prune()
    local.forget(["x"])
    assert not any("--no-lock" in call for call in program.calls)


def test_without_a_key_nothing_is_done(program: Program, known: Destinations, key: Path) -> None:
    key.unlink()

    with pytest.raises(ResticError, match="There is no backup key"):
        Repository(known.local).exists()
    assert program.calls == []


def test_a_repository_is_made_only_where_there_is_none(
    program: Program, known: Destinations
) -> None:
    repository = Repository(known.get("offsite"))
    repository.ready(Repository(known.local))
    assert not any("init" in call for call in program.calls)

    program.answers["cat"] = completed(10, "", "Fatal: repository does not exist")
    repository.ready(Repository(known.local))

    init = program.calls[-1]
    assert "init" in init
    assert "--copy-chunker-params" in init
    assert f"--from-password-file={destinations.key_path()}" in init


def test_a_repository_of_another_key_is_never_made_anew(
    program: Program, known: Destinations
) -> None:
    program.answers["cat"] = completed(1, "", "Fatal: wrong password or no key found")

    with pytest.raises(ResticError) as raised:
        Repository(known.get("offsite")).ready()

    assert raised.value.reason == restic_errors.KEY
    assert "The backup key doesn't open the repository at offsite" in raised.value.message
    assert not any("init" in call for call in program.calls)


LISTED = json.dumps(
    [
        {
            "time": "2026-11-20T17:19:54.122899761Z",
            "paths": ["/srv/media"],
            "hostname": "h",
            "tags": ["app=payments", "kind=media"],
            "id": "950314cabf66",
        }
    ]
)


def test_snapshots_are_read(program: Program, known: Destinations) -> None:
    program.answers["snapshots"] = completed(0, LISTED, "")

    (found,) = Repository(known.local).snapshots({"app": "payments", "kind": "media"})

    assert found.id == "950314cabf66"
    assert found.tags == {"app": "payments", "kind": "media"}
    assert found.time.isoformat() == "2026-11-20T17:19:54.122899+00:00"
    assert "--tag=app=payments,kind=media" in program.calls[0]


def test_an_empty_repository_has_no_snapshots(program: Program, known: Destinations) -> None:
    program.answers["snapshots"] = completed(0, "null\n", "")

    assert Repository(known.local).snapshots() == []


def test_a_backup_that_says_nothing_of_a_snapshot_is_none(
    program: Program, known: Destinations, root: Path
) -> None:
    program.answers["backup"] = completed(0, "", "")

    with pytest.raises(ResticError, match="made no snapshot"):
        Repository(known.local).backup(root, ["media"], {"app": "payments"})


def test_a_backup_of_nothing_new_is_skipped_only_on_request(
    program: Program, known: Destinations, root: Path
) -> None:
    program.answers["backup"] = completed(0, json.dumps({"message_type": "summary"}), "")
    repository = Repository(known.local)

    assert repository.backup(root, ["media"], {}, skip_unchanged=True) == ("", [])
    assert "--skip-if-unchanged" in program.calls[0]
    with pytest.raises(ResticError, match="made no snapshot"):
        repository.backup(root, ["media"], {})
    assert "--skip-if-unchanged" not in program.calls[1]


def test_a_skipped_backup_that_could_not_read_all_is_told(
    program: Program, known: Destinations, root: Path
) -> None:
    (root / "media").mkdir()
    (root / "media/here").touch()
    line = json.dumps({"message_type": "error", "error": UNREADABLE, "item": "media/here"})
    program.answers["backup"] = completed(3, json.dumps({"message_type": "summary"}), line)

    with pytest.raises(ResticError, match="Not all of"):
        Repository(known.local).backup(root, ["media"], {}, skip_unchanged=True)

    assert len(program.calls) == 1


# In 0.14's words and in 0.18's.
GONE = {"Op": "lstat", "Path": "media/gone", "Err": 2}
UNREADABLE = {"message": "open media/here: input/output error"}


def partly(error: object, item: str) -> Completed:
    error_line = json.dumps({"message_type": "error", "error": error, "item": item})
    summary = json.dumps({"message_type": "summary", "snapshot_id": "950314ca"})
    return completed(3, summary, error_line)


def test_a_file_that_was_removed_meanwhile_is_told(
    program: Program, known: Destinations, root: Path
) -> None:
    program.answers["snapshots"] = completed(0, LISTED, "")
    program.answers["backup"] = partly(GONE, str(root / "media/gone"))

    _, changed = Repository(known.local).backup(root, ["media"], {})

    assert changed == [f"{root}/media/gone: removed before it was read"]


def test_a_file_that_can_not_be_read_is_a_failure_and_its_snapshot_goes(
    program: Program, known: Destinations, root: Path
) -> None:
    (root / "media").mkdir()
    (root / "media/here").write_text("x")
    program.answers["snapshots"] = completed(0, LISTED, "")
    program.answers["backup"] = partly(UNREADABLE, str(root / "media/here"))

    with pytest.raises(ResticError, match="Not all of"):
        Repository(known.local).backup(root, ["media"], {})

    assert program.calls[-1][-2:] == ["forget", "950314ca"]


def test_the_lock_of_a_dead_run_is_removed_and_the_call_made_again(
    program: Program, known: Destinations
) -> None:
    answers = [completed(1, "", "repository is already locked by PID 1"), completed(0, "", "")]
    program.answers["prune"] = lambda: answers.pop(0)

    Repository(known.local).prune()

    assert [call[-1] for call in program.calls] == ["prune", "unlock", "prune"]


def test_a_backup_waits_while_old_data_is_freed(
    program: Program, known: Destinations, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr("bedstone.storage.restic.time.sleep", waited.append)
    locked = completed(11, "", "repository is already locked exclusively by PID 1")
    made = completed(0, json.dumps({"message_type": "summary", "snapshot_id": "950314ca"}), "")
    answers = [locked, locked, locked, made]
    program.answers["backup"] = lambda: answers.pop(0)

    assert Repository(known.local).backup(root, ["media"], {})[0] == "950314ca"

    assert len(waited) == 2


def test_a_live_lock_is_told(program: Program, known: Destinations) -> None:
    program.answers["prune"] = completed(11, "", "repository is already locked by PID 1")

    with pytest.raises(ResticError, match="locked by a run that is still alive"):
        Repository(known.local).prune()


def test_files_and_links_are_counted_and_directories_are_not(
    program: Program, known: Destinations
) -> None:
    lines = [
        {"struct_type": "snapshot", "id": "950314cabf66"},
        {"struct_type": "node", "type": "dir", "path": "/media"},
        {"struct_type": "node", "type": "file", "path": "/media/a", "size": 10},
        {"struct_type": "node", "type": "symlink", "path": "/media/b"},
    ]
    program.answers["ls"] = completed(0, "\n".join(json.dumps(line) for line in lines), "")
    program.answers["stats"] = completed(0, '{"total_size": 10, "total_file_count": 3}', "")

    assert Repository(known.local).count("950314ca") == Contents("950314cabf66", 2, 10)


def test_a_server_that_stands_still_is_ended_and_told(
    program: Program, known: Destinations
) -> None:
    def still() -> Completed:
        raise process.TooLongError(
            "`nice` made no progress for 1200 seconds and was ended.", returncode=None, output=""
        )

    program.answers["backup"] = still

    with pytest.raises(ResticError) as raised:
        Repository(known.get("offsite")).backup(Path("/"), ["x"], {})

    assert raised.value.reason == restic_errors.UNREACHABLE
    assert "came to no end at offsite: made no progress for 1200 seconds" in raised.value.message


def test_what_ssh_says_is_told_when_restic_has_lost_it(
    program: Program, known: Destinations, monkeypatch: pytest.MonkeyPatch
) -> None:
    program.answers["cat"] = completed(1, "", "unable to start the sftp session, error: read |0")
    monkeypatch.setattr(
        reachability,
        "ssh_problem",
        lambda _: ReachError("The host key isn't.", reachability.HOST_KEY),
    )

    with pytest.raises(ResticError, match="The host key isn't") as raised:
        Repository(known.get("offsite")).exists()

    assert raised.value.reason == restic_errors.HOST_KEY
