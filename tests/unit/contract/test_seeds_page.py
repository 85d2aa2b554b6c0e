"""docs/seeds.md names settings, commands and tests that exist, and counts its gaps right."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel

from bedstone.cli.main import COMMANDS
from bedstone_control import cli
from bedstone_control.roles import environment
from bedstone_control.roles.registry import ROLES
from bedstone_control.settings.app import App
from bedstone_control.settings.root import Settings
from tests.seeds.systems import STAND_INS
from tests.unit.fixtures.checkout import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = (ROOT / "docs" / "seeds.md").read_text()
HEADINGS = {
    "internal-payment": "Internal payment workflow",
    "coffee-payments": "Coffee payments server",
    "piggy-bank": "Piggy bank",
    "srq-hpn": "SRQ HPN",
    "kore": "Kore",
}
COLUMNS = ["section", "feature", "here", "test", "different on purpose"]
NOT_YET = re.compile(r"not yet: ([^;|]+?)(?:;|$)")
PLAYBOOKS = "\n".join(path.read_text() for path in (ROOT / "playbooks").rglob("*.yml"))
PLACEHOLDERS = {*environment.known_placeholders(ROLES), "secret.NAME"}
ARGUMENTS = {
    name
    for path in (ROOT / "roles").glob("*/meta/argument_specs.yml")
    for name in yaml.safe_load(path.read_text())["argument_specs"]["main"]["options"]
}


def table(heading: str) -> list[list[str]]:
    """Return the rows of the table below a heading, its head first."""
    part = PAGE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [line for line in part.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return [cells[0], *cells[2:]] if cells else []


ROWS = [(system, row) for system in HEADINGS for row in table(HEADINGS[system])[1:]]
GAPS = {row[0]: row[1].split(", ") for row in table("Gaps")[1:]}


def model(annotation: Any) -> Iterator[Any]:
    """Yield the types that an annotation stands for."""
    if hasattr(annotation, "__metadata__"):
        yield from model(annotation.__origin__)
    elif get_args(annotation) and get_origin(annotation) not in {list, dict}:
        for part in get_args(annotation):
            yield from model(part)
    else:
        yield annotation


def is_setting(path: list[str], kind: Any) -> bool:
    """Return whether a path leads to a setting."""
    if not path:
        return True
    for found in model(kind):
        if isinstance(found, type) and issubclass(found, BaseModel):
            field = found.model_fields.get(path[0])
            if field is not None and is_setting(path[1:], field.annotation):
                return True
        # Of a mapping any key will do, of a list the entries are meant.
        below = {dict: path[1:], list: path}.get(get_origin(found))
        if below is not None and is_setting(below, get_args(found)[-1]):
            return True
    return False


def exists(token: str) -> bool:  # noqa: PLR0911 - one line a kind
    """Return whether something is a setting, variable, placeholder, command or playbook."""
    first, _, rest = token.partition(" ")
    if first == "bedstone":
        return rest in COMMANDS
    if first == "make":
        return re.search(rf"^{rest}:", (ROOT / "Makefile").read_text(), re.MULTILINE) is not None
    if token.startswith("python -m bedstone_control "):
        name, said = token.rpartition(" ")[2], cli.parser().format_help()
        return re.search(rf"^    {re.escape(name)}(?: |$)", said, re.MULTILINE) is not None
    if first == "-e":
        return re.search(rf"\b{rest.partition('=')[0]}\b", PLAYBOOKS) is not None
    if token.endswith(".yml"):
        return (ROOT / "playbooks" / token).is_file()
    if token.startswith("${"):
        return token[2:-1] in PLACEHOLDERS
    if token.isupper():
        return token in environment.default_variables(ROLES)
    path = token.split(".")
    return (
        token in ARGUMENTS
        or (
            token.startswith("bedstone_")
            and is_setting([path[0].removeprefix("bedstone_"), *path[1:]], Settings)
        )
        or is_setting(path, App)
    )


@pytest.mark.parametrize("heading", HEADINGS.values())
def test_no_cell_is_empty(heading: str) -> None:
    head, *rows = table(heading)
    assert head == COLUMNS
    assert rows
    assert [row for row in rows if len(row) != len(COLUMNS) or not all(row)] == []


def test_settings_and_commands_exist() -> None:
    tokens = {token for _, row in ROWS for token in re.findall(r"`([^`]+)`", row[2])}
    assert len(tokens) > 50
    assert sorted(token for token in tokens if not exists(token)) == []


@pytest.mark.parametrize(
    "token",
    ["services.web.prot", "bedstone_backup.keep", "bedstone relese", "no.yml", "${a.b}", "OTHER"],
)
def test_what_does_not_exist_is_found(token: str) -> None:
    assert not exists(token)


def test_tests_exist() -> None:
    wrong = []
    for _, (*_, cell, _purpose) in ROWS:
        path, _, name = cell.strip("`").partition("::")
        if cell == "none yet":
            continue
        file = ROOT / path
        if not file.is_file() or (name and f"def {name}(" not in file.read_text()):
            wrong.append(cell)
    assert wrong == []


def test_what_is_missing_is_a_gap_or_has_a_reason() -> None:
    assert [row for _, row in ROWS if row[2] == "none" and row[4] == "as asked"] == []
    named = [name for _, row in ROWS for name in NOT_YET.findall(row[4])]
    assert "not yet" not in "".join(cell for _, row in ROWS for cell in row[:4])
    assert sorted(set(named) - GAPS.keys()) == []


def test_gaps_have_the_systems_that_need_them_the_most_needed_first() -> None:
    found: dict[str, list[str]] = {}
    for system, row in ROWS:
        for name in NOT_YET.findall(row[4]):
            found.setdefault(name, [])
            found[name] += [system] if system not in found[name] else []
    if without := [name for name in HEADINGS if name not in STAND_INS]:
        found["provisioned by a test"] = without
    assert found == GAPS
    counts = [len(systems) for systems in GAPS.values()]
    assert counts == sorted(counts, reverse=True)


@pytest.mark.parametrize("system", HEADINGS)
def test_page_of_a_system_leads_to_its_table(system: str) -> None:
    page = (ROOT / "inventories" / "seeds" / system / "README.md").read_text()
    anchor = HEADINGS[system].lower().replace(" ", "-")
    assert f"docs/seeds.md#{anchor})" in page
    assert f"](../inventories/seeds/{system}/README.md)" in PAGE
