from __future__ import annotations

import json
from pathlib import Path

import pytest

from bedstone.acme import record
from bedstone.acme.record import Failure, Record
from bedstone.acme.renew import Result
from bedstone.cli import certificates, main
from tests.unit.fixtures.issued import DIRECTORY, NOW, pair, put


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BEDSTONE_ROOT", str(tmp_path))
    values = {"directory": DIRECTORY, "check_challenge": True, "external_account": False}
    values |= {"certificates": [{"name": "pay", "domains": ["pay.example.com"]}]}
    path = tmp_path / "etc/bedstone/acme.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(values))
    return tmp_path


def test_server_without_certificates_by_acme_says_so(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (root / "etc/bedstone/acme.json").unlink()
    assert main.main(["certificates"]) == 1
    assert "gets no certificates by ACME" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["shop"], "No certificate by ACME is declared for shop."),
        (["--force"], "--force needs the apps' names"),
    ],
)
def test_renewal_of_what_is_not_declared_is_refused(
    root: Path, caplog: pytest.LogCaptureFixture, arguments: list[str], words: str
) -> None:
    assert root.exists()
    assert main.main(["certificates", "renew", *arguments]) == 1
    assert words in caplog.text


def test_end_and_renewal_are_shown(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record.save("pay", Record(put(root, "pay", pair())))
    assert main.main(["certificates"]) == 0
    said = capsys.readouterr().out
    assert "pay: pay.example.com" in said
    assert "renewed in 59 days" in said


def test_problem_is_shown_and_is_exit_code_1(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert root.exists()
    assert main.main(["certificates"]) == 0
    assert "not asked for yet" in capsys.readouterr().out
    record.save("pay", Record(None, Failure(NOW, "it has no address in DNS", 0, NOW)))
    assert main.main(["certificates"]) == 1
    assert "it has no address in DNS" in capsys.readouterr().out
    assert main.main(["certificates", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)[0]["problem"] == "it has no address in DNS"


@pytest.mark.parametrize(("scheduled", "by_hand"), [([], True), (["--scheduled"], False)])
def test_results_are_printed_for_the_role(
    root: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    scheduled: list[str],
    by_hand: object,
) -> None:
    assert root.exists()
    seen: dict[str, object] = {}

    def renew(_settings: object, **options: object) -> list[Result]:
        seen.update(options)
        return [Result("pay", False, "no")]

    monkeypatch.setattr(certificates, "renew", renew)
    assert main.main(["certificates", "renew", "--json", *scheduled]) == 1
    assert json.loads(capsys.readouterr().out) == [
        {"name": "pay", "changed": False, "problem": "no"}
    ]
    assert seen["by_hand"] == by_hand
