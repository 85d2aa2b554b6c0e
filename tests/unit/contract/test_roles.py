"""The repository's contract: what every role promises by its shape.

A role is a function with a typed contract (its argument spec), so the spec, the defaults and
the tests must agree for all of them, the ones written next year included.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.fixtures.checkout import ROOT

ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())

every_role = pytest.mark.parametrize("role", ROLES, ids=lambda path: path.name)


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text()) if path.exists() else None


def options(role: Path) -> dict[str, dict[str, Any]]:
    spec = load(role / "meta" / "argument_specs.yml")
    found: dict[str, dict[str, Any]] = spec["argument_specs"]["main"].get("options", {})
    return found


def defaults(role: Path) -> dict[str, Any]:
    return load(role / "defaults" / "main.yml") or {}


def tasks(node: Any) -> list[dict[str, Any]]:
    """Return all tasks of a task list, those inside blocks included."""
    found = []
    for task in node or []:
        found.append(task)
        for inner in ("block", "rescue", "always"):
            found.extend(tasks(task.get(inner)))
    return found


@every_role
def test_role_has_the_files_a_reader_expects(role: Path) -> None:
    wanted = ["README.md", "meta/argument_specs.yml", "meta/main.yml", "tasks/main.yml"]
    missing = [name for name in wanted if not (role / name).exists()]
    assert not missing


@every_role
def test_readme_tells_about_the_second_run_and_removal(role: Path) -> None:
    text = (role / "README.md").read_text()
    for heading in ("On the second run", "Removing it"):
        assert re.search(rf"^##+ {heading}", text, re.MULTILINE), heading


@every_role
def test_every_default_is_in_the_spec_with_the_same_value(role: Path) -> None:
    spec = options(role)
    for name, value in defaults(role).items():
        assert name in spec, f"{name} is not in {role.name}'s argument spec"
        if isinstance(value, str) and "{{" in value:
            continue  # computed at run time: the spec can only describe it
        assert spec[name].get("default") == value, name


@every_role
def test_every_default_of_the_spec_is_in_the_defaults(role: Path) -> None:
    given = defaults(role)
    for name, option in options(role).items():
        if "default" in option:
            assert name in given, f"{name} has a default only in the spec"
        if option.get("required"):
            assert name not in given, f"{name} is required and has a default"


@every_role
def test_names_carry_the_roles_prefix(role: Path) -> None:
    names = [*options(role), *defaults(role)]
    assert not [name for name in names if not name.startswith(f"{role.name}_")]
    internal = load(role / "vars" / "main.yml") or {}
    assert not [name for name in internal if not name.startswith(f"__{role.name}_")]


def described(option: dict[str, Any], name: str) -> list[str]:
    """Return what is missing in an option of a spec, and in its nested options."""
    problems = []
    if not option.get("description"):
        problems.append(f"{name} has no description")
    if not option.get("type"):
        problems.append(f"{name} has no type")
    if option.get("type") == "list" and not option.get("elements"):
        problems.append(f"{name} is a list without elements")
    for key, inner in option.get("options", {}).items():
        problems += described(inner, f"{name}.{key}")
    return problems


@every_role
def test_spec_gives_type_elements_and_description(role: Path) -> None:
    problems = [p for name, option in options(role).items() for p in described(option, name)]
    assert not problems


@every_role
def test_tasks_main_is_a_table_of_contents(role: Path) -> None:
    listed = load(role / "tasks" / "main.yml")
    assert listed
    for task in listed:
        imported = task.get("ansible.builtin.import_tasks") or task.get(
            "ansible.builtin.include_tasks"
        )
        assert imported, f"{task.get('name')}: only imports belong in tasks/main.yml"
        assert (role / "tasks" / imported).exists(), imported


@every_role
def test_no_task_overwrites_an_argument(role: Path) -> None:
    names = set(options(role))
    for path in (role / "tasks").glob("*.yml"):
        for task in tasks(load(path)):
            facts = task.get("ansible.builtin.set_fact") or {}
            assert not names & set(facts), f"{path.name}: set_fact on an argument"


@every_role
def test_role_reads_no_other_roles_variables(role: Path) -> None:
    others = [other.name for other in ROLES if other != role]
    foreign = re.compile(rf"(?<![\w./-])(?:__)?({'|'.join(others)})_[a-z_]+(?![\w/.-])")
    own = re.compile(rf"^(?:__)?{role.name}_")
    for path in [*(role / "tasks").glob("*.yml"), role / "defaults" / "main.yml"]:
        if not path.exists():
            continue
        expressions = re.findall(r"{{.*?}}", path.read_text(), re.DOTALL)
        if path.parent.name == "tasks":
            expressions += [str(task.get("when", "")) for task in tasks(load(path))]
        for expression in expressions:
            # What stands after a pipe is a filter.
            bare = re.sub(r"'[^']*'|\"[^\"]*\"|\|\s*\w+", "", expression)
            hits = [m.group(0) for m in foreign.finditer(bare) if not own.match(m.group(0))]
            assert not hits, f"{path.name} reads {hits}"


@every_role
def test_role_has_a_scenario_with_tests(role: Path) -> None:
    scenario = ROOT / "molecule" / role.name
    assert (scenario / "molecule.yml").exists(), f"no scenario molecule/{role.name}"
    found = [
        line
        for path in scenario.glob("test_*.py")
        for line in path.read_text().splitlines()
        if line.startswith("def test_")
    ]
    assert found, f"molecule/{role.name} has no tests"


def test_every_scenario_is_run_by_the_suite() -> None:
    from tests.run import all_stages

    stages = {stage.name for stage in all_stages()}
    assert {f"molecule-{role.name}" for role in ROLES} <= stages
    assert "molecule-site" in stages
