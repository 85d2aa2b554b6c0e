"""An operation in a unit of its own; here a process plays the unit, and systemctl is a script."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bedstone.core import lock
from bedstone.core.errors import BedstoneError
from bedstone.release import detached
from bedstone.system.systemd import Systemd
from tests.unit.fixtures.checkout import ROOT

# `start` runs what $UNIT holds as another process; `is-active` shows whether it is alive.
SYSTEMCTL = """#!/bin/sh
pid="$BEDSTONE_ROOT/unit.pid"
case "$1" in
    start) (sleep "${QUEUED:-0}"; setsid sh -c "$UNIT" & echo $! > "$pid") \
        > /dev/null 2>&1 < /dev/null & [ "$QUEUED" ] || wait;;
    is-active)
        if [ -e "$pid" ] && kill -0 "$(cat "$pid")" 2> /dev/null; then echo active
        else echo inactive; fi;;
esac
"""

UNIT = """
import sys, time
from bedstone.core import lock
from bedstone.release import detached
request = detached.take("shop")
with lock.held("shop", "bedstone " + " ".join(request.argv)) as held, detached.log("shop") as log:
    log.line("begins for " + request.caller)
    held.beat("build")
    sys.stdin.close()
    while not (__import__("pathlib").Path(sys.argv[1]) / "go").exists():
        time.sleep(0.02)
    log.line("has built")
    with (__import__("pathlib").Path(sys.argv[1]) / "done").open("a") as done:
        done.write(request.argv[0] + " ")
    log.end({"ok": True, "argv": list(request.argv)})
"""


@pytest.fixture
def unit(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A unit that begins, waits for the file `go`, and ends."""
    programs = root / "bin"
    programs.mkdir()
    (programs / "systemctl").write_text(SYSTEMCTL)
    (programs / "systemctl").chmod(0o755)
    (root / "unit.py").write_text(UNIT)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setenv("UNIT", f"exec {sys.executable} {root}/unit.py {root}")
    monkeypatch.setenv("SUDO_USER", "rosa")
    yield root
    (root / "go").touch()
    wait_for(lambda: not alive(root))


def at_build() -> bool:
    owner = lock.owner("shop")
    return owner is not None and owner.step == "build"


def alive(root: Path) -> bool:
    pid = root / "unit.pid"
    if not pid.exists():
        return False
    return Path(f"/proc/{pid.read_text().strip()}").exists()


def wait_for(condition: object, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


def test_caller_follows_to_the_end(unit: Path) -> None:
    detached.start("shop", ["release", "shop"])
    (unit / "go").touch()
    lines: list[str] = []
    end = detached.follow("shop", lines.append)
    assert lines == ["begins for rosa", "has built"]
    assert end == {"ok": True, "argv": ["release", "shop"]}


def test_following_a_running_operation_leaves_systemd_alone(
    unit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detached.start("shop", ["release", "shop"])
    wait_for(at_build)
    asked: list[str] = []

    def active(_: Systemd, name: str) -> str:
        asked.append(name)
        return "active"

    monkeypatch.setattr(Systemd, "active", active)
    threading.Timer(2, (unit / "go").touch).start()
    assert detached.follow("shop", lambda _line: None) is not None
    # It may end between a look into its log and the look at its lock.
    assert len(asked) < 2


def test_second_is_told_who_since_when_and_at_what(unit: Path) -> None:
    del unit
    detached.start("shop", ["release", "shop"])
    wait_for(at_build)
    said = r"`bedstone release shop` \(process \d+, .*, since \d{4}.*, at build since \d{4}"
    with pytest.raises(lock.LockedError, match=said) as caught:
        detached.start("shop", ["rollback", "shop"])
    assert "bedstone watch shop" in str(caught.value.hint)


def test_killed_unit_ends_the_looking_on(unit: Path) -> None:
    detached.start("shop", ["release", "shop"])
    wait_for(at_build)
    os.kill(int((unit / "unit.pid").read_text()), signal.SIGKILL)
    lines: list[str] = []
    assert detached.follow("shop", lines.append) is None
    assert lines == ["begins for rosa"]


def test_whoever_comes_later_sees_all_of_it(unit: Path) -> None:
    detached.start("shop", ["release", "shop"])
    wait_for(at_build)
    seen: list[list[str]] = [[], []]
    threads = [
        threading.Thread(target=detached.follow, args=("shop", lines.append)) for lines in seen
    ]
    for thread in threads:
        thread.start()
    (unit / "go").touch()
    for thread in threads:
        thread.join(20)
    assert seen == [["begins for rosa", "has built"]] * 2


def test_caller_that_is_killed_ends_nothing(unit: Path) -> None:
    # As a terminal starts it: who runs these tests by nohup has the signal ignored.
    code = (
        "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL);"
        "from bedstone.release import detached; detached.start('shop', ['release', 'shop']);"
        "print('started', flush=True); detached.follow('shop', print)"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as caller:
        assert caller.stdout
        assert caller.stdout.readline() == "started\n"
        caller.send_signal(signal.SIGHUP)
    assert alive(unit)
    (unit / "go").touch()
    assert detached.follow("shop", lambda _line: None) is not None


def test_waits_for_the_one_on_its_way_when_asked_to(unit: Path) -> None:
    detached.start("shop", ["release", "shop"])
    wait_for(at_build)
    threading.Timer(0.3, (unit / "go").touch).start()
    detached.start("shop", ["release", "shop", "--if-changed"], wait_seconds=20)
    end = detached.follow("shop", lambda _line: None)
    assert end is not None
    assert end["argv"][-1] == "--if-changed"


def test_request_that_systemd_has_not_come_to_is_not_replaced_by_the_next_one(
    unit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The job waits in systemd's queue: the unit is inactive still.
    monkeypatch.setenv("QUEUED", "1")
    (unit / "go").touch()
    for kind in ("rollback", "release"):
        detached.start("shop", [kind, "shop"], wait_seconds=20)
    assert detached.follow("shop", lambda _line: None) is not None
    assert (unit / "done").read_text() == "rollback release "


def test_long_operation_does_not_count_as_one_that_does_not_end(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del root
    holder = lock.Owner(1, "bedstone release shop", "rosa", "now")
    # It has just begun, works for longer than an end may take, and tidies up for a moment.
    owners = iter([None, *[holder] * 4, None, None])
    states = iter(["active", "active", "inactive"])
    monkeypatch.setattr(detached, "_END_SECONDS", 0.1)
    monkeypatch.setattr(detached, "_STATE_EVERY_SECONDS", 0.05)
    monkeypatch.setattr(lock, "owner", lambda _name: next(owners))
    monkeypatch.setattr(Systemd, "active", lambda *_: next(states))
    detached._wait_until_free(Systemd(), "shop", 20)
    assert list(states) == []


def test_nothing_to_look_on_is_told(root: Path) -> None:
    del root
    with pytest.raises(BedstoneError, match="Nothing has been done with shop"):
        detached.follow("shop", print)
    with pytest.raises(BedstoneError, match="Nobody has asked"):
        detached.take("shop")


def test_request_is_for_root_alone(unit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIT", "true")
    monkeypatch.setattr(detached, "_BEGIN_SECONDS", 0.2)
    detached.start("shop", ["release", "shop"])
    path = unit / "run/bedstone/operations/shop.json"
    assert path.stat().st_mode & 0o077 == 0
    assert json.loads(path.read_text())["caller"] == "rosa"
