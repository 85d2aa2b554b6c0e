"""A release that fails leaves the previous one serving, and reports the step and the cause.

That it leaves the workers alone, too, is seen in test_load.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from ledger_app import ENVIRONMENT, Ledger
from testinfra.host import Host

pytestmark = pytest.mark.usefixtures("web_alone")

UNITS = ["bedstone-ledger-*", "bedstone-operation@ledger", "nginx.service", "docker.service"]


@contextmanager
def nothing_changes(ledger: Ledger, *, releases: bool = True) -> Iterator[dict[str, object]]:
    """Assert that a block's failed release leaves all as it was, and that the next one works.

    Args:
        ledger: the app.
        releases: whether to try the next one: not where nothing was touched that it needs.

    """
    before, release = ledger.answer(), ledger.status()["release"]
    workers = ledger.workers()
    failed: dict[str, object] = {}
    yield failed
    assert ledger.answer() == before
    assert ledger.get("/api/")["version"] == before["version"]
    assert ledger.workers() == workers
    status = ledger.status()
    assert (status["release"], status["ok"]) == (release, True)
    said = ledger.host.run("bedstone status").stdout
    assert f"failed at {failed['failed_step']}" in said
    assert str(failed["error"]).splitlines()[0] in said
    version = ledger.source()
    if releases:
        ledger.release()
        assert ledger.answer()["version"] == version


def test_database_stopped(host: Host, ledger: Ledger) -> None:
    with nothing_changes(ledger) as failed:
        ledger.source("change", ["additive"])
        host.check_output("systemctl stop postgresql")
        try:
            failed.update(ledger.fails("release ledger"))
        finally:
            host.check_output("systemctl start postgresql")
        assert failed["failed_step"] in {"check", "plan", "restore_point", "migrate"}
        ledger.wait_until(lambda: host.run("runuser -u postgres -- psql -c 'SELECT 1'").rc == 0)


def test_migration_that_fails_half_way(ledger: Ledger) -> None:
    with nothing_changes(ledger) as failed:
        with ledger.load() as load:
            ledger.source("half", ["half"])
            failed.update(ledger.fails("release ledger"))
        ledger.check_nothing_lost(load)
        assert failed["failed_step"] == "migrate"
        assert "division by zero" in f"{failed['error']}{failed['details']}"
    assert ledger.migrated() == []


@contextmanager
def full_temporary_directory(host: Host) -> Iterator[str]:
    """A full directory in memory; what it holds touches no disk of the machine."""
    host.check_output("mkdir -p /run/small && mount -t tmpfs -o size=8k tmpfs /run/small")
    try:
        yield "/run/small"
    finally:
        host.check_output("umount --lazy /run/small")


def test_disk_full_while_building(host: Host, ledger: Ledger) -> None:
    """The source is unpacked into a file system that is full."""
    with nothing_changes(ledger, releases=False) as failed:
        ledger.source()
        with full_temporary_directory(host) as small:
            run = host.run("TMPDIR=%s bedstone release ledger --foreground --json", small)
        failed.update(json.loads(run.stdout))
        assert failed["failed_step"] == "image"
        assert "No space left on device" in f"{failed['error']}{failed['details']}"


@contextmanager
def full_state(host: Host, left_kilobytes: int) -> Iterator[None]:
    """Bedstone's own state, the ledger too, in a file system with a few kilobytes left."""
    host.check_output(
        "set -e; size=$(du -sk /var/lib/bedstone | cut -f1); mkdir -p /run/full;"
        "mount -t tmpfs -o size=$((size + 2048))k tmpfs /run/full;"
        "cp -a /var/lib/bedstone/. /run/full/; mount --bind /run/full /var/lib/bedstone;"
        "dd if=/dev/zero of=/run/full/filler bs=1k 2> /dev/null || true;"
        f"truncate -s -{left_kilobytes}K /run/full/filler"
    )
    try:
        yield
        host.check_output("rm -f /run/full/filler")
    finally:
        host.check_output(
            "set -e; rm -f /run/full/filler;"
            # A process of the operation may just be ending.
            "for i in $(seq 300); do umount /var/lib/bedstone && break; sleep 0.2; done;"
            "if mountpoint -q /var/lib/bedstone; then exit 1; fi;"
            "find /var/lib/bedstone -mindepth 1 -delete; cp -a /run/full/. /var/lib/bedstone/;"
            "umount /run/full"
        )


@pytest.mark.parametrize("left_kilobytes", [0, 64])
def test_disk_full_under_the_ledger(host: Host, ledger: Ledger, left_kilobytes: int) -> None:
    """Not even the failure can be recorded; the next command closes what was left open."""
    before = ledger.answer()
    with ledger.load() as load:
        version = ledger.source()
        with full_state(host, left_kilobytes):
            run = host.run("bedstone release ledger --json")
            assert run.rc != 0
            said = run.stdout + run.stderr
            assert any(
                words in said
                for words in ("are free at", "No space left", "can't be opened", "can't be written")
            ), said
            assert ledger.answer() == before
    ledger.check_nothing_lost(load)
    assert ledger.status()["ok"]
    ledger.release()
    assert ledger.answer()["version"] == version


def test_changed_environment_that_breaks_the_app(host: Host, ledger: Ledger) -> None:
    with nothing_changes(ledger) as failed:
        kept = host.check_output("mktemp")
        host.check_output("cp --preserve %s %s", ENVIRONMENT, kept)
        host.check_output("echo LEDGER_BEHAVIOUR=fail_behind_nginx >> %s", ENVIRONMENT)
        try:
            failed.update(ledger.fails("release ledger"))
        finally:
            host.check_output("mv %s %s", kept, ENVIRONMENT)
        assert failed["failed_step"] == "verify"
        assert "answered 500" in str(failed["error"])
