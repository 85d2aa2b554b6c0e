"""What a load test may send, and where."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from bedstone_control import cli
from bedstone_control.inventory import offline
from bedstone_control.load import plan as load_plan
from bedstone_control.load import send
from bedstone_control.load.send import Sample
from tests.unit.fixtures import seeds

KORE = seeds.SEEDS / "kore"


def planned(**changes: Any) -> load_plan.Plan:
    reached = changes.pop("reached", {"kore1": "192.0.2.15"})
    given = {"app": None, "paths": [], "rate": 5, "seconds": 2} | changes
    return load_plan.plan(offline.site(KORE), reached, **given)


def test_plan_is_of_the_inventorys_app_and_hosts() -> None:
    found = planned()
    assert found.url(found.paths[0]) == "https://kore.example.com/api/v1/health/"
    assert found.addresses == ("192.0.2.15",)
    assert found.requests == 10


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"app": "other"}, "There is no app other in this inventory. It has kore."),
        ({"rate": 0}, "--rate is 0: give a number from 1 to 1000."),
        ({"rate": 1001}, "--rate is 1001"),
        ({"seconds": 3601}, "--seconds is 3601: give a number from 1 to 3600."),
        ({"reached": {"kore1": "127.0.0.1"}}, "127.0.0.1 is a port of this machine"),
        ({"paths": ["health"]}, "'health' is not a path"),
        ({"paths": ["https://elsewhere.example/"]}, "is not a path"),
        ({"paths": ["//elsewhere.example/"]}, "is not a path"),
        ({"paths": ["/a\r\nHost: b"]}, "is not a path"),
        ({"headers": {"host": "elsewhere.example"}}, "The header host is the client's own"),
    ],
)
def test_what_leads_elsewhere_or_is_out_of_range_is_refused(
    changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        planned(**changes)


def test_addresses_are_those_that_this_machine_reaches(tmp_path: Path) -> None:
    hosts = "all: {hosts: {kore1: {ansible_host: 192.0.2.15, bedstone_address: 10.0.0.5}, b: }}"
    (tmp_path / "hosts.yml").write_text(hosts)
    reached = offline.reached(tmp_path)
    assert reached == {"kore1": "192.0.2.15", "b": "b"}
    assert planned(reached=reached).addresses == ("192.0.2.15",)


def test_headers_are_read_and_never_shown() -> None:
    assert load_plan.headers_of("Authorization: Bearer a:b\n\nX-A: 1\n") == {
        "Authorization": "Bearer a:b",
        "X-A": "1",
    }
    with pytest.raises(ValueError, match=r"^Line 2 of the headers is not `Name: value`\.$"):
        load_plan.headers_of("X-A: 1\nBearer of-mine\n")


def test_form_comes_from_the_command_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "form").write_text("token=of-mine\n")
    assert load_plan.form_of(f"@{tmp_path}/form") == "token=of-mine"
    assert load_plan.form_of("a=@b") == "a=@b"
    assert load_plan.form_of(None) is None
    with pytest.raises(FileNotFoundError):
        load_plan.form_of(f"@{tmp_path}/other")


def test_both_authorities_are_trusted_while_one_replaces_the_other() -> None:
    held = {"ca": {"certificate": "A", "next": {"certificate": "B"}}}
    assert load_plan.authorities({"bedstone_secrets": held}) == ["A", "B"]
    assert load_plan.authorities({}) == []


def test_nothing_is_sent_before_it_is_confirmed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(send, "send", lambda *_: pytest.fail("it was sent"))
    for given in ([], ["--confirm", "yes"]):
        assert cli.main(["load", str(KORE), *given]) == 1
        said = capsys.readouterr().err
        assert "300 requests (GET, 10 a second for 30 s)" in said
        assert "https://kore.example.com/api/v1/health/ at 192.0.2.15" in said
        assert "--confirm kore" in said


def test_exit_code_follows_from_the_limits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    headers = tmp_path / "headers"
    headers.write_text("Authorization: Bearer of-mine\n")
    sent: list[load_plan.Plan] = []

    def answer(given: load_plan.Plan, _: object) -> tuple[list[Sample], float]:
        sent.append(given)
        return [Sample("/a", 10.0), Sample("/a", 30.0, "status 503")], 2.0

    monkeypatch.setattr(send, "send", answer)
    command = ["load", str(KORE), "--confirm", "kore", "--path", "/a", "--headers", str(headers)]
    assert cli.main(command) == 1
    said = capsys.readouterr().out
    assert "1 x /a: status 503\nexceeded: 1 requests failed, at most 0 may" in said
    assert "of-mine" not in said
    assert sent[0].headers == {"Authorization": "Bearer of-mine"}
    assert cli.main([*command, "--max-failed", "1", "--p95-ms", "10"]) == 0
    assert cli.main([*command, "--max-failed", "1", "--p95-ms", "9", "--json"]) == 1
