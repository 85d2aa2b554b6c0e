"""The converge action on real servers: behaviour that needs a kernel, systemd and ssh."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from again import applied, apply, refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from testinfra.host import Host

UNITS = ["parrot.service"]
PASSWORD = "correct-horse-battery"
PLACES = "/etc/parrot /opt/parrot /usr/local/bin /etc/systemd/system"
EVERYTHING = f"find {PLACES} -type f | sort | xargs sha256sum"


@pytest.fixture(scope="module", autouse=True)
def _put_back(host: Host) -> Iterator[None]:
    """Let the server be as the scenario says again, so that verify can run twice."""
    yield
    applied(host.backend.get_hostname())


def words(host: Host, path: str = "/etc/parrot/words") -> list[str]:
    lines: list[str] = host.file(path).content_string.splitlines()
    return lines[1:]


def test_everything_is_there_and_runs(host: Host) -> None:
    assert host.package("tree").is_installed
    assert words(host) == words(host, "/run/parrot-words") == ["hello", "world"]
    assert host.service("parrot.service").is_running
    assert host.service("parrot.service").is_enabled
    assert host.file("/usr/local/bin/parrot").mode == 0o755
    seeds = host.file("/srv/parrot/seeds")
    assert (seeds.user, seeds.mode) == ("daemon", 0o750)
    assert host.file("/etc/parrot/current").linked_to == "/etc/parrot/words"


def test_secret_is_closed_and_manifest_too(host: Host) -> None:
    assert host.file("/etc/parrot/password").mode == 0o600
    assert host.file("/var/lib/bedstone/converge/parrot.json").mode == 0o600


def test_nothing_is_left_behind(host: Host) -> None:
    for name in ("*.bedstone-new", "bedstone-stage-*", "upload-*"):
        # What goes while it looks makes it end with an error.
        assert host.run(f"find / -xdev -name '{name}'").stdout == ""


def test_no_change_costs_one_round_trip(server_name: str) -> None:
    run = apply(server_name, "-vvv")
    said = run.stdout + run.stderr
    assert "changed=0" in said
    assert said.count("SSH: EXEC") == 1, said
    assert "SSH: " not in said.replace("SSH: EXEC", "")


def test_change_reloads_without_a_restart(host: Host, server_name: str) -> None:
    process = host.check_output("systemctl show -P MainPID parrot.service")
    applied(server_name, parrot_words=["hello", "you"])
    assert words(host, "/run/parrot-words") == ["hello", "you"]
    assert words(host, "/run/parrot-index") == ["hello", "you"]
    assert host.check_output("systemctl show -P MainPID parrot.service") == process


def test_invalid_configuration_is_refused_and_nothing_changes(host: Host, server_name: str) -> None:
    before = host.check_output(EVERYTHING)
    said = refused(server_name, parrot_words=["bad"], parrot_extra=False)
    assert "`grep -q hello /etc/parrot/words` ended with exit code 1" in said
    assert host.check_output(EVERYTHING) == before
    assert host.service("parrot.service").is_running


def test_validator_sees_new_files_at_their_real_paths_and_removed_ones_gone(
    host: Host, server_name: str
) -> None:
    host.check_output("touch /run/parrot-wants-no-extra")
    try:
        refused(server_name, parrot_words=["hello", "again"])
        applied(server_name, parrot_words=["new"], parrot_valid="new", parrot_extra=False)
    finally:
        host.check_output("rm /run/parrot-wants-no-extra")
    assert not host.file("/etc/parrot/more.d").exists
    assert words(host) == ["new"]


def test_no_mount_of_a_validator_is_left(host: Host) -> None:
    assert "/etc" not in host.check_output("findmnt --list --noheadings -t overlay -o TARGET")


def test_secret_appears_in_no_output_and_no_log(host: Host, server_name: str) -> None:
    runs = []
    # The parrot itself may have said it before: it is the runs' own lines that count.
    start = host.check_output("journalctl --no-pager -n 0 --show-cursor").split("cursor: ")[1]
    place = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "password"
    for password in ("another-horse-entirely", PASSWORD):
        place.write_text(password)
        runs.append(apply(server_name, "-vvvv", "--diff"))
        assert host.file("/etc/parrot/password").content_string == f"password = {password}\n"
    said = "".join(run.stdout + run.stderr for run in runs)
    assert "SSH: EXEC" in said
    assert "/etc/parrot/password changes (sensitive" in said
    host.check_output("journalctl --sync")
    journal = host.check_output("journalctl --no-pager --after-cursor=%s", start)
    assert "converge" in journal
    for text in (said, journal):
        assert PASSWORD not in text
        assert "another-horse" not in text


def test_failing_unit_shows_its_journal_without_the_secret(host: Host, server_name: str) -> None:
    host.check_output("touch /run/parrot-poison && systemctl stop parrot.service")
    try:
        said = refused(server_name)
    finally:
        host.check_output("rm /run/parrot-poison")
    assert "`systemctl start parrot.service` failed" in said
    assert "poisoned" in said
    assert "(hidden)" in said
    assert PASSWORD not in said


def test_killed_run_is_completed_by_the_next(
    host: Host, server_name: str, wait_until: Callable[..., None]
) -> None:
    host.check_output("touch /run/parrot-hold")
    with ThreadPoolExecutor() as pool:
        run = pool.submit(apply, server_name, parrot_words=["hello", "killed"])
        try:
            indexing = "pgrep -f '^/bin/sh /usr/local/bin/parrot --index'"
            wait_until(lambda: host.run(indexing).rc == 0, seconds=180, what="the command runs")
            parent = host.check_output(f"ps -o ppid= -p $({indexing})").strip()
            host.check_output(f"kill -9 {parent} $({indexing})")
            assert run.result().returncode != 0
        finally:
            host.check_output("rm /run/parrot-hold")
    assert words(host) == ["hello", "killed"]
    assert "killed" not in words(host, "/run/parrot-words")
    said = applied(server_name, "-v", parrot_words=["hello", "killed"])
    assert "changed_paths: []" in said
    assert "killed" in words(host, "/run/parrot-index")
    assert "killed" in words(host, "/run/parrot-words")


def test_changed_upload_is_put_back(host: Host, server_name: str) -> None:
    before = host.check_output("sha256sum /opt/parrot/blob")
    host.check_output("echo x >> /opt/parrot/blob")
    applied(server_name)
    assert host.check_output("sha256sum /opt/parrot/blob") == before


def test_wrong_value_is_refused_with_the_template_named(server_name: str) -> None:
    said = refused(server_name, parrot_words=["{{ nowhere }}"])
    assert "templates/parrot/etc/parrot/words.j2, which makes /etc/parrot/words" in said
    assert "'nowhere' is undefined" in said
