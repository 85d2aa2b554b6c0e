"""Each package does its own work: commands print, few modules start programs or hold SQL.

KNOWN lists the modules that break a rule today. The lists only get shorter: a module that is
repaired has to be taken off.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SOURCES = Path(__file__).resolve().parents[3] / "src"

# Where a rule doesn't hold, and why.
SPEAKS = (
    "bedstone/cli/",
    "bedstone/__main__.py",  # exits with the command line's code
    "bedstone/migrations/in_image/",  # programs of their own, which run in an app's image
    "bedstone/notify/child.py",  # a program of its own: its output is the reason of a failure
    "bedstone/system/container_watch.py",  # a program of its own: a service's main process
    "bedstone/apps/supervisor.py",  # ends the child process that probes
)
STARTS_PROGRAMS = (
    "bedstone/system/",
    "bedstone/postgres/",
    "bedstone/storage/",
    "bedstone/wal/stanza.py",
    "bedstone/migrations/commands.py",
    "bedstone/migrations/squash.py",  # the migrate command on a developer's machine
    "bedstone/migrations/in_image/",  # programs of their own, which run in an app's image
    "bedstone/core/process.py",
    "bedstone/apps/supervisor.py",  # becomes container_watch
)
HOLDS_SQL = (
    "bedstone/ledger/",
    "bedstone/postgres/",
    "bedstone/status/postgres_health.py",
    "bedstone/migrations/in_image/",  # programs of their own, which run in an app's image
)
CONTROL_MAY_IMPORT = (
    "bedstone.core",
    "bedstone.apps.limits",
    "bedstone.apps.environment",
    "bedstone.migrations",
)

KNOWN: dict[str, set[str]] = {
    "speech": set(),
    "programs": {
        "bedstone/notify/delivery.py",  # the hooks' own programs
        "bedstone/rebuild/cluster.py",
    },
    "sql": {
        "bedstone/rebuild/cluster.py",
        "bedstone/rebuild/dumps.py",
    },
    "imports": set(),
}

_STARTERS = re.compile(r"exec[lv]\w*|spawn\w+|posix_spawnp?|fork(pty)?|system|popen")
_PROGRAM_MODULES = {"subprocess", "multiprocessing", "pty"}
_OBJECT = (
    "AGGREGATE|DATABASE|DEFAULT PRIVILEGES|EXTENSION|FUNCTION|INDEX|OWNED|POLICY|PROCEDURE"
    "|PUBLICATION|ROLE|SCHEMA|SEQUENCE|SUBSCRIPTION|SYSTEM|TABLE|TRIGGER|TYPE|USER|VIEW"
)
# The beginning of a statement, in capitals as everywhere here.
_SQL = re.compile(
    rf"""\s*(?:BEGIN\s*;\s*)?(?:
      SELECT\s | INSERT\ (?:OR\ \w+\ )?INTO\s | UPDATE\ \S*\ ?SET\s | DELETE\ FROM\s
    | (?:ALTER|DROP|CREATE)\ (?:(?:OR\ REPLACE|UNIQUE|TEMP|TEMPORARY|MATERIALIZED|UNLOGGED)\ )*
      (?:{_OBJECT})\b
    | (?:GRANT|REVOKE)\s | WITH\ \w+\ AS\b | REASSIGN\ OWNED\b | TRUNCATE\s | COMMENT\ ON\s
    | LOCK\ TABLE\b | PRAGMA\s | SHOW\s | SET\ (?:LOCAL\ |SESSION\ )?\w+\ (?:=|TO)
    | (?:ANALYZE|VACUUM|CHECKPOINT)\s*;?\s*$
    )""",
    re.VERBOSE,
)


def modules(package: str) -> list[Path]:
    """Return the modules of a package."""
    return sorted((SOURCES / package).rglob("*.py"))


def run_time(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes but those in `if TYPE_CHECKING:`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        yield from run_time(node)


def imported(node: ast.AST) -> list[str]:
    """Return the dotted names that a node imports."""
    if isinstance(node, ast.Import):
        return [each.name for each in node.names]
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module}.{each.name}" for each in node.names]
    return []


def is_in(name: str, packages: tuple[str, ...]) -> bool:
    """Return whether a dotted name is one of the packages, or in it."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def speech(tree: ast.AST) -> Iterator[str]:
    """Yield what only the command line does: parse arguments, print, end the process."""
    for node in run_time(tree):
        for name in imported(node):
            if is_in(name, ("argparse", "sys.exit")):
                yield name
        if isinstance(node, ast.Name) and node.id in {"print", "exit", "quit", "SystemExit"}:
            yield node.id
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in {"sys.exit", "os._exit"}:
            yield ast.unparse(node)


def programs(tree: ast.AST) -> Iterator[str]:
    """Yield what starts another program."""
    for node in run_time(tree):
        for name in imported(node):
            first, _, rest = name.partition(".")
            core = name.removeprefix("bedstone.core.").split(".")
            if (
                first in _PROGRAM_MODULES
                or (first == "os" and _STARTERS.fullmatch(rest))
                or (core[0] == "process" and core[1:] in ([], ["run"], ["watched"]))
            ):
                yield name
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and (
                (node.value.id == "os" and _STARTERS.fullmatch(node.attr))
                or (node.value.id == "asyncio" and node.attr.startswith("create_subprocess"))
            )
        ):
            yield ast.unparse(node)


def sql(tree: ast.AST) -> Iterator[str]:
    """Yield the texts that begin as an SQL statement."""
    later = {
        part
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in node.values[1:]
    }
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and node not in later
            and _SQL.match(node.value)
        ):
            yield " ".join(node.value.split())[:60]


def control_imports(tree: ast.AST) -> Iterator[str]:
    """Yield what the control side imports of the host program without being allowed to."""
    # For the type checker, too: the two are released apart.
    for node in ast.walk(tree):
        for name in imported(node):
            if is_in(name, ("bedstone",)) and not is_in(name, CONTROL_MAY_IMPORT):
                yield name


RULES: dict[str, tuple[str, Callable[[ast.AST], Iterator[str]], tuple[str, ...]]] = {
    "speech": ("bedstone", speech, SPEAKS),
    "programs": ("bedstone", programs, STARTS_PROGRAMS),
    "sql": ("bedstone", sql, HOLDS_SQL),
    "imports": ("bedstone_control", control_imports, ()),
}


@pytest.mark.parametrize("rule", RULES)
def test_rule_holds_but_for_the_known_modules(rule: str) -> None:
    package, find, allowed = RULES[rule]
    found = {}
    for path in modules(package):
        name = path.relative_to(SOURCES).as_posix()
        if not name.startswith(allowed or ("/",)):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            if breaks := sorted(set(find(tree))):
                found[name] = breaks
    new = {name: breaks for name, breaks in found.items() if name not in KNOWN[rule]}
    assert not new, f"This belongs to {', '.join(allowed)}: {new}"
    repaired = sorted(KNOWN[rule] - set(found))
    assert not repaired, f"These keep the rule now, so KNOWN names them no longer: {repaired}"


@pytest.mark.parametrize("rule", RULES)
def test_exceptions_name_what_is_there(rule: str) -> None:
    _, _, allowed = RULES[rule]
    assert [place for place in allowed if not (SOURCES / place).exists()] == []


def test_the_host_program_imports_nothing_of_the_control_side() -> None:
    found = {
        path.relative_to(SOURCES).as_posix(): name
        for path in modules("bedstone")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in imported(node)
        if is_in(name, ("bedstone_control",))
    }
    assert found == {}


@pytest.mark.parametrize(
    ("find", "text", "breaks"),
    [
        (speech, "import argparse", True),
        (speech, "if TYPE_CHECKING:\n    import argparse", False),
        (speech, "print('x')", True),
        (speech, "tell = print", True),
        (speech, "sys.exit(1)", True),
        (speech, "from sys import exit as leave", True),
        (speech, "raise SystemExit(1)", True),
        (speech, "sys.stdout.isatty()", False),
        (programs, "import subprocess", True),
        (programs, "from subprocess import run", True),
        (programs, "from bedstone.core.process import run", True),
        (programs, "from bedstone.core import process", True),
        (programs, "from bedstone.core.process import tail, Completed", False),
        (programs, "os.execvp('docker', [])", True),
        (programs, "os.path.exists('x')", False),
        (sql, "x = 'SELECT 1'", True),
        (sql, "x = f'DROP DATABASE {name}'", True),
        (sql, "x = '\\n  CREATE UNIQUE INDEX i ON t (a)'", True),
        (sql, "x = 'BEGIN;ALTER DATABASE '", True),
        (sql, "x = 'UPDATE operations SET state = ?'", True),
        (sql, "x = 'Select one of these.'", False),
        (sql, "x = 'ROLLBACK'", False),
        (control_imports, "from bedstone.core import paths", False),
        (control_imports, "from bedstone.apps import limits", False),
        (control_imports, "from bedstone.apps.limits import LONGEST", False),
        (control_imports, "from bedstone.apps import config", True),
        (control_imports, "import bedstone", True),
        (control_imports, "import bedstone_control", False),
    ],
)
def test_the_rules_recognise_what_breaks_them(
    find: Callable[[ast.AST], Iterator[str]], text: str, *, breaks: bool
) -> None:
    assert bool(list(find(ast.parse(text)))) == breaks


BARE = {"of", "look", "tell", "beat", "words"}


def test_functions_of_a_module_have_names_that_say_what_they_do() -> None:
    """At the place of a call `window.of` and `status.look` say nothing; undo is `undo_<step>`."""
    bad = [
        f"{path.relative_to(SOURCES)}:{node.lineno}: {node.name}"
        for package in ("bedstone", "bedstone_control")
        for path in modules(package)
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in BARE
    ]
    assert bad == []
