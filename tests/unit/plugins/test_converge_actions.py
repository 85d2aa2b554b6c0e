"""What follows from a change: validators before it, commands and units after it, killed or not."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from bedstone_run import ConvergeError

from tests.unit.fixtures.fake_server import FakeServer

if TYPE_CHECKING:
    from collections.abc import Callable

CONF = {"path": "/etc/web/web.conf", "content": "port = 1\n"}
UNIT = {
    "name": "web.service",
    "enabled": True,
    "state": "started",
    "reload_on": ["/etc/web/**"],
    "restart_on": ["/etc/systemd/system/web.service.d/*"],
}


@pytest.fixture
def running(server: FakeServer) -> FakeServer:
    """Return a server where web.service has been installed, enabled and started."""
    server.set_unit("web.service", active="active", file="enabled")
    server.converge({"files": [CONF], "units": [UNIT]})
    server.forget_calls()
    return server


# Packages


def test_missing_packages_alone_are_installed_without_recommends(server: FakeServer) -> None:
    server.set_package("openssl", "3.0")
    result = server.converge({"packages": ["nginx", "openssl"]})
    assert result.packages == ["nginx"]
    (install,) = [call for call in server.calls if call[:2] == ["apt-get", "install"]]
    assert install[-2:] == ["--", "nginx"]
    assert "--no-install-recommends" in install
    assert not server.converge({"packages": ["nginx", "openssl"]}).changed


def test_another_version_than_the_wanted_one_is_missing(server: FakeServer) -> None:
    server.set_package("postgresql-17", "17.1-1")
    assert server.converge({"packages": ["postgresql-17=17.*"]}).packages == []
    assert server.converge({"packages": ["postgresql-17=17.2*"]}, check=True).packages == [
        "postgresql-17=17.2*"
    ]


def test_removed_package_with_its_configuration_left_is_missing(server: FakeServer) -> None:
    server.answers["dpkg-query"] = (0, "nginx config-files 1.0\n")
    assert server.converge({"packages": ["nginx"]}, check=True).packages == ["nginx"]


def test_lists_are_fetched_once_and_again_for_a_new_source(server: FakeServer) -> None:
    def updates() -> int:
        return sum(call[:2] == ["apt-get", "update"] for call in server.calls)

    server.write("/etc/apt/sources.list.d/debian.sources")
    os.utime(server.path("/etc/apt/sources.list.d/debian.sources"), (1, 1))
    os.utime(server.path("/etc/apt/sources.list.d"), (1, 1))
    server.converge({"packages": ["a"]})
    server.converge({"packages": ["b"]})
    assert updates() == 1
    stamp = server.path("/var/lib/bedstone/converge/.package-lists-fetched")
    os.utime(stamp, (stamp.stat().st_mtime - 5, stamp.stat().st_mtime - 5))
    server.write("/etc/apt/sources.list.d/pgdg.sources")
    server.converge({"packages": ["c"]})
    assert updates() == 2


def test_failed_install_says_what_apt_said_and_changes_no_file(server: FakeServer) -> None:
    server.answers["apt-get install"] = (100, "E: Unable to locate package ngnix")
    with pytest.raises(ConvergeError, match=r"Installing ngnix failed .*\n.*Unable to locate"):
        server.converge({"packages": ["ngnix"], "files": [CONF]})
    assert server.everything() == {}


def test_install_that_fails_on_old_lists_is_tried_with_new_ones(server: FakeServer) -> None:
    server.converge({"packages": ["a"]})
    server.forget_calls()
    server.answers["apt-get install"] = (100, "E: Unable to locate package b")
    server.before_call = lambda call: (
        server.answers.clear() if call[:2] == ["apt-get", "update"] else None
    )
    assert server.converge({"packages": ["b"]}).packages == ["b"]


def test_lock_of_another_apt_is_waited_for(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: server.errors.clear())
    server.errors["apt-get update"] = "E: Could not get lock /var/lib/apt/lists/lock."
    assert server.converge({"packages": ["a"]}).packages == ["a"]


def test_interrupted_dpkg_is_completed_first(server: FakeServer) -> None:
    server.errors["apt-get install"] = "E: dpkg was interrupted, run 'dpkg --configure -a'"
    server.before_call = lambda call: server.errors.clear() if call[0] == "dpkg" else None
    assert server.converge({"packages": ["a"]}).packages == ["a"]


# Validators


def staged(server: FakeServer, look: Callable[[Path], None]) -> None:
    """Let `look` see the stage while the validator `check` runs."""

    def before(call: list[str]) -> None:
        if call[0] == "check":
            look(Path(call[1]))

    server.before_call = before


VALIDATE = [{"command": ["check", "{stage}"]}]


def test_validator_sees_everything_declared_before_it_is_in_place(server: FakeServer) -> None:
    seen: dict[str, str] = {}

    def look(stage: Path) -> None:
        seen["changed"] = (stage / "etc/web/web.conf").read_text()
        seen["unchanged"] = (stage / "etc/web/other.conf").read_text()
        seen["mode"] = f"{(stage / 'etc/web/secret').stat().st_mode & 0o777:o}"
        seen["link"] = str((stage / "etc/web/link").readlink())
        seen["live"] = server.read("/etc/web/web.conf")
        seen["stage"] = f"{stage.parent.stat().st_mode & 0o777:o}"

    other = {"path": "/etc/web/other.conf", "content": "o"}
    server.converge({"files": [CONF, other]})
    staged(server, look)
    server.converge(
        {
            "files": [
                {**CONF, "content": "port = 2\n"},
                other,
                {"path": "/etc/web/secret", "content": "s", "mode": "0600"},
            ],
            "links": [{"path": "/etc/web/link", "target": "x"}],
            "validate": VALIDATE,
        }
    )
    assert seen == {
        "changed": "port = 2\n",
        "unchanged": "o",
        "mode": "600",
        "link": "x",
        "live": "port = 1\n",
        "stage": "700",
    }
    assert not list(server.path("/var/tmp").iterdir())


def test_failing_validator_changes_nothing_and_names_real_paths(server: FakeServer) -> None:
    server.converge({"files": [CONF]})
    before = server.everything()
    stage: list[str] = []
    staged(server, lambda place: stage.append(str(place)))

    def answer(call: list[str]) -> None:
        if call[0] == "check":
            server.answers["check"] = (1, f"error in {call[1]}/etc/web/web.conf:3")

    server.before_call = answer
    with pytest.raises(ConvergeError) as error:
        server.converge(
            {
                "files": [{**CONF, "content": "bad"}, {"path": "/new", "content": ""}],
                "links": [{"path": "/l", "target": "x"}],
                "directories": [{"path": "/srv/new"}],
                "absent": ["/etc/web/web.conf.old"],
                "validate": VALIDATE,
                "units": [UNIT],
            }
        )
    assert "error in /etc/web/web.conf:3" in str(error.value)
    assert "nothing was changed" in str(error.value)
    assert "bedstone-stage" not in str(error.value)
    assert server.everything() == before
    assert not any(call[0] == "systemctl" for call in server.calls)


def test_validator_that_prints_a_secret_does_not_leak_it(server: FakeServer) -> None:
    server.answers["check"] = (1, "line 1: password = hunter22 is not understood: hunter22")
    secret = {"path": "/s", "content": "password = 'hunter22'\n", "sensitive": True}
    with pytest.raises(ConvergeError) as error:
        server.converge({"files": [secret], "validate": VALIDATE})
    assert "hunter22" not in str(error.value)


def test_validators_do_not_run_when_nothing_differs(server: FakeServer) -> None:
    declared = {"files": [CONF], "validate": VALIDATE}
    server.converge(declared)
    server.forget_calls()
    server.converge(declared)
    assert server.calls == []


def test_check_mode_runs_validators(server: FakeServer) -> None:
    server.answers["true"] = (1, "no")
    with pytest.raises(ConvergeError):
        server.converge({"files": [CONF], "validate": [{"command": ["true"]}]}, check=True)


@pytest.mark.parametrize("declared", [{"packages": ["nginx"]}, {}], ids=["package", "program"])
def test_check_mode_skips_validators_of_missing_packages_with_a_warning(
    server: FakeServer, declared: dict[str, Any]
) -> None:
    program = "true" if declared else "no-such-program"
    result = server.converge(
        {**declared, "files": [CONF], "validate": [{"command": [program, "-t"]}]}, check=True
    )
    assert result.changed_paths == ["/etc/web/web.conf"]
    assert f"`{program} -t` was not run" in result.warnings[0]


# Commands


def test_command_runs_when_its_files_change_or_are_removed(server: FakeServer) -> None:
    commands = [{"command": ["update-ca"], "when_changed": ["/etc/web/*"]}]
    assert server.converge({"files": [CONF], "commands": commands}).commands == [["update-ca"]]
    assert server.converge({"files": [CONF], "commands": commands}).commands == []
    assert server.converge({"commands": commands}).commands == [["update-ca"]]


def test_failed_command_is_tried_again(server: FakeServer) -> None:
    declared = {
        "files": [CONF],
        "commands": [{"command": ["update-ca"], "when_changed": ["/etc/web/*"]}],
    }
    server.answers["update-ca"] = (2, "no space")
    with pytest.raises(ConvergeError, match=r"exit code 2.*\n.*no space"):
        server.converge(declared)
    del server.answers["update-ca"]
    assert server.converge(declared, check=True).commands == [["update-ca"]]
    assert server.converge(declared).commands == [["update-ca"]]
    assert not server.converge(declared).changed


def test_command_runs_until_what_it_creates_is_there(server: FakeServer) -> None:
    declared = {"commands": [{"command": ["make-it"], "creates": "/made"}]}
    assert server.converge(declared).commands == [["make-it"]]
    assert server.converge(declared).commands == [["make-it"]]
    server.write("/made")
    assert server.converge(declared).commands == []


# Units


def test_unit_is_enabled_and_started_but_not_reloaded_on_top(server: FakeServer) -> None:
    server.set_unit("web.service")
    result = server.converge({"files": [CONF], "units": [UNIT]})
    assert result.units == {"enable": ["web.service"], "start": ["web.service"]}
    assert not server.converge({"files": [CONF], "units": [UNIT]}).changed


def test_unit_of_a_new_file_is_read_before_it_is_started(server: FakeServer) -> None:
    unit_file = {"path": "/etc/systemd/system/web.service", "content": "[Service]"}
    result = server.converge({"files": [unit_file], "units": [UNIT]})
    assert result.units["start"] == ["web.service"]
    verbs = [call[1] for call in server.calls if call[0] == "systemctl"]
    assert verbs.index("daemon-reload") < verbs.index("enable") < verbs.index("start")


def test_changed_file_reloads(running: FakeServer) -> None:
    result = running.converge({"files": [{**CONF, "content": "2"}], "units": [UNIT]})
    assert result.units == {"reload": ["web.service"]}


def test_file_that_restarts_wins_over_one_that_reloads(running: FakeServer) -> None:
    dropin = {"path": "/etc/systemd/system/web.service.d/x.conf", "content": "[Service]"}
    result = running.converge({"files": [{**CONF, "content": "2"}, dropin], "units": [UNIT]})
    assert result.units == {"daemon_reload": ["systemd"], "restart": ["web.service"]}


def test_stale_unit_is_read_anew(running: FakeServer) -> None:
    running.set_unit("web.service", stale="yes")
    result = running.converge({"files": [CONF], "units": [UNIT]}, check=True)
    assert result.units == {"daemon_reload": ["systemd"]}


def test_no_change_asks_systemd_once(running: FakeServer) -> None:
    units = [UNIT, {"name": "web.timer", "enabled": None}]
    running.converge({"files": [CONF], "units": units})
    assert [call[:2] for call in running.calls] == [["systemctl", "show"]]


def test_stopped_disabled_and_masked(server: FakeServer) -> None:
    server.set_unit("a.service", active="active", file="enabled")
    wanted = {"name": "a.service", "enabled": False, "state": "stopped", "masked": True}
    result = server.converge({"units": [wanted]})
    assert result.units == {
        "disable": ["a.service"],
        "stop": ["a.service"],
        "mask": ["a.service"],
    }
    server.set_unit("a.service", file="masked", load="masked")
    assert not server.converge({"units": [wanted]}).changed


def test_unit_whose_state_is_left_alone_is_reloaded_only_if_it_runs(server: FakeServer) -> None:
    wanted = {"name": "a.service", "reload_on": ["/etc/web/*"]}
    server.set_unit("a.service")
    assert server.converge({"files": [CONF], "units": [wanted]}).units == {}
    server.set_unit("a.service", active="active")
    changed = {"files": [{**CONF, "content": "2"}], "units": [wanted]}
    assert server.converge(changed).units == {"reload": ["a.service"]}


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"load": "not-found"}, "There is no unit web.service"),
        ({"load": "masked", "file": "masked"}, "web.service is masked"),
        ({"file": "static"}, r"no \[Install\] section"),
        ({"load": "bad-setting"}, "systemd can't read web.service"),
    ],
    ids=["unknown", "masked", "static", "broken"],
)
def test_impossible_unit_is_explained(
    server: FakeServer, state: dict[str, str], words: str
) -> None:
    server.set_unit("web.service", **state)
    with pytest.raises(ConvergeError, match=words):
        server.converge({"units": [UNIT]})


def test_unit_that_fails_shows_its_journal_without_secrets(server: FakeServer) -> None:
    server.set_unit("web.service")
    server.answers["systemctl start"] = (1, "Job failed.")
    server.answers["journalctl"] = (0, "web: bad password hunter22")
    secret = {"path": "/s", "content": "hunter22", "sensitive": True}
    with pytest.raises(ConvergeError) as error:
        server.converge({"files": [secret], "units": [UNIT]})
    assert "Job failed." in str(error.value)
    assert "web: bad password (hidden)" in str(error.value)


def test_unit_that_is_up_and_down_again_fails(running: FakeServer) -> None:
    running.before_call = lambda call: (
        running.set_unit("web.service", active="failed") if call[1] == "reload" else None
    )
    with pytest.raises(ConvergeError, match=r"systemctl reload web.service.*now in the state"):
        running.converge({"files": [{**CONF, "content": "2"}], "units": [UNIT]})


def test_failed_reload_is_tried_again(running: FakeServer) -> None:
    declared = {"files": [{**CONF, "content": "2"}], "units": [UNIT]}
    running.answers["systemctl reload"] = (1, "bad")
    with pytest.raises(ConvergeError):
        running.converge(declared)
    del running.answers["systemctl reload"]
    assert running.converge(declared).units == {"reload": ["web.service"]}
    assert not running.converge(declared).changed


# Killed at any step


def kill_at(step: int, server: FakeServer, declared: dict[str, Any]) -> bool:
    """Converge in a process of its own that dies at a step. Returns whether it got that far.

    A step is a program's start, a rename or a removal: whatever changes the server.
    """
    child = os.fork()
    if child == 0:
        steps = itertools.count()

        def count(*_: object) -> None:
            if next(steps) == step:
                os._exit(9)

        server.before_call = count
        for name in ("replace", "unlink", "mkdir"):
            original = getattr(Path, name)

            def counted(place: Path, *words: Any, original: Any = original, **named: Any) -> Any:
                count()
                return original(place, *words, **named)

            setattr(Path, name, counted)
        code = 1
        try:
            server.converge(declared)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, 9)
    return code == 9


@pytest.mark.parametrize("step", range(40))
def test_run_after_a_killed_one_completes_it(tmp_path: Path, step: int) -> None:
    first = {
        "files": [CONF, {"path": "/etc/web/gone.conf", "content": ""}],
        "units": [UNIT],
        "commands": [{"command": ["index"], "when_changed": ["/etc/web/**"]}],
    }
    dropin = {"path": "/etc/systemd/system/web.service.d/x.conf", "content": "[Service]"}
    files = [{**CONF, "content": "port = 2\n"}, dropin, {"path": "/srv/a/b", "content": "b"}]
    second = {**first, "files": files}
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    whole, killed = FakeServer(tmp_path / "whole"), FakeServer(tmp_path / "killed")
    for server in (whole, killed):
        server.set_unit("web.service", active="active", file="enabled")
        server.path("/etc/systemd/system").mkdir(parents=True)
        server.converge(first)
        server.forget_calls()
    whole.converge(second)

    was_killed = kill_at(step, killed, second)
    killed.converge(second)

    assert killed.everything() == whole.everything()
    for call in (["index"], ["systemctl", "restart", "--", "web.service"]):
        assert call in killed.calls, "what follows from the change was forgotten"
    reloads = [number for number, call in enumerate(killed.calls) if call[1:] == ["daemon-reload"]]
    restart = killed.calls.index(["systemctl", "restart", "--", "web.service"])
    assert reloads[0] < restart
    assert not killed.converge(second).changed
    if step == 0:
        assert was_killed
    if step == 39:
        assert not was_killed, "there are more steps than this test kills at: raise the range"
