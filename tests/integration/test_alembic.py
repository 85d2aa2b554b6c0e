from __future__ import annotations

from pathlib import Path

import pytest

from bedstone.migrations import BIG_ROWS, Backward, Report, lint, unjudged
from bedstone.postgres import schema_digest
from tests.integration import projects
from tests.integration.cluster import Cluster
from tests.integration.conftest import Prepared
from tests.integration.projects import Project, revision

BOOK = """
op.create_table(
    "book",
    sa.Column("id", sa.BigInteger, primary_key=True),
    sa.Column("title", sa.String(100), nullable=False),
    sa.Column("pages", sa.Integer),
)
"""
DROP_BOOK = 'op.drop_table("book")'
ADD_ISBN = 'op.add_column("book", sa.Column("isbn", sa.String(13)))'
DROP_ISBN = 'op.drop_column("book", "isbn")'


def write_first(project: Project) -> None:
    revision(project, "a1", BOOK, DROP_BOOK)


@pytest.fixture
def project(tmp_path: Path, cluster: Cluster, database: str) -> Project:
    made = projects.alembic(tmp_path / "image", cluster.server, database)
    write_first(made)
    return made


@pytest.fixture
def used(tmp_path: Path, cluster: Cluster, prepared: Prepared) -> Project:
    """Return a project whose first migrations are applied."""
    database = prepared("alembic", write_first)
    made = projects.alembic(tmp_path / "image", cluster.server, database)
    write_first(made)
    return made


def found(report: Report) -> list[tuple[str, str]]:
    return [(finding.migration, finding.rule) for finding in lint(report)]


def way_back(project: Project, *keep: str) -> Backward:
    backward = project.report(keep).backward
    assert backward is not None
    return backward


# --- forwards ---


def test_on_an_empty_database_everything_is_pending_and_nothing_is_found(project: Project) -> None:
    revision(project, "b2", 'op.drop_column("book", "pages")', after="a1")
    report = project.report()
    assert report.applied == ()
    assert report.known == ("a1", "b2")
    assert [each.name for each in report.pending] == ["a1", "b2"]
    assert lint(report) == ()
    assert project.sql("SELECT relname FROM pg_class WHERE relname LIKE 'alembic%'") == ""


def test_nothing_is_pending_or_to_undo_after_the_migrate_command(used: Project) -> None:
    report = used.report(["a1"])
    assert report.pending == ()
    assert report.backward == Backward()
    assert report.applied == report.known == ("a1",)


def test_a_pending_revision_comes_with_its_sql_title_and_table(used: Project) -> None:
    revision(used, "b2", ADD_ISBN, DROP_ISBN, after="a1")
    report = used.report()
    (pending,) = report.pending
    assert pending.sql == ("ALTER TABLE book ADD COLUMN isbn VARCHAR(13);",)
    assert pending.title == "what b2 does"
    assert pending.reversible
    assert report.tables["book"].columns == {
        "id": "bigint",
        "title": "character varying(100)",
        "pages": "integer",
    }
    assert lint(report) == ()


def test_the_sql_that_alembic_writes_is_judged(used: Project) -> None:
    cases = [
        ('op.drop_column("book", "pages")', "drop-column"),
        ('op.alter_column("book", "title", new_column_name="name")', "rename-column"),
        ('op.alter_column("book", "title", nullable=False)', "set-not-null"),
        ('op.alter_column("book", "title", type_=sa.String(200))', None),
        ('op.alter_column("book", "title", type_=sa.String(10))', "type-change"),
        ('op.alter_column("book", "pages", type_=sa.BigInteger())', None),
        ('op.alter_column("book", "pages", nullable=True)', None),
        (
            'op.add_column("book", sa.Column("a", sa.Integer, nullable=False))',
            "not-null-without-default",
        ),
        (
            'op.add_column("book", sa.Column("b", sa.Text, server_default="0", nullable=False))',
            None,
        ),
        (
            """
            op.add_column("book", sa.Column("c", sa.Text, server_default="0", nullable=False))
            op.alter_column("book", "c", server_default=None)
            """,
            "not-null-without-default",
        ),
        (
            """
            op.add_column("book", sa.Column("d", sa.Integer))
            op.execute("UPDATE book SET d = 1")
            op.alter_column("book", "d", nullable=False)
            """,
            "not-null-without-default",
        ),
        ('op.create_index("i1", "book", ["title"])', None),
        ('op.create_unique_constraint("i2", "book", ["title"])', "new-constraint"),
        ('op.execute("/* drop table book */ SELECT 1")', None),
        ('op.create_table("new", sa.Column("x", sa.Integer, nullable=False))', None),
        ('op.drop_column("new", "x")', None),
        ('op.rename_table("book", "volume")', "rename-table"),
        ('op.drop_table("shelf")', "drop-table"),
    ]
    for number, (upgrade, _) in enumerate(cases, start=2):
        revision(used, f"r{number}", upgrade, after=f"r{number - 1}" if number > 2 else "a1")
    assert found(used.report()) == [
        (f"r{number}", rule) for number, (_, rule) in enumerate(cases, start=2) if rule
    ]


def test_a_table_with_many_rows_is_big(used: Project) -> None:
    used.sql(
        f"INSERT INTO book SELECT n, 'x', 1 FROM generate_series(1, {BIG_ROWS}) n; ANALYZE book"
    )
    revision(
        used,
        "b2",
        """
        op.create_index("slow", "book", ["title"])
        op.create_check_constraint("slow2", "book", "pages > 0")
        op.alter_column("book", "pages", type_=sa.BigInteger())
        with op.get_context().autocommit_block():
            op.create_index("fast", "book", ["title"], postgresql_concurrently=True)
        op.create_check_constraint("fast2", "book", "pages > 0", postgresql_not_valid=True)
        op.execute("ALTER TABLE book VALIDATE CONSTRAINT fast2")
        op.create_foreign_key("fast3", "book", "book", ["id"], ["id"], postgresql_not_valid=True)
        """,
        after="a1",
    )
    report = used.report()
    assert report.tables["book"].rows >= BIG_ROWS
    assert [rule for _, rule in found(report)] == [
        "blocking-index",
        "blocking-constraint",
        "new-constraint",
        "table-rewrite",
        "new-constraint",
        "new-constraint",
    ]


def test_a_revision_declares_what_it_breaks_on_purpose(used: Project) -> None:
    revision(
        used,
        "b2",
        'op.drop_column("book", "pages")\nop.drop_column("book", "title")',
        after="a1",
        before='bedstone_accepts = ["drop-column"]',
    )
    assert used.report().pending[0].accepts == ("drop-column",)
    assert found(used.report()) == []


def test_a_revision_that_reads_is_judged_as_far_as_it_goes_and_changes_nothing(
    used: Project,
) -> None:
    revision(
        used,
        "b2",
        """
        op.drop_column("book", "pages")
        bind = op.get_bind()
        rows = bind.execute(sa.text("SELECT id FROM book")).fetchall()
        op.drop_table("book")
        """,
        after="a1",
    )
    report = used.report()
    assert found(report) == [("b2", "drop-column")]
    ((name, what),) = unjudged(report)
    assert name == "b2"
    assert "works with what it reads from the database" in what
    assert used.sql("SELECT count(pages) FROM book") == "0\n"


def test_a_revision_with_an_engine_of_its_own_can_not_write_while_it_is_looked_at(
    used: Project,
) -> None:
    revision(
        used,
        "b2",
        """
        engine = op.get_context().environment_context.get_context().connection.engine
        with engine.begin() as connection:
            connection.execute(sa.text("INSERT INTO book VALUES (1, 'x')"))
        """,
        after="a1",
    )
    report = used.report()
    assert "it runs commands of its own" in unjudged(report)[0][1]
    assert used.sql("SELECT count(*) FROM book") == "0\n"


def test_a_declared_revision_is_where_the_plan_ends(used: Project) -> None:
    revision(used, "b2", ADD_ISBN, after="a1")
    revision(used, "c3", 'op.drop_column("book", "pages")', after="b2")
    used.migrate = (("alembic", "upgrade", "b2"),)
    assert [each.name for each in used.report().pending] == ["b2"]


@pytest.mark.parametrize(
    "command",
    [
        ("python", "-m", "alembic", "--config", "other.ini", "upgrade", "head"),
        ("sh", "-c", "cd migrations/.. && env A=b alembic -c other.ini -x a=b upgrade heads"),
    ],
)
def test_the_options_of_the_declared_command_are_used(
    used: Project, command: tuple[str, ...]
) -> None:
    (used.folder / "alembic.ini").rename(used.folder / "other.ini")
    used.migrate = (command,)
    assert used.report().applied == ("a1",)


def test_another_python_is_found_by_the_program_of_alembic(used: Project, tmp_path: Path) -> None:
    bare = tmp_path / "bin"
    bare.mkdir()
    # A Python without packages comes first on the PATH, as in an image with two.
    (bare / "python3").write_text('#!/bin/sh\nexec /usr/bin/python3 -I -S "$@"\n')
    (bare / "python3").chmod(0o755)
    path = f"{bare}:{projects.PROGRAMS}:/usr/bin:/bin"
    used.variables["PATH"] = path
    assert used.report().applied == ("a1",)


def test_what_alembic_refuses_is_said_in_its_words(project: Project) -> None:
    revision(project, "b2", ADD_ISBN, after="a1")
    revision(project, "c3", ADD_ISBN, after="a1")
    done = project.asked(check=False)
    assert done.returncode != 0
    assert "Multiple head revisions are present" in done.output


# --- backwards ---


def test_the_way_back_leads_to_the_schema_of_before(used: Project) -> None:
    before = schema_digest.of_database(used.server, used.database)
    revision(used, "b2", ADD_ISBN, DROP_ISBN, after="a1")
    revision(used, "c3", 'op.create_index("i", "book", ["isbn"])', 'op.drop_index("i")', after="b2")
    used.upgrade()
    assert schema_digest.of_database(used.server, used.database) != before
    backward = way_back(used, "a1")
    assert backward.migrations == ("c3", "b2")
    assert backward.irreversible == ()
    assert backward.commands == (("alembic", "downgrade", "a1"),)
    for command in backward.commands:
        used.run(*command)
    assert schema_digest.of_database(used.server, used.database) == before
    assert used.report().applied == ("a1",)


def test_the_way_back_to_an_empty_database_is_base(used: Project) -> None:
    backward = way_back(used)
    assert backward.commands == (("alembic", "downgrade", "base"),)
    used.run(*backward.commands[0])
    assert used.report().applied == ()


def test_revisions_without_a_way_back_are_named(used: Project) -> None:
    cases = {
        "b2": (None, "it has no downgrade()"),
        "b3": ("pass", "its downgrade() is empty"),
        "b4": ('"""Nothing."""', "its downgrade() is empty"),
        "b5": ("raise NotImplementedError", "its downgrade() only raises an error"),
        "b6": ("if True:\n    raise ValueError", None),
    }
    before = "a1"
    for name, (downgrade, _) in cases.items():
        revision(used, name, 'op.execute("SELECT 1")', downgrade, after=before)
        before = name
    whys = {name: why for name, (_, why) in cases.items()}
    assert {each.name: each.why_not for each in used.report().pending} == whys
    used.upgrade()
    assert set(way_back(used, "a1").irreversible) == {
        (name, why) for name, why in whys.items() if why
    }


def test_a_merge_or_one_branch_can_be_undone_and_the_rest_stay(used: Project) -> None:
    revision(used, "b2", ADD_ISBN, DROP_ISBN, after="a1")
    revision(used, "c2", 'op.create_table("c")', 'op.drop_table("c")', after="a1")
    revision(used, "d3", "pass", "pass", after=("b2", "c2"))
    used.upgrade()
    merge = way_back(used, "a1", "b2", "c2")
    assert merge.migrations == ("d3",)
    assert merge.irreversible == ()
    branch = way_back(used, "a1", "b2")
    assert branch.migrations == ("d3", "c2")
    assert branch.irreversible == ()
    used.run(*merge.commands[0])
    assert set(used.sql("SELECT version_num FROM alembic_version").split()) == {"b2", "c2"}
    for command in way_back(used, "a1", "b2").commands:
        used.run(*command)
    assert used.sql("SELECT version_num FROM alembic_version") == "b2\n"


def test_a_database_ahead_of_the_image_can_not_be_undone_by_it(used: Project) -> None:
    used.sql("UPDATE alembic_version SET version_num = 'z9'")
    report = used.report(["a1"])
    assert report.unknown == ("z9",)
    assert report.pending == ()
    assert report.backward is not None
    assert report.backward.commands == ()
    assert ("z9", "this image doesn't know it, and Alembic undoes nothing then") in (
        report.backward.irreversible
    )
