"""The firewall: rules that are missing or other ones."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from bedstone.core.errors import CommandError
from bedstone.watch import firewall

NOW = datetime(2026, 11, 20, tzinfo=UTC)
PROGRAM = "usr/local/lib/bedstone/firewall"


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BEDSTONE_ROOT", str(tmp_path))
    return tmp_path


def program(root: Path, script: str) -> None:
    """Lay out a program in place of the role's."""
    path = root / PROGRAM
    path.parent.mkdir(parents=True)
    path.write_text(f'#!/bin/sh\ntest "$1" = check || exit 2\n{script}\n')
    path.chmod(0o755)


def test_server_without_the_role_has_no_difference() -> None:
    assert firewall.gather() == []


def test_declared_rules_are_no_alarm(root: Path) -> None:
    program(root, "true")
    found = firewall.gather()
    assert found == []
    assert list(firewall.judge(found, NOW)) == []


def test_rules_that_differ_are_red_with_the_lines(root: Path) -> None:
    diff = "--- loaded\n+++ declared\n@@ -3,2 +3,1 @@\n \tchain input {\n-\t\ttcp dport 8080 accept"
    program(root, f"printf '%s\\n' '{diff}'")
    found = firewall.gather()
    (alarm,) = firewall.judge(found, NOW)
    assert (alarm.name, alarm.severity) == ("firewall/rules", "red")
    assert "declared ones: -  tcp dport 8080 accept" in alarm.words
    assert "bedstone-firewall" in alarm.command


def test_long_difference_is_cut() -> None:
    (alarm,) = firewall.judge([f"-rule {number}" for number in range(9)], NOW)
    assert "-rule 2 and 6 more lines" in alarm.words


def test_program_that_fails_is_no_verdict(root: Path) -> None:
    program(root, "echo 'no nft here' >&2; exit 1")
    with pytest.raises(CommandError, match="exit code 1"):
        firewall.gather()
