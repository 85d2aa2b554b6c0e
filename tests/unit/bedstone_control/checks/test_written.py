"""Values arrive as they were written, or are refused before anything changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from bedstone_control.ansible_support.origin import origin_of
from bedstone_control.checks import templates
from bedstone_control.checks.context import Locator

if TYPE_CHECKING:
    from pathlib import Path

    from bedstone_control.checks.problems import Problem
    from tests.unit.fixtures.sites import Site

CHANGED = [
    ("env: {VERSION: 24.10}", "env.VERSION", "makes 24.1 of 24.10", 'VERSION: "24.10"'),
    ("env: {PIN: 0123}", "env.PIN", "makes 83 of 0123", 'PIN: "0123"'),
    ("env: {COUNTRY: NO}", "env.COUNTRY", "reads NO as false", 'COUNTRY: "NO"'),
    ("env: {DEBUG: False}", "env.DEBUG", "reads False as false", 'DEBUG: "False"'),
    ("env: {Q: yes}", "env.Q", "reads yes as true", 'Q: "yes"'),
    ("env: {AT: 12:30}", "env.AT", "makes 750 of 12:30", 'AT: "12:30"'),
    ("env: {TTL: 1_000}", "env.TTL", "makes 1000 of 1_000", 'TTL: "1_000"'),
    ("env: {HEX: 0x1F}", "env.HEX", "makes 31 of 0x1F", 'HEX: "0x1F"'),
    ("env: {E: 1.0e+3}", "env.E", "makes 1000.0 of 1.0e+3", 'E: "1.0e+3"'),
    ("env: {I: .inf}", "env.I", "makes inf of .inf", 'I: ".inf"'),
    ("env: {DAY: 2026-11-29}", "env.DAY", "as a date", 'DAY: "2026-11-29"'),
    ("env: {T: 2026-11-29 10:00:00}", "env.T", "as a date", 'T: "2026-11-29 10:00:00"'),
    ("env: {PLUS: +5}", "env.PLUS", "makes 5 of +5", 'PLUS: "+5"'),
    ("env: {NAME: }", "env.NAME", "There is no value", 'NAME: ""'),
    ("env: {NAME: ~}", "env.NAME", "There is no value", 'NAME: ""'),
    ("env: {TAKEN: '{{ pin }}'}", None, None, None),
    ("build: {args: {P: 3.10}}", "build.args.P", "makes 3.1 of 3.10", 'P: "3.10"'),
    ("user: 33:33", "user", "makes 2013 of 33:33", 'user: "33:33"'),
    ("user: 0755", "user", "makes 493 of 0755", 'user: "0755"'),
    ("jobs: {a: {command: [x, 12:30]}}", "jobs.a.command[2]", "makes 750 of 12:30", '["12:30"]'),
    ("commands: {migrate: [[x, 010]]}", "migrate[1][2]", "makes 8 of 010", '["010"]'),
    ("commands: {check: [[x, on]]}", "check[1][2]", "reads this as true", '["true"]'),
    ("env: {A: 5, B: 0.5, C: 1000, D: '0755', E: -3, SECRET_KEY: }", None, None, None),
]


def lines(site: Site, more: str) -> list[Problem]:
    """Return the problems of an app that has a line more."""
    for name in ("env", "build"):
        if more.startswith(name):
            site.app.pop(name, None)
    site.write()
    text = site.settings_file.read_text().replace("- name: payments", f"- {more}\n  name: payments")
    site.settings_file.write_text(text)
    return site.look()


@pytest.mark.parametrize(("more", "where", "message", "example"), CHANGED)
def test_value_arrives_as_written_or_is_refused(
    site: Site, more: str, where: str | None, message: str | None, example: str | None
) -> None:
    found = lines(site, more)
    if where is None or message is None or example is None:
        assert found == []
        return
    (problem,) = found
    assert problem.where.endswith(where), problem.where
    assert message in problem.message
    assert example in problem.example
    assert "settings.yml, line 2" in problem.file


def test_version_of_a_git_source_arrives_as_written(site: Site) -> None:
    site.app["source"] = {"git": "https://git.example.com/shop.git", "version": "REPLACED"}
    site.write()
    text = site.settings_file.read_text()
    site.settings_file.write_text(text.replace("REPLACED", "1.10"))
    (problem,) = site.look()
    assert "makes 1.1 of 1.10" in problem.message
    assert problem.example == 'version: "1.10"'


# --- templates -----------------------------------------------------------------------------


def problems(directory: Path, text: str) -> list[Problem]:
    """Return what is wrong with the templates of a variables file, as Ansible loads it."""
    file = directory / "vault.yml"
    file.write_text(text)
    loaded: dict[str, Any] = dict(DataLoader().load_from_file(str(file), trusted_as_template=True))
    templar = Templar(DataLoader(), variables=loaded)

    def fault(value: Any) -> str | None:
        try:
            str(templar.template(value))
        except Exception as error:  # noqa: BLE001 - whichever kind, it can't be evaluated
            return str(error).splitlines()[0]
        return None

    locator = Locator(loaded, origin_of, directory)
    return [
        problem
        for name, value in loaded.items()
        for problem in templates.check(locator, name, value, fault)
    ]


@pytest.mark.parametrize(
    "value", ["Sup3r{#secretvalue", "ab{# x #}cd", "a{{b", "a{%b%}c", "x{{ pin }}y", "{% raw %}"]
)
def test_braces_in_a_secret_are_refused_with_place_and_way_out(tmp_path: Path, value: str) -> None:
    text = f"pin: x\nbedstone_secrets:\n  apps:\n    shop: {{api_key: '{value}'}}\n"
    (problem,) = problems(tmp_path, text)
    assert problem.where == "bedstone_secrets.apps.shop.api_key"
    assert problem.file.endswith("vault.yml, line 4")
    assert problem.example == "api_key: !unsafe '…'"
    assert value not in str(problem)
    assert problems(tmp_path, text.replace(f"'{value}'", f"!unsafe '{value}'")) == []


def test_whole_expression_is_taken_and_told_when_it_fails(tmp_path: Path) -> None:
    text = "pin: x\nbedstone_secrets: {apps: {shop: {api_key: '{{ NAME }}'}}}\n"
    assert problems(tmp_path, text.replace("NAME", "pin")) == []
    (problem,) = problems(tmp_path, text.replace("NAME", "nothing"))
    assert problem.where == "bedstone_secrets.apps.shop.api_key"
    assert "nothing" not in problem.message


def test_template_in_the_settings_is_told_with_its_place(tmp_path: Path) -> None:
    text = "bedstone_apps:\n  - name: shop\n    env: {COLOUR: 'a{#fff', X: '{{ gone }}'}\n"
    first, second = problems(tmp_path, text)
    assert first.where == "bedstone_apps[1].env.COLOUR"
    assert "{#" in first.message
    assert second.where == "bedstone_apps[1].env.X"
    assert "'gone' is undefined" in second.message
