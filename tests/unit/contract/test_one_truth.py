"""Knowledge that several places need has one place: a second one fails here."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SRC = ROOT / "src"
SOURCES = [path.relative_to(SRC).as_posix() for path in sorted(SRC.rglob("*.py"))]
NAMES = "bedstone/core/names.py"
# Texts that look like such a name: files of certificates and of the program, comments of keys, ...
NO_NAMES = {
    "bedstone_control/roles/zipapp.py",
    "bedstone_control/inventory/create.py",
    "bedstone_control/roles/base.py",
    "bedstone/system/priority.py",
    "bedstone/notify/webhook.py",
}
UNITS_OF_THE_HOST = re.compile(
    r"bedstone-(backup|copy|wal-full|upgrade)\.service|bedstone-build\.slice"
)
LIMITS = "bedstone/apps/limits.py"


def nodes(source: str) -> Iterator[ast.AST]:
    return ast.walk(ast.parse((SRC / source).read_text(encoding="utf-8")))


def built_names(source: str) -> Iterator[str]:
    """Return the f-strings that build a name of the host's, and constants that are one."""
    for node in nodes(source):
        if isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
            first = str(node.values[0].value)
            if re.match(r"bedstone[-/]", first) and " " not in first and len(node.values) > 1:
                yield f"line {node.lineno}: {ast.unparse(node)}"
        if (
            source.startswith("bedstone/")
            and isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and UNITS_OF_THE_HOST.fullmatch(node.value)
        ):
            yield f"line {node.lineno}: {node.value}"


@pytest.mark.parametrize("source", [s for s in SOURCES if s != NAMES and s not in NO_NAMES])
def test_names_of_units_containers_and_images_are_built_in_one_module(source: str) -> None:
    assert list(built_names(source)) == []


@pytest.mark.parametrize("source", sorted(NO_NAMES))
def test_exception_still_holds_such_a_text(source: str) -> None:
    assert list(built_names(source)) != []


def test_limits_of_services_have_one_module() -> None:
    """Neither the settings' schema nor the host's configuration holds a number of its own."""
    ranges = [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in nodes("bedstone/apps/config.py")
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "self.integer"
        and "*limits." not in ast.unparse(node)
    ]
    # nginx's port isn't a service's.
    assert [text for text in ranges if "https_port" not in text] == []
    fields = [
        node
        for node in nodes("bedstone_control/settings/service.py")
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Field"
    ]
    numbers = [
        f"{ast.unparse(node.func)}: {key.arg}={ast.unparse(key.value)}"
        for node in fields
        for key in node.keywords
        if key.arg in {"ge", "le"} and not ast.unparse(key.value).startswith("limits.")
    ]
    # Half a core at least is no limit of ours: any share above zero.
    assert [text for text in numbers if "0.01" not in text] == []


def test_slack_of_units_and_operations_is_added_in_one_module() -> None:
    others = [
        f"{source}:{node.lineno}"
        for source in SOURCES
        if source != LIMITS
        for node in nodes(source)
        if isinstance(node, ast.Assign)
        and any(isinstance(to, ast.Name) and "SLACK" in to.id for to in node.targets)
    ]
    assert others == []


# Values of the host program that stand in one module, and the module of each.
VALUES = {
    "kinds of backups": (
        "bedstone/ledger/kinds.py",
        r"(DUMP|MEDIA|CONFIGURATION|WAL|SERVER) = '.*'",
    ),
    "age of what is made each night": ("bedstone/core/clock.py", r".* = timedelta\(hours=26\)"),
    "tolerance for clocks": ("bedstone/core/clock.py", r"\w*TOLERANCE\w* = .*"),
    "margin of a restored database": ("bedstone/postgres/queries.py", r".* = 1\.1"),
    "size of a WAL segment": ("bedstone/wal/segments.py", r"\w*SEGMENT_BYTES = .*"),
    "a log of WAL segments": ("bedstone/wal/segments.py", r".*(<< 32|\* _LOG_BYTES).*"),
}
# The rebuild of a server still has values of its own.
OF_ITS_OWN = {
    "kinds of backups": {"bedstone/rebuild/dumps.py"},
    "a log of WAL segments": {"bedstone/rebuild/cluster.py"},
}


@pytest.mark.parametrize("value", VALUES)
def test_value_stands_in_one_module(value: str) -> None:
    place, pattern = VALUES[value]
    found = {
        source
        for source in SOURCES
        if source.startswith("bedstone/") and not source.startswith("bedstone/migrations/")
        for node in nodes(source)
        if isinstance(node, ast.Assign) and re.fullmatch(pattern, ast.unparse(node))
    }
    assert found == {place, *OF_ITS_OWN.get(value, ())}
