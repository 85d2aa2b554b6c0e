"""What Ansible's programs print, as evidence."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from bedstone_control import cli
from bedstone_control.checklist import evidence
from tests.unit.fixtures import seeds
from tests.unit.fixtures.checkout import ROOT

KORE = seeds.SEEDS / "kore"
HOST = "web1"
PICTURE = {"apps": [{"app": "kore", "release": "r1"}]}


def run_of(*tasks: tuple[str, dict[str, Any]]) -> str:
    found = [{"task": {"name": name}, "hosts": {HOST: result}} for name, result in tasks]
    return "a warning\n" + json.dumps({"plays": [{"tasks": found}]})


class Programs:
    """Stands for ansible-playbook and ansible."""

    def __init__(self, audit: str, rows: Any, *answers: dict[str, Any]) -> None:
        self.audit, self.rows, self.answers = audit, rows, list(answers)
        self.called: list[list[str]] = []

    def __call__(self, arguments: Sequence[str]) -> str:
        self.called.append(list(arguments))
        if arguments[0].endswith("ansible-playbook"):
            if self.rows is not None:
                given = json.loads(arguments[-1])
                Path(given["json"]).write_text(json.dumps({"checks": self.rows}))
            return self.audit
        return run_of(("command", self.answers.pop(0)))


def collected(programs: Programs) -> evidence.Evidence:
    return evidence.collect(KORE, ["--vault-password-file", "p"], "1-100", programs)


def test_all_that_answers_is_there() -> None:
    programs = Programs(
        run_of((f"preflight : {evidence.SETTINGS_TASK}", {"msg": "right"})),
        [{"check": "other ports", "ok": True}],
        {"rc": 1, "failed": True, "stdout": json.dumps(PICTURE)},
        {"rc": 1, "failed": True, "stdout": "", "stderr": "?: (security.W004) no HSTS"},
    )
    found = collected(programs)
    assert found.settings_problems is None
    assert found.looks == [{"check": "other ports", "ok": True}]
    assert found.status == {HOST: PICTURE}
    assert found.checks == {"kore": "?: (security.W004) no HSTS"}
    words = programs.called[2][programs.called[2].index("-a") + 1]
    assert words == (
        "/usr/local/bin/bedstone run kore -- python manage.py check --deploy --fail-level WARNING"
    )
    assert all("--vault-password-file" in each for each in programs.called)


def test_task_that_refuses_settings_has_this_name() -> None:
    (task,) = yaml.safe_load((ROOT / "roles/preflight/tasks/settings.yml").read_text())
    assert task["name"] == evidence.SETTINGS_TASK


def test_clean_check_is_none() -> None:
    programs = Programs(
        run_of(), [], {"rc": 0, "stdout": json.dumps(PICTURE)}, {"rc": 0, "stdout": "no issues"}
    )
    assert collected(programs).checks == {"kore": None}


def test_refused_settings_are_told_and_no_server_is_asked() -> None:
    programs = Programs(
        run_of(
            (
                f"preflight : {evidence.SETTINGS_TASK}",
                {"failed": True, "msg": "settings.yml:3: wrong"},
            )
        ),
        None,
    )
    found = collected(programs)
    assert found.settings_problems == found.look_fault == "settings.yml:3: wrong"
    assert found.looks is None
    assert len(programs.called) == 1


def test_server_that_is_not_there_is_silent() -> None:
    programs = Programs(
        run_of(("Look at the servers", {"failed": True, "msg": "1 of 1 checks failed."})),
        [{"check": "address", "ok": False}],
        {"unreachable": True, "msg": "Failed to connect to the host via ssh"},
    )
    found = collected(programs)
    assert (found.status, found.checks) == ({}, {})
    assert found.silent == {HOST: "Failed to connect to the host via ssh"}


def test_bare_server_has_no_program_yet() -> None:
    programs = Programs(
        run_of(), [], {"failed": True, "msg": "[Errno 2] No such file or directory", "stdout": ""}
    )
    assert collected(programs).silent == {HOST: "[Errno 2] No such file or directory"}


def test_output_that_is_no_report_is_the_reason() -> None:
    found = collected(Programs("ERROR! bad vault", None, {"stdout": json.dumps(PICTURE)}, {}))
    assert found.look_fault == "ERROR! bad vault"


def test_command_prints_the_answers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    programs = Programs(
        run_of(
            (
                f"preflight : {evidence.SETTINGS_TASK}",
                {"failed": True, "msg": "settings.yml:3: wrong"},
            )
        ),
        None,
    )
    monkeypatch.setattr(evidence, "run_program", programs)
    assert cli.main(["checklist", str(KORE)]) == 1
    said = capsys.readouterr().out
    assert "settings.yml:3: wrong" in said
    assert "not yet  All services and workers run" in said
    monkeypatch.setattr(evidence, "run_program", programs)
    assert cli.main(["checklist", str(KORE), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["ok"] is False
