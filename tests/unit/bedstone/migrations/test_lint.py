from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedstone.migrations import (
    BIG_BYTES,
    BIG_ROWS,
    RULES,
    Finding,
    Pending,
    Report,
    Table,
    concurrent_indexes,
    explain,
    irreversible,
    lint,
    unjudged,
)
from bedstone.release.steps.migration_gate import pending_words

BOOK = {
    "id": "integer",
    "title": "character varying(100)",
    "Odd Name": "text",
    "price": "numeric(10,2)",
    "at": "timestamp with time zone",
    "short": "smallint",
    "tags": "character varying(10)[]",
    "ratio": "real",
    "flags": "bit varying(8)",
    "mood": "shop.mood",
    "pages": "integer",
    "free": "character varying",
}
TABLES = {
    "book": Table(10, 8192, BOOK),
    "Book": Table(10, 8192, BOOK),
    "big": Table(BIG_ROWS, 8192, BOOK),
    "wide": Table(1, BIG_BYTES, BOOK),
    "other.big": Table(BIG_ROWS, 8192, BOOK),
    "titles_view": Table(0, 0, {"id": "integer", "title": "character varying(100)"}),
    "counted": Table(BIG_ROWS, 8192, {"n": "bigint"}),
    "strict": Table(10, 8192, BOOK, required=("title",)),
}


def report(*sql: str, accepts: tuple[str, ...] = (), tool: str = "django") -> Report:
    """A plan of migrations app.0002, app.0003, ... on a database that is in use."""
    return Report(
        tool,
        applied=("app.0001",),
        pending=tuple(
            Pending(f"app.{number:04}", sql=(text,), accepts=accepts)
            for number, text in enumerate(sql, start=2)
        ),
        tables=TABLES,
    )


def rules(*sql: str) -> list[str]:
    return [finding.rule for finding in lint(report(*sql))]


def waits(*sql: str) -> list[str]:
    return [rule for rule in rules(*sql) if RULES[rule].kind == "blocking"]


# --- what old code is incompatible with ---


@pytest.mark.parametrize(
    ("sql", "rule"),
    [
        # Django
        ('ALTER TABLE "book" DROP COLUMN "pages" CASCADE;', "drop-column"),
        ('DROP TABLE "book" CASCADE;', "drop-table"),
        ('ALTER TABLE "book" RENAME TO "volume";', "rename-table"),
        ('ALTER TABLE "book" RENAME COLUMN "title" TO "name";', "rename-column"),
        (
            ('ALTER TABLE "book" ADD COLUMN "x" integer DEFAULT 1 NOT NULL;\n'
            'ALTER TABLE "book" ALTER COLUMN "x" DROP DEFAULT;'),
            "not-null-without-default",
        ),
        (
            ('ALTER TABLE "book" ADD COLUMN "x" varchar(20) DEFAULT \'\' NOT NULL CONSTRAINT "fk"'
            ' REFERENCES "author"("id") DEFERRABLE INITIALLY DEFERRED;'
            ' SET CONSTRAINTS "fk" IMMEDIATE; ALTER TABLE "book" ALTER COLUMN "x" DROP DEFAULT;'),
            "not-null-without-default",
        ),
        (
            ('UPDATE "book" SET "title" = \'\' WHERE "title" IS NULL;'
            " SET CONSTRAINTS ALL IMMEDIATE;"
            ' ALTER TABLE "book" ALTER COLUMN "title" SET NOT NULL;'),
            "set-not-null",
        ),
        ('ALTER TABLE "book" ALTER COLUMN "title" TYPE integer USING "title"::integer;',
         "type-change"),
        # Alembic
        ("ALTER TABLE book DROP COLUMN pages;", "drop-column"),
        ("DROP TABLE book;", "drop-table"),
        ("ALTER TABLE book RENAME title TO name;", "rename-column"),
        ("ALTER TABLE book RENAME TO volume;", "rename-table"),
        ("ALTER TABLE book ADD COLUMN x INTEGER NOT NULL;", "not-null-without-default"),
        ("ALTER TABLE book ALTER COLUMN title SET NOT NULL;", "set-not-null"),
        ("ALTER TABLE book ALTER COLUMN title TYPE VARCHAR(20);", "type-change"),
        # By hand
        ("alter table if exists public.book * drop if exists pages restrict", "drop-column"),
        ("ALTER TABLE book ADD y int, DROP pages", "drop-column"),
        ("ALTER TABLE book ADD x int DEFAULT f(a, b), DROP pages", "drop-column"),
        ('ALTER TABLE other.big DROP "Odd Name"', "drop-column"),
        ("DROP TABLE IF EXISTS public.book", "drop-table"),
        ("DROP VIEW titles", "drop-table"),
        ("DROP MATERIALIZED VIEW IF EXISTS titles", "drop-table"),
        ("DROP FOREIGN TABLE far", "drop-table"),
        ("DROP SCHEMA other CASCADE", "drop-table"),
        ("ALTER TABLE book SET SCHEMA other", "rename-table"),
        ("ALTER VIEW titles RENAME TO names", "rename-table"),
        ("ALTER TYPE mood RENAME VALUE 'glad' TO 'happy'", "rename-value"),
        ("ALTER TABLE book ADD x text DEFAULT NULL NOT NULL", "not-null-without-default"),
        ("ALTER TABLE book ADD x text NOT NULL CHECK (x <> 'default')",
         "not-null-without-default"),
        ("ALTER TABLE book ADD x int REFERENCES a ON DELETE SET DEFAULT NOT NULL",
         "not-null-without-default"),
        ("ALTER TABLE book ADD x int; ALTER TABLE book ALTER x SET NOT NULL",
         "not-null-without-default"),
        ("ALTER TABLE book ADD x int NOT NULL; ALTER TABLE book RENAME x TO y",
         "not-null-without-default"),
        ("ALTER TABLE book ADD x int NOT NULL DEFAULT 1; ALTER TABLE book ALTER x SET DEFAULT NULL",
         "not-null-without-default"),
        ("ALTER TABLE book ADD CONSTRAINT n NOT NULL title NOT VALID", "set-not-null"),
        ("ALTER TABLE strict ALTER title DROP NOT NULL", "drop-not-null"),
        ("ALTER TABLE strict ALTER title DROP DEFAULT", "drop-default"),
        ("ALTER TABLE book ADD CONSTRAINT c CHECK (pages > 0)", "new-constraint"),
        ("ALTER TABLE book ADD CONSTRAINT c CHECK (pages > 0) NOT VALID", "new-constraint"),
        ("ALTER TABLE book ADD FOREIGN KEY (id) REFERENCES a NOT VALID", "new-constraint"),
        ("ALTER TABLE book ADD UNIQUE (title)", "new-constraint"),
        ("ALTER TABLE book ADD PRIMARY KEY (id)", "new-constraint"),
        ("ALTER TABLE book ADD EXCLUDE USING gist (at WITH &&)", "new-constraint"),
        ("CREATE UNIQUE INDEX CONCURRENTLY i ON big (title)", "new-constraint"),
        ("CREATE UNIQUE INDEX ON book USING btree (lower(title))", "new-constraint"),
        ("ALTER TABLE book ADD x int DEFAULT 1 UNIQUE", "new-constraint"),
        ("ALTER TABLE book ADD x int DEFAULT 1; CREATE UNIQUE INDEX i ON book (x)",
         "new-constraint"),
        ("ALTER TABLE book ADD x int; ALTER TABLE book ADD CHECK (x < pages)", "new-constraint"),
        ("ALTER DOMAIN email ADD CONSTRAINT c CHECK (value <> '')", "new-constraint"),
        ("ALTER DOMAIN email SET NOT NULL", "set-not-null"),
        ("ALTER TABLE book ENABLE ROW LEVEL SECURITY", "row-security"),
        ("ALTER TABLE book FORCE ROW LEVEL SECURITY", "row-security"),
        ("CREATE POLICY p ON book AS RESTRICTIVE USING (false)", "row-security"),
        ("ALTER POLICY p ON book USING (false)", "row-security"),
        ("DROP POLICY IF EXISTS p ON book", "row-security"),
        ("REVOKE UPDATE, DELETE ON book FROM shop_app", "revoke"),
        ("REVOKE USAGE ON SCHEMA other FROM shop_app", "revoke"),
        ("DROP OWNED BY shop_app", "revoke"),
        ("DROP FUNCTION price_with_tax(numeric)", "drop-object"),
        ("DROP PROCEDURE IF EXISTS public.tidy CASCADE", "drop-object"),
        ("DROP SEQUENCE invoice_seq", "drop-object"),
        ("DROP TYPE mood CASCADE", "drop-object"),
        ("DROP DOMAIN email", "drop-object"),
        ("DROP EXTENSION pg_trgm", "drop-object"),
        ("ALTER FUNCTION f(integer) RENAME TO g", "rename-object"),
        ("ALTER FUNCTION f(integer, text) SET SCHEMA other", "rename-object"),
        ("ALTER SEQUENCE a RENAME TO b", "rename-object"),
        ("ALTER TYPE mood RENAME TO feeling", "rename-object"),
        ("ALTER TYPE place RENAME ATTRIBUTE town TO city", "type-change"),
        ("ALTER SCHEMA shop RENAME TO store", "rename-object"),
        ("ALTER TABLE big DETACH PARTITION big_2024", "delete-rows"),
        ("TRUNCATE TABLE ONLY book", "delete-rows"),
        ("DELETE FROM book", "delete-rows"),
        ("DELETE FROM book USING (SELECT 1 WHERE true) s", "delete-rows"),
        ("DROP VIEW titles_view; CREATE VIEW titles_view AS SELECT id FROM book", "drop-column"),
        ("ALTER TABLE strict RENAME TO s; CREATE VIEW strict AS SELECT id FROM s", "drop-column"),
        ("REINDEX INDEX big_pkey", "blocking-index"),
        ("REFRESH MATERIALIZED VIEW elsewhere", "blocking-refresh"),
        ("VACUUM FULL", "table-rewrite"),
    ],
)  # fmt: skip
def test_what_the_running_release_can_not_live_with(sql: str, rule: str) -> None:
    assert rules(sql) == [rule]


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "-- DROP TABLE book",
        "/* ALTER TABLE book DROP pages; */",
        "SELECT 'DROP TABLE book;'",
        "COMMENT ON TABLE book IS 'DROP TABLE book'",
        "CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $$ DROP TABLE book; $$",
        "INSERT INTO book (title) VALUES ('; DROP TABLE book; --')",
        'ALTER TABLE "book" ADD COLUMN "x" integer NULL;',
        'ALTER TABLE "book" ADD COLUMN "x" integer DEFAULT 1 NOT NULL;',
        'ALTER TABLE "book" ADD COLUMN "x" integer DEFAULT (1 + 1) NOT NULL;',
        "ALTER TABLE book ADD x timestamptz NOT NULL DEFAULT now()",
        "ALTER TABLE book ADD x text NOT NULL DEFAULT 'NOT NULL'",
        "ALTER TABLE book ADD x text DEFAULT NULL::text",
        "ALTER TABLE book ADD x bigserial NOT NULL",
        "ALTER TABLE book ADD x int GENERATED BY DEFAULT AS IDENTITY NOT NULL",
        "ALTER TABLE book ADD x int GENERATED ALWAYS AS (pages + 1) STORED NOT NULL",
        "ALTER TABLE book ADD x int REFERENCES a ON DELETE SET NULL",
        "ALTER TABLE book ADD x int NULL REFERENCES a NOT DEFERRABLE",
        "ALTER TABLE book ADD x int NOT NULL; ALTER TABLE book ALTER x SET DEFAULT 1",
        "ALTER TABLE book ADD x int NOT NULL; ALTER TABLE book ALTER x DROP NOT NULL",
        "ALTER TABLE book ADD x int NOT NULL; ALTER TABLE book DROP x",
        (
            "ALTER TABLE book ADD x int NOT NULL; ALTER TABLE book ALTER x ADD GENERATED ALWAYS AS"
            " IDENTITY"
        ),
        "ALTER TABLE book ADD x int; ALTER TABLE book RENAME x TO y",
        "ALTER TABLE book ADD x int; ALTER TABLE book ALTER x TYPE text",
        "ALTER TABLE book DROP COLUMN IF EXISTS nothing",
        "ALTER TABLE book RENAME CONSTRAINT a TO b",
        "ALTER TABLE book DROP CONSTRAINT a",
        "ALTER TABLE book ALTER title DROP NOT NULL",
        "ALTER TABLE strict ALTER pages DROP DEFAULT",
        "ALTER TABLE strict ALTER title SET DEFAULT '', ALTER title DROP DEFAULT",
        "ALTER TABLE book ADD x int; ALTER TABLE book ADD UNIQUE (x, title)",
        "ALTER TABLE book ADD x int; ALTER TABLE book ADD CHECK (x > 0)",
        "ALTER TABLE book ADD x int; ALTER TABLE book ADD FOREIGN KEY (x) REFERENCES a",
        "ALTER TABLE book ADD x int UNIQUE",
        "ALTER TABLE book ADD CONSTRAINT c UNIQUE USING INDEX i",
        "CREATE TABLE new (x int); CREATE UNIQUE INDEX i ON new (x); TRUNCATE new; DELETE FROM new",
        (
            "CREATE TABLE new (x int); ALTER TABLE new ENABLE ROW LEVEL SECURITY;"
            " CREATE POLICY p ON new USING (true); DROP POLICY p ON new"
        ),
        "DROP FUNCTION f(int); CREATE FUNCTION f(text) RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE TYPE new AS ENUM ('a'); ALTER TYPE new RENAME VALUE 'a' TO 'b'; DROP TYPE new",
        "CREATE SEQUENCE s; DROP SEQUENCE IF EXISTS public.s",
        "DROP VIEW titles_view; CREATE VIEW titles_view AS SELECT id, upper(a, b) AS title FROM x",
        "DROP VIEW titles_view; CREATE VIEW titles_view (title, id) AS SELECT 1, 2",
        "DELETE FROM book WHERE id = 1",
        "REVOKE GRANT OPTION FOR SELECT ON book FROM a",
        "ALTER DEFAULT PRIVILEGES REVOKE SELECT ON TABLES FROM a",
        "ALTER TABLE book DISABLE TRIGGER t",
        "ALTER FUNCTION f() OWNER TO a",
        "VACUUM (FULL false, ANALYZE) big; VACUUM ANALYZE big",
        "ALTER TABLE book ALTER title SET DEFAULT ''",
        "ALTER TABLE book ALTER title SET STATISTICS 100",
        "ALTER TABLE book OWNER TO someone",
        "ALTER INDEX a RENAME TO b",
        "ALTER TYPE mood ADD VALUE 'calm' BEFORE 'glad'",
        "DROP INDEX a",
        "DROP INDEX CONCURRENTLY a",
        "DROP TRIGGER t ON book",
        "CREATE TABLE new (x int NOT NULL)",
        "CREATE TABLE new (x int); ALTER TABLE new DROP x, ADD y int NOT NULL",
        "CREATE TABLE new (x int); ALTER TABLE new RENAME TO newer; DROP TABLE newer",
        "CREATE TABLE IF NOT EXISTS new (x int); ALTER TABLE new ALTER x SET NOT NULL",
        "CREATE TABLE n (x int); ALTER TABLE n ALTER x TYPE text; ALTER TABLE n RENAME x TO y",
        "CREATE TEMP TABLE t AS SELECT 1; DROP TABLE t",
        "CREATE UNLOGGED TABLE t (x int); DROP TABLE t",
        # Old code finds under the old name what it looks for.
        "ALTER TABLE book RENAME TO volume; CREATE VIEW book AS SELECT * FROM volume",
        "DROP VIEW titles; CREATE VIEW titles AS SELECT 1",
        # Small tables are rewritten, or checked, in no time.
        "CREATE INDEX i ON book (title)",
        "ALTER TABLE book ALTER id TYPE bigint",
        "GRANT SELECT ON book TO someone",
        "BEGIN; COMMIT",
    ],
)
def test_what_the_running_release_does_not_mind(sql: str) -> None:
    assert rules(sql) == []


# --- types ---


@pytest.mark.parametrize(
    ("column", "new"),
    [
        ("title", "varchar(100)"),
        ("title", "character varying(200)"),
        ("title", "varchar"),
        ("title", "text"),
        ("title", "pg_catalog.text"),
        ("title", 'text USING "title"::text'),
        ("title", "text USING title"),
        ("free", "text"),
        ('"Odd Name"', "varchar"),
        ("price", "numeric(12, 2)"),
        ("price", "decimal"),
        ("at", "timestamptz"),
        ("at", "timestamp(6) with time zone"),
        ("flags", "varbit(16)"),
        ("mood", "mood"),
        ("short", "int4"),
        ("id", "int8"),
        ("ratio", "float8"),
        ("tags", "varchar(20)[]"),
    ],
)
def test_a_type_that_only_grows_is_no_change(column: str, new: str) -> None:
    assert rules(f"ALTER TABLE book ALTER COLUMN {column} TYPE {new}") == []
    assert rules(f"ALTER TABLE book ALTER {column} SET DATA TYPE {new}") == []


@pytest.mark.parametrize(
    ("column", "new"),
    [
        ("title", "varchar(99)"),
        ("title", "char(100)"),
        ("title", "integer USING title::integer"),
        ("title", "text USING upper(title)"),
        ("title", "text[]"),
        ("free", "varchar(1000)"),
        ('"Odd Name"', "varchar(10)"),
        ("price", "numeric(12,3)"),
        ("price", "numeric(9,2)"),
        ("price", "float8"),
        ("at", "timestamp"),
        ("at", "timestamptz(3)"),
        ("id", "smallint"),
        ("id", "numeric"),
        ("id", "uuid"),
        ("mood", "text"),
        ("unheard_of", "text"),
    ],
)
def test_another_type_is_a_change(column: str, new: str) -> None:
    assert rules(f"ALTER TABLE book ALTER COLUMN {column} TYPE {new}") == ["type-change"]


def test_a_column_is_known_by_its_new_names() -> None:
    assert rules(
        "ALTER TABLE book RENAME TO volume; ALTER TABLE volume RENAME title TO name;"
        " ALTER TABLE volume ALTER name TYPE text"
    ) == ["rename-table", "rename-column"]


# --- what waits ---


@pytest.mark.parametrize("table", ["big", '"big"', "wide", "public.big", "other.big"])
@pytest.mark.parametrize(
    ("sql", "rule"),
    [
        ("CREATE INDEX i ON {} (title)", "blocking-index"),
        ("CREATE UNIQUE INDEX IF NOT EXISTS i ON ONLY {} USING btree (title)", "blocking-index"),
        ("CREATE INDEX ON {} (title)", "blocking-index"),
        ("REINDEX TABLE {}", "blocking-index"),
        ("ALTER TABLE {} ADD CONSTRAINT c CHECK (pages > 0)", "blocking-constraint"),
        ("ALTER TABLE {} ADD CHECK ('not valid' <> title)", "blocking-constraint"),
        ("ALTER TABLE {} ADD CONSTRAINT c UNIQUE (title)", "blocking-constraint"),
        ("ALTER TABLE {} ADD PRIMARY KEY (id)", "blocking-constraint"),
        (
            ("ALTER TABLE {} ADD CONSTRAINT c FOREIGN KEY (id) REFERENCES a (id)"
            " DEFERRABLE INITIALLY DEFERRED"),
            "blocking-constraint",
        ),
        ("ALTER TABLE {} ADD EXCLUDE USING gist (at WITH &&)", "blocking-constraint"),
        ("ALTER TABLE {} ADD x int UNIQUE", "blocking-constraint"),
        ("ALTER TABLE {} ADD x int CHECK (x > 0)", "blocking-constraint"),
        ("ALTER TABLE {} ADD x int DEFAULT 1 REFERENCES a", "blocking-constraint"),
        ("ALTER TABLE {} ADD x uuid DEFAULT gen_random_uuid() NOT NULL", "table-rewrite"),
        ("ALTER TABLE {} ADD x bigserial", "table-rewrite"),
        ("ALTER TABLE {} ADD x int GENERATED ALWAYS AS (pages) STORED", "table-rewrite"),
        ("ALTER TABLE {} ALTER id TYPE bigint", "table-rewrite"),
        ('ALTER TABLE {} ALTER title TYPE varchar(100) COLLATE "C"', "table-rewrite"),
        ("ALTER TABLE {} SET UNLOGGED", "table-rewrite"),
        ("CLUSTER {} USING i", "table-rewrite"),
        ("VACUUM FULL {}", "table-rewrite"),
        ("VACUUM (ANALYZE, FULL) {}", "table-rewrite"),
        ("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", "lock-table"),
        ("LOCK {}", "lock-table"),
        ("UPDATE {} SET title = upper(title)", "update-all-rows"),
        ("REFRESH MATERIALIZED VIEW {}", "blocking-refresh"),
    ],
)  # fmt: skip
def test_work_on_a_big_table_is_found(sql: str, rule: str, table: str) -> None:
    assert waits(sql.format(table)) == [rule]


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE INDEX CONCURRENTLY i ON big (title)",
        "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS i ON big (title)",
        "REINDEX TABLE CONCURRENTLY big",
        "ALTER TABLE big ADD CONSTRAINT c CHECK (pages > 0) NOT VALID",
        "ALTER TABLE big ADD FOREIGN KEY (id) REFERENCES a NOT VALID",
        "ALTER TABLE big VALIDATE CONSTRAINT c",
        "ALTER TABLE big ADD CONSTRAINT c UNIQUE USING INDEX i",
        "ALTER TABLE big ADD PRIMARY KEY USING INDEX i",
        "ALTER TABLE big ADD x int REFERENCES a",
        "ALTER TABLE big ADD x int DEFAULT 0 NOT NULL",
        "ALTER TABLE big ADD x timestamptz DEFAULT now()",
        "ALTER TABLE big ADD x int GENERATED ALWAYS AS (pages) VIRTUAL",
        "ALTER TABLE big ALTER title TYPE text",
        "CREATE TABLE new (LIKE big); CREATE INDEX i ON new (title)",
        "CREATE INDEX i ON nowhere (title)",
        "REFRESH MATERIALIZED VIEW CONCURRENTLY counted",
        "REINDEX INDEX CONCURRENTLY big_pkey",
        "LOCK TABLE big IN ROW EXCLUSIVE MODE",
        "UPDATE big SET title = upper(title) WHERE id < 1000",
    ],
)
def test_work_that_nobody_waits_for_is_not(sql: str) -> None:
    assert waits(sql) == []


def test_a_renamed_table_is_as_big_as_before() -> None:
    assert rules("ALTER TABLE big RENAME TO huge; CREATE INDEX i ON huge (title)") == [
        "rename-table",
        "blocking-index",
    ]


# --- what fails by itself ---


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE INDEX CONCURRENTLY i ON big (title)",
        "DROP INDEX CONCURRENTLY i",
        "REINDEX TABLE CONCURRENTLY big",
        "COMMIT; CREATE INDEX i ON book (title); BEGIN; DROP INDEX CONCURRENTLY i",
    ],
)
def test_concurrently_in_a_transaction_is_found_before_it_fails(sql: str) -> None:
    pending = Pending("app.0002", sql=(sql,), atomic=True)
    plan = Report("django", applied=("app.0001",), pending=(pending,), tables=TABLES)
    assert [each.rule for each in lint(plan)] == ["concurrently-in-transaction"]
    assert lint(replace(plan, pending=(replace(pending, atomic=False, sql=("SELECT 1",)),))) == ()


def test_concurrently_outside_of_the_transaction_is_right() -> None:
    sql = "COMMIT; CREATE INDEX CONCURRENTLY i ON big (title); BEGIN; ALTER TABLE book ADD x int"
    pending = Pending("b2", sql=(sql,), atomic=True)
    assert lint(Report("alembic", applied=("a1",), pending=(pending,), tables=TABLES)) == ()


def test_the_indexes_that_are_built_concurrently_are_named() -> None:
    plan = report(
        'CREATE INDEX CONCURRENTLY "One" ON book (title); CREATE INDEX two ON book (title)',
        "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS three ON book (title);"
        " CREATE INDEX CONCURRENTLY ON book (title)",
    )
    assert concurrent_indexes(plan) == ("One", "three")


def test_what_a_rollback_can_not_undo_is_named_with_the_reason() -> None:
    plan = Report(
        "django",
        applied=("a.1",),
        pending=(Pending("a.2"), Pending("a.3", reversible=False, why_not="it has no reverse_sql")),
    )
    assert irreversible(plan) == (("a.3", "it has no reverse_sql"),)
    assert "can't undo a.3 (it has no reverse_sql)" in pending_words(plan)


# --- the plan as a whole ---


def test_the_whole_plan_counts_not_each_migration() -> None:
    assert rules("CREATE TABLE new (x int)", "ALTER TABLE new DROP x") == []
    add, drop = (
        "ALTER TABLE book ADD x int DEFAULT 1 NOT NULL",
        "ALTER TABLE book ALTER x DROP DEFAULT",
    )
    found = lint(report(add, drop))
    assert [(each.migration, each.rule) for each in found] == [
        ("app.0002", "not-null-without-default")
    ]


def test_findings_stand_in_the_order_of_the_plan() -> None:
    found = lint(report("ALTER TABLE book ADD x int NOT NULL", "DROP TABLE a, b", "DROP TABLE c"))
    assert [each.migration for each in found] == ["app.0002", "app.0003", "app.0003", "app.0004"]


def test_a_table_that_is_dropped_and_made_anew_is_a_new_one() -> None:
    assert rules("DROP TABLE book; CREATE TABLE book (x int); ALTER TABLE book DROP x") == [
        "drop-table"
    ]


def test_a_table_that_is_only_made_if_it_is_not_there_is_an_old_one() -> None:
    assert rules("CREATE TABLE IF NOT EXISTS book (x int); ALTER TABLE book DROP x") == [
        "drop-column"
    ]


def test_case_matters_in_quotes_alone() -> None:
    assert rules('CREATE TABLE "NEW" (x int); ALTER TABLE new DROP x') == ["drop-column"]
    assert rules('CREATE TABLE NEW (x int); ALTER TABLE "new" DROP x') == []


def test_an_empty_database_has_nobody_to_break() -> None:
    empty = Report("django", pending=(Pending("app.0001", sql=("DROP TABLE x",)),))
    assert lint(empty) == ()
    assert unjudged(empty) == ()


@pytest.mark.parametrize(
    "accepted",
    [
        ["app.0002"],
        ["drop-column", "drop-table"],
        ["app.0002:drop-column", "app.0002:drop-table"],
        {"app.0002", "something"},
    ],
)
def test_the_operator_accepts_migrations_rules_or_both(accepted: list[str]) -> None:
    plan = report("ALTER TABLE book DROP pages; DROP TABLE big")
    assert len(lint(plan)) == 2
    assert lint(plan, accepted) == ()


def test_what_is_accepted_elsewhere_is_not_accepted_here() -> None:
    plan = report("ALTER TABLE book DROP pages", "ALTER TABLE book DROP title")
    for accepted in (["app.0003"], ["app.0003:drop-column"]):
        assert [each.migration for each in lint(plan, accepted)] == ["app.0002"]
    assert len(lint(plan, ["drop-table", "app.0002:drop-table", "app"])) == 2


def test_a_migration_accepts_for_itself() -> None:
    sql = "ALTER TABLE book DROP pages; DROP TABLE big"
    plan = report(sql, accepts=("drop-column",))
    assert [each.rule for each in lint(plan)] == ["drop-table"]
    assert [each.rule for each in lint(plan, declared=False)] == ["drop-column", "drop-table"]


def test_breaking_and_waiting_are_told_apart() -> None:
    found = lint(report("ALTER TABLE big DROP pages; CREATE INDEX i ON big (title)"))
    assert [each.breaks for each in found] == [True, False]


def test_what_is_no_sql_is_listed_and_not_judged() -> None:
    plan = Report(
        "django",
        applied=("a.1",),
        pending=(
            Pending("a.2", sql=("DO $$ BEGIN DROP TABLE x; END $$; CALL f(); SELECT 1",)),
            Pending("a.3", sql=(), opaque=("RunPython(fill)",)),
            Pending("a.4", sql=None),
        ),
    )
    assert lint(plan) == ()
    assert unjudged(plan) == (
        ("a.2", "DO $$ BEGIN DROP TABLE x; END $$"),
        ("a.2", "CALL f()"),
        ("a.3", "RunPython(fill)"),
        ("a.4", "its SQL is not known"),
    )


NAMES = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1)


@given(NAMES, NAMES)
def test_any_names_are_understood_when_they_are_quoted(table: str, column: str) -> None:
    def quoted(name: str) -> str:
        return '"' + name.replace('"', '""') + '"'

    made = f"CREATE TABLE {quoted(table)} (x int);"
    change = f"ALTER TABLE {quoted(table)} DROP COLUMN {quoted(column)} CASCADE;"
    assert rules(change) == ["drop-column"]
    assert rules(made + change) == []


@given(st.text())
def test_any_text_is_judged_without_an_error(text: str) -> None:
    for begin in (
        "",
        "ALTER TABLE book ",
        "ALTER TABLE big ADD COLUMN x ",
        "CREATE INDEX ",
        "DROP ",
    ):
        rules(begin + text)


# --- words ---


def test_every_rule_says_why_and_what_to_do() -> None:
    for rule in RULES.values():
        for text in (rule.why, rule.advice("django"), rule.advice("alembic")):
            assert text.endswith((".", ")"))
            assert "  " not in text


def test_advice_is_given_in_the_words_of_the_tool() -> None:
    sql = "ALTER TABLE book ADD x int NOT NULL"
    (django,) = lint(report(sql))
    (alembic,) = lint(report(sql, tool="alembic"))
    assert "db_default" in django.do
    assert "server_default" in alembic.do


def test_a_long_statement_is_shown_in_one_line_of_bounded_length() -> None:
    (finding,) = lint(
        report("ALTER TABLE book\n   ADD x text NOT NULL CHECK (x IN (" + "'a'," * 99 + "''))")
    )
    assert finding.statement.startswith("ALTER TABLE book ADD x text NOT NULL CHECK")
    assert len(finding.statement) == 160


def test_the_explanation_says_what_why_what_to_do_and_how_to_accept_it() -> None:
    found = lint(
        report("ALTER TABLE book DROP pages; ALTER TABLE book DROP title", "DROP TABLE big")
    )
    text = explain(found, "payments")
    assert "app.0002: drop-column" in text
    assert "ALTER TABLE book DROP pages" in text
    assert "ALTER TABLE book DROP title" in text
    # What holds for both is said once.
    assert " ".join(text.split()).count(RULES["drop-column"].why) == 1
    assert max(len(line) for line in text.splitlines()) <= 100
    assert 'bedstone_accepts = ["drop-column"]' in text
    assert "bedstone release payments --accept app.0002 --accept app.0003" in text
    assert "--accept app.0002:drop-column" in text


def test_findings_can_be_made_by_hand() -> None:
    finding = Finding("a.2", "drop-column", "ALTER TABLE x", "why", "do")
    assert "a.2: drop-column" in explain([finding], "x")
