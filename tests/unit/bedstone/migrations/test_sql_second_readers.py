"""Two other readers of PostgreSQL's SQL: its own parser, and a linter of migrations."""

from __future__ import annotations

import json
import subprocess
import sysconfig
from pathlib import Path

import pglast
import pytest

from bedstone.migrations.sql import statements
from tests.unit.bedstone.migrations.test_lint import rules

# What squawk finds in one statement on its own, without knowing tables or their sizes.
SQUAWK = {
    "ALTER TABLE big DROP COLUMN pages;": "ban-drop-column",
    "DROP TABLE big;": "ban-drop-table",
    "ALTER TABLE big RENAME TO huge;": "renaming-table",
    "ALTER TABLE big RENAME COLUMN title TO name;": "renaming-column",
    "ALTER TABLE big ALTER COLUMN title TYPE integer USING title::integer;": "changing-column-type",
    "ALTER TABLE big ALTER COLUMN title SET NOT NULL;": "adding-not-nullable-field",
    "ALTER TABLE big ADD COLUMN x integer NOT NULL;": "adding-required-field",
    "ALTER TABLE big ADD CONSTRAINT c CHECK (pages > 0);": "constraint-missing-not-valid",
    "ALTER TABLE big ADD CONSTRAINT c UNIQUE (title);": "disallowed-unique-constraint",
    "CREATE INDEX i ON big (title);": "require-concurrent-index-creation",
    "ALTER TABLE big ADD CONSTRAINT c FOREIGN KEY (id) REFERENCES a (id);":
        "adding-foreign-key-constraint",
    "BEGIN; CREATE INDEX CONCURRENTLY i ON big (title); COMMIT;":
        "ban-concurrent-index-creation-in-transaction",
    "ALTER TABLE strict ALTER COLUMN title DROP NOT NULL;": "ban-drop-not-null",
    "TRUNCATE big CASCADE;": "ban-truncate-cascade",
}  # fmt: skip


def parametrized() -> list[str]:
    """Return all SQL that the lint's own tests judge."""
    from tests.unit.bedstone.migrations import test_lint

    found = []
    for test in (
        test_lint.test_what_the_running_release_can_not_live_with,
        test_lint.test_what_the_running_release_does_not_mind,
        test_lint.test_work_that_nobody_waits_for_is_not,
    ):
        for mark in getattr(test, "pytestmark"):  # noqa: B009 - pytest's own, and not typed
            found += [value if isinstance(value, str) else value[0] for value in mark.args[1]]
    return found


@pytest.mark.parametrize("sql", parametrized())
def test_postgresql_reads_the_same_statements(sql: str) -> None:
    ours = [statement.text for statement in statements(sql)]
    # The lint has the syntax of PostgreSQL 18 and later before the parser does.
    theirs = [text.strip() for text in pglast.split(sql)]
    assert len(ours) == len(theirs)
    for our, their in zip(ours, theirs, strict=True):
        assert our in their


@pytest.mark.parametrize(("sql", "rule"), SQUAWK.items())
def test_what_another_linter_finds_is_found(sql: str, rule: str, tmp_path: Path) -> None:
    path = tmp_path / "migration.sql"
    path.write_text(sql)
    squawk = Path(sysconfig.get_path("scripts"), "squawk")
    done = subprocess.run(
        [squawk, "--reporter=json", "--pg-version=17", path],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    # The second reader must really have read it, and found what the table says.
    assert rule in {each["rule_name"] for each in json.loads(done.stdout)}
    assert rules(sql)
