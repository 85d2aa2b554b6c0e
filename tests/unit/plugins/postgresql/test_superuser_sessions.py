"""Every program that connects as PostgreSQL's superuser does so without a search path.

An app's owner can put functions where a bare name finds them first, and set the search path of
every session in its database; only options of the connection come before that.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import bedstone_postgresql_declared
import bedstone_postgresql_instance
import pytest

from bedstone.postgres import restore_role, snapshot
from bedstone.postgres import server as postgres
from bedstone.postgres.server import OPTIONS, SETTINGS, Server
from tests.unit.fixtures.checkout import ROOT

# What connects to a server. pg_controldata, initdb and the like do not.
CLIENTS = re.compile(
    r"(psql|pg_dump|pg_dumpall|pg_restore|pg_amcheck|vacuumdb|reindexdb|createdb|dropdb|createuser"
    r"|dropuser|pg_upgrade|pg_upgradecluster)"
)
# What an environment with the option is called there.
ENVIRONMENTS = re.compile(
    r"environment\(\)|_environment\(|_ENVIRONMENT|SESSION_OPTIONS|OPTIONS|as_superuser\(|postgres\.call\("
)
# Arguments only, two questions (is psql installed, is pg_upgrade?), and one that a primary answers
# without a session in a database.
KNOWN = {
    "src/bedstone/postgres/programs.py: psql()",
    "src/bedstone/postgres/replication.py: _ask()",
    "src/bedstone/postgres/server.py: psql()",
    "plugins/modules/postgresql_accounts.py: converge()",
    "src/bedstone/upgrade/preflight.py: check()",
}
_STARTS = re.compile(r"^(?! *#).*\b(psql|pg_dump|vacuumdb)\b.* -", re.MULTILINE)
LOOKED_AT = [ROOT / "src/bedstone", ROOT / "plugins"]


def functions(path: Path) -> Iterator[tuple[ast.FunctionDef, str]]:
    """Yield each function of a file and its text, those of classes, too."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            yield node, "".join(lines[node.lineno - 1 : node.end_lineno])


def starts_a_client(function: ast.FunctionDef, text: str) -> bool:
    """Return whether a function names a client as an argument, or asks for a psql."""
    strings = [
        node.value
        for node in ast.walk(function)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    named = any(CLIENTS.fullmatch(string.rpartition("/")[2]) for string in strings)
    return named or bool(re.search(r"[.*]psql\(", text.partition("\n")[2]))


def test_each_function_that_starts_a_client_gives_it_the_environment() -> None:
    found, wrong = [], []
    for path in (path for place in LOOKED_AT for path in sorted(place.rglob("*.py"))):
        for function, text in functions(path):
            if not starts_a_client(function, text):
                continue
            found.append(function.name)
            if not ENVIRONMENTS.search(text):
                wrong.append(f"{path.relative_to(ROOT)}: {function.name}()")
    known = {"execute", "dump", "_dump", "amcheck", "copy_from", "check_upgrade", "ask"}
    assert known <= set(found)
    assert not sorted(set(wrong) ^ KNOWN), "\n".join(sorted(set(wrong) ^ KNOWN))


@pytest.mark.parametrize("place", ["playbooks", "roles"])
def test_no_playbook_starts_a_psql_without_it(place: str) -> None:
    texts = {
        path: path.read_text(encoding="utf-8")
        for path in (ROOT / place).rglob("*")
        if path.suffix in {".yml", ".j2", ".sh"}
    }
    starting = [path for path, text in texts.items() if _STARTS.search(text)]
    assert [path for path in starting if "PGOPTIONS='-c search_path= " not in texts[path]] == []
    assert not any("community.postgresql" in text for text in texts.values())


def test_the_superuser_can_not_come_without_it() -> None:
    for server in (Server("/run", 5432), Server("/run", 5432, options="")):
        assert server.environment()["PGOPTIONS"] == OPTIONS
    for options in (
        OPTIONS,
        bedstone_postgresql_declared.SESSION_OPTIONS,
        bedstone_postgresql_instance.SESSION_OPTIONS,
    ):
        assert options.startswith("-c search_path= -c role=none -c ")
    # The roles that an app's functions run with have the search path of the app's database.
    for role in (restore_role.NAME, snapshot.READER):
        server = Server("/run", 5432, role=role, options=SETTINGS)
        assert "search_path" not in server.environment()["PGOPTIONS"]
    assert postgres.USER not in {restore_role.NAME, snapshot.READER}
