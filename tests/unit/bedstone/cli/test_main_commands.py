"""What the commands print, and the module that calls them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bedstone.cli import main
from bedstone.core.errors import RefusedError
from bedstone.ledger import database, releases
from bedstone.notify import events as hooks
from bedstone.release import changes, operations
from tests.unit.fixtures.checkout import ROOT
from tests.unit.fixtures.release import root, server
from tests.unit.fixtures.server import Server, declare

__all__ = ["root", "server"]

MODULE = ROOT / "plugins/modules/release.py"
PROGRAM = """#!/bin/sh
echo "$*" >> "$0.calls"
case "$*" in
    *retire*) echo '{"undeclared": [], "retired": []}';;
    *shop*) cat "$0.shop"; exit CODE;;
    *) echo '{"ok": true, "app": "wiki", "changed": false, "release": "r1"}';;
esac
"""


@pytest.fixture(autouse=True)
def _real_commands_on_the_fake(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "Host", server.host)
    monkeypatch.setattr(changes, "Host", server.host)


def test_release_tells_each_step(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    del server
    assert main.main(["release", "shop"]) == 0
    said = capsys.readouterr().out
    assert "Releasing shop" in said
    assert "  image " in said
    assert " of shop serves, after " in said
    assert main.main(["release", "shop", "--if-changed"]) == 0
    assert "Nothing to do: release " in capsys.readouterr().out
    assert main.main(["release", "shop", "--dry-run"]) == 0
    assert "shop: nothing to do" in capsys.readouterr().out


def test_failed_release_tells_step_reason_and_what_serves(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    main.main(["release", "shop"])
    declare(server, source="two")
    server.broken = {"check"}
    assert main.main(["release", "shop"]) == 1
    captured = capsys.readouterr()
    assert "FAILED" in captured.out
    assert "shop: failed at check: `manage check` failed in the image: exit code 1" in (
        captured.err
    )
    assert "  | check: it is broken" in captured.err
    assert " serves on." in captured.err


def test_json_is_one_object_and_nothing_else(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.broken = {"migrate"}
    assert main.main(["release", "shop", "--json"]) == 1
    failed = json.loads(capsys.readouterr().out)
    assert (failed["ok"], failed["failed_step"], failed["changed"]) == (False, "migrate", True)
    assert failed["steps"][-1]["name"] == "migrate"
    assert main.main(["release", "nobody", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["failed_step"] == "begin"


def test_rollback_and_restart_tell_what_serves(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    main.main(["release", "shop"])
    declare(server, source="two")
    main.main(["release", "shop"])
    capsys.readouterr()
    assert main.main(["rollback", "shop"]) == 0
    said = capsys.readouterr().out
    assert "Rolling shop back" in said
    assert " of shop serves again, after " in said
    assert main.main(["restart", "shop", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "restart"
    assert main.main(["rollback", "shop", "nonsense"]) == 3
    assert "isn't a release that is kept" in capsys.readouterr().err


def test_refusal_of_a_gate_has_its_own_exit_code(
    server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    del server

    def refuse(_rollout: object) -> str:
        raise RefusedError("shop.0002 drops a column.", hint="Do it in two releases.")

    monkeypatch.setattr("bedstone.release.plans.plan", refuse)
    assert main.main(["release", "shop"]) == 3
    said = capsys.readouterr().err
    assert "shop: failed at plan: shop.0002 drops a column." in said
    assert "hint: Do it in two releases." in said


def test_settle_finishes_what_was_killed_and_tells_people(
    server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    main.main(["release", "shop"])
    declare(server, source="two")
    events: list[hooks.Event] = []
    monkeypatch.setattr(hooks, "fire", events.append)

    class KilledError(BaseException):
        pass

    with monkeypatch.context() as patch:
        patch.setattr(
            "bedstone.release.transaction._undo", lambda *_: (_ for _ in ()).throw(KilledError())
        )
        server.broken = {"front door"}
        with pytest.raises(KilledError):
            main.main(["release", "shop"])
    server.broken = set()
    capsys.readouterr()
    assert main.main(["settle"]) == 0
    assert "was killed before it ended" in capsys.readouterr().out
    assert [event.kind for event in events] == ["failure"]
    assert main.main(["settle", "shop"]) == 0
    assert "shop: all as it should be" in capsys.readouterr().out


def test_settle_after_an_orderly_end_does_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXIT_CODE", "exited")
    assert main.main(["settle", "shop"]) == 0
    assert server.calls == []


def test_hooks_tell_of_releases_rollbacks_and_failures(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[hooks.Event] = []

    def hang(event: hooks.Event) -> tuple[str, ...]:
        events.append(event)
        return ("webhook chat.example.com took longer than 10 seconds.",)

    monkeypatch.setattr(hooks, "fire", hang)
    assert main.main(["release", "shop", "--json"]) == 0, "a hook that fails is a warning"
    main.main(["release", "shop", "--if-changed"])
    declare(server, source="two")
    main.main(["release", "shop"])
    main.main(["rollback", "shop"])
    main.main(["restart", "shop"])
    server.broken = {"check"}
    main.main(["release", "shop"])
    assert [event.kind for event in events] == ["release", "release", "rollback", "failure"]
    assert events[-1].failed_step == "check"


def test_unit_does_what_was_asked_for_and_whoever_follows_sees_it(
    server: Server, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del server
    requests = root / "run/bedstone/operations"
    requests.mkdir(parents=True)
    (requests / "shop.json").write_text('{"argv": ["release", "shop"], "caller": "rosa"}')
    assert main.main(["operation", "shop"]) == 0
    assert "Releasing shop" in capsys.readouterr().out
    assert main.main(["watch", "shop"]) == 0
    said = capsys.readouterr().out
    assert "  image " in said
    assert " of shop serves, after " in said
    with database.opened() as connection:
        assert releases.operations(connection, "shop")[0].caller == "rosa"
    assert main.main(["operation", "shop"]) == 1, "nothing more was asked for"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A bedstone with given answers."""
    path = tmp_path / "bedstone"
    path.write_text(PROGRAM.replace("CODE", "0"))
    path.chmod(0o755)
    answer(path, {"ok": True, "app": "shop", "changed": True, "release": "r2", "previous": "r1"})
    return path


def answer(program: Path, said: dict[str, Any], code: int = 0) -> None:
    program.with_name("bedstone.shop").write_text(json.dumps(said))
    program.write_text(program.read_text().replace("exit 0", f"exit {code}"))


def call(program: Path, *, check: bool = False, pending: list[str] | None = None) -> dict[str, Any]:
    arguments = {
        "apps": ["shop", "wiki"],
        "program": str(program),
        "pending_paths": pending or [],
        "_ansible_check_mode": check,
    }
    text = (
        "import sys; from ansible.module_utils.testing import patch_module_args\n"
        "import runpy, json\n"
        "with patch_module_args(json.loads(sys.argv[1])):\n"
        "    runpy.run_path(sys.argv[2], run_name='__main__')\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", text, json.dumps(arguments), MODULE],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout, ran.stderr
    result: dict[str, Any] = json.loads(ran.stdout)
    return result


def calls(program: Path) -> list[str]:
    return program.with_name("bedstone.calls").read_text().splitlines()


def test_module_releases_every_app_and_retires_first(program: Path) -> None:
    result = call(program)
    assert result["changed"] is True
    assert [entry["app"] for entry in result["releases"]] == ["shop", "wiki"]
    assert calls(program) == [
        "retire --json",
        "release shop --if-changed --json",
        "release wiki --if-changed --json",
    ]


def test_module_changes_nothing_when_no_app_does(program: Path) -> None:
    answer(program, {"ok": True, "app": "shop", "changed": False})
    assert call(program)["changed"] is False


def test_module_shows_step_lines_and_what_serves(program: Path) -> None:
    said = {
        "ok": False,
        "app": "shop",
        "changed": True,
        "failed_step": "check",
        "error": "`manage check` failed.",
        "details": "settings.E001\nmore",
        "hint": "Set X.",
        "previous": "r1",
        "warnings": ["watch out"],
    }
    answer(program, said, code=1)
    result = call(program)
    assert result["failed"] is True
    assert result["msg"] == (
        "shop: the release failed at `check`: `manage check` failed.\n"
        "  | settings.E001\n  | more\n  hint: Set X.\n  Release r1 serves on."
    )
    assert "release wiki --if-changed --json" in calls(program), "one app doesn't block another"
    assert "watch out" in str(result["warnings"])


def test_module_only_forecasts_in_check_mode(program: Path) -> None:
    answer(program, {"ok": True, "app": "shop", "changed": False})
    result = call(program, check=True, pending=["/etc/bedstone/apps/wiki/app.env"])
    assert [entry["changed"] for entry in result["releases"]] == [False, True]
    assert calls(program) == ["retire --json --dry-run", "release shop --dry-run --json"]


def test_module_forecasts_on_a_bare_server(tmp_path: Path) -> None:
    result = call(tmp_path / "nothing", check=True)
    assert result["changed"] is True
    assert "failed" not in result


def test_module_says_that_the_program_is_missing(tmp_path: Path) -> None:
    assert "role host_program comes before" in call(tmp_path / "nothing")["msg"]


def test_module_shows_what_a_crash_printed(program: Path) -> None:
    program.write_text("#!/bin/sh\necho Traceback >&2\nexit 1\n")
    result = call(program)
    assert result["failed"] is True
    assert "Traceback" in result["msg"]
