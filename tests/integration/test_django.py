from __future__ import annotations

from pathlib import Path

import pytest

from bedstone.migrations import BIG_ROWS, DONE, Backward, Report, lint, parse, unjudged
from bedstone.postgres import schema_digest
from tests.integration import projects
from tests.integration.cluster import Cluster
from tests.integration.conftest import Prepared
from tests.integration.projects import Project, migration

FIRST = """
migrations.CreateModel("Author", [
    ("id", models.BigAutoField(primary_key=True)),
    ("name", models.CharField(max_length=100)),
]),
migrations.CreateModel("Book", [
    ("id", models.BigAutoField(primary_key=True)),
    ("title", models.CharField(max_length=100)),
    ("pages", models.IntegerField(null=True)),
    ("price", models.IntegerField()),
    ("author", models.ForeignKey("shop.author", models.CASCADE, null=True)),
]),
migrations.CreateModel("Shelf", [("id", models.AutoField(primary_key=True))]),
migrations.CreateModel("Room", [("id", models.AutoField(primary_key=True))]),
"""
STOCK = """
migrations.CreateModel("Item", [
    ("id", models.BigAutoField(primary_key=True)),
    ("book", models.ForeignKey("shop.book", models.CASCADE)),
]),
"""
ADD_ISBN = 'migrations.AddField("book", "isbn", models.CharField(max_length=13, null=True)),'


# What the cases below have for short.
CASES = """
CASCADE = models.CASCADE
CHECK = models.CheckConstraint(condition=models.Q(price__gt=0), name="positive")
"""


def write_first(project: Project) -> None:
    migration(project, "shop.0001_initial", FIRST)


@pytest.fixture
def project(tmp_path: Path, cluster: Cluster, database: str) -> Project:
    made = projects.django(tmp_path / "image", cluster.server, database)
    write_first(made)
    return made


@pytest.fixture
def used(tmp_path: Path, cluster: Cluster, prepared: Prepared) -> Project:
    """Return a project whose first migrations are applied."""
    database = prepared("django", write_first)
    made = projects.django(tmp_path / "image", cluster.server, database)
    write_first(made)
    return made


BEFORE = (
    "contenttypes.0001_initial",
    "contenttypes.0002_remove_content_type_name",
    "shop.0001_initial",
)


def found(report: Report) -> list[tuple[str, str]]:
    return [(finding.migration, finding.rule) for finding in lint(report)]


def way_back(project: Project, *keep: str) -> Backward:
    backward = project.report(keep).backward
    assert backward is not None
    return backward


def undo(project: Project, backward: Backward) -> None:
    for command in backward.commands:
        project.run(*command)


# --- forwards ---


def test_on_an_empty_database_everything_is_pending_and_nothing_is_found(project: Project) -> None:
    migration(
        project,
        "shop.0002_no_pages",
        'migrations.RemoveField("book", "pages"),',
        after=["shop.0001_initial"],
    )
    report = project.report()
    assert report.applied == ()
    assert tuple(each.name for each in report.pending) == (*BEFORE, "shop.0002_no_pages")
    assert lint(report) == ()
    assert project.sql("SELECT count(*) FROM pg_class WHERE relname LIKE 'django%'") == "0\n"


def test_nothing_is_pending_after_the_migrate_command(used: Project) -> None:
    report = used.report()
    assert report.pending == ()
    assert report.applied == report.known == BEFORE


def test_the_sql_that_django_writes_is_judged(used: Project) -> None:
    cases: list[tuple[str, str | None]] = [
        ('migrations.RemoveField("book", "pages")', "drop-column"),
        ('migrations.RenameField("author", "name", "label")', "rename-column"),
        ('migrations.AlterField("author", "label", models.CharField(max_length=300))', None),
        ('migrations.AlterField("author", "label", models.TextField())', None),
        ('migrations.AlterField("author", "label", models.TextField(null=True))', "drop-not-null"),
        (
            'migrations.AlterField("author", "label", models.TextField(default=""))',
            "set-not-null",
        ),
        ('migrations.AlterField("book", "title", models.CharField(max_length=9))', "type-change"),
        ('migrations.AlterField("book", "price", models.BigIntegerField())', None),
        ('migrations.AlterField("book", "price", models.DecimalField(9, 2))', "type-change"),
        ('migrations.AddField("book", "a", models.IntegerField(null=True))', None),
        (
            'migrations.AddField("book", "b", models.IntegerField(default=1))',
            "not-null-without-default",
        ),
        ('migrations.AddField("book", "c", models.IntegerField(db_default=1))', None),
        (
            'migrations.AddField("book", "d", models.CharField(max_length=5, default="x"))',
            "not-null-without-default",
        ),
        (
            'migrations.AddField("book", "e", models.OneToOneField("author", CASCADE, null=True))',
            None,
        ),
        ('migrations.AddField("book", "f", models.ManyToManyField("shop.author"))', None),
        ('migrations.AlterField("book", "title", models.TextField(unique=True))', "new-constraint"),
        (
            'migrations.AddConstraint("book", CHECK)',
            "new-constraint",
        ),
        ('migrations.AddIndex("book", models.Index(fields=["price"], name="by_price"))', None),
        ('migrations.CreateModel("New", [("id", models.AutoField(primary_key=True))])', None),
        ('migrations.RenameModel("New", "Newer")', None),
        ('migrations.AddField("newer", "x", models.IntegerField(default=1))', None),
        ('migrations.DeleteModel("Newer")', None),
        ("migrations.RunSQL(\"/* DROP TABLE x; */ SELECT 'DROP TABLE x;'\")", None),
        ('migrations.RenameModel("Shelf", "Board")', "rename-table"),
        ('migrations.AlterModelTable("board", "shop_shelf")', "rename-table"),
        ('migrations.DeleteModel("Room")', "drop-table"),
    ]
    before = "shop.0001_initial"
    expected = []
    for number, (operation, rule) in enumerate(cases, start=2):
        name = f"shop.{number:04}_case"
        migration(used, name, f"{operation},", after=[before], before=CASES)
        expected += [(name, rule)] if rule else []
        before = name
    report = used.report()
    assert unjudged(report) == ()
    assert found(report) == expected


def test_a_table_with_many_rows_is_big(used: Project) -> None:
    used.sql(
        f"INSERT INTO shop_book (title, price) SELECT 'x', n FROM generate_series(1, {BIG_ROWS}) n"
    )
    used.sql("ANALYZE shop_book")
    migration(
        used,
        "shop.0002_slow",
        """
        migrations.AddIndex("book", models.Index(fields=["price"], name="slow")),
        migrations.AddConstraint("book", models.CheckConstraint(
            condition=models.Q(price__gt=0), name="slow2")),
        migrations.AddConstraint("book", models.UniqueConstraint(
            fields=["price"], name="slow3")),
        migrations.AlterField("book", "price", models.BigIntegerField()),
        """,
        after=["shop.0001_initial"],
    )
    migration(
        used,
        "shop.0003_fast",
        """
        AddIndexConcurrently("book", models.Index(fields=["price"], name="fast")),
        AddConstraintNotValid("book", models.CheckConstraint(
            condition=models.Q(price__gt=0), name="fast2")),
        ValidateConstraint("book", "fast2"),
        migrations.AddField("book", "e", models.ForeignKey(
            "shop.author", models.CASCADE, null=True, db_index=False, related_name="+")),
        migrations.AddField("book", "c", models.IntegerField(db_default=1)),
        """,
        after=["shop.0002_slow"],
        more="atomic = False",
        before="""
        from django.contrib.postgres.operations import (
            AddConstraintNotValid, AddIndexConcurrently, ValidateConstraint)
        """,
    )
    report = used.report()
    assert report.tables["shop_book"].rows >= BIG_ROWS
    assert found(report) == [
        ("shop.0002_slow", rule)
        for rule in ("blocking-index", "blocking-constraint", "new-constraint",
                     "blocking-constraint", "new-constraint", "table-rewrite")
    ] + [("shop.0003_fast", "new-constraint")]  # fmt: skip


def test_a_migration_declares_what_it_breaks_on_purpose(used: Project) -> None:
    migration(
        used,
        "shop.0002_no_pages",
        'migrations.RemoveField("book", "pages"), migrations.RemoveField("book", "title"),',
        after=["shop.0001_initial"],
        more='bedstone_accepts = ["drop-column"]',
    )
    report = used.report()
    assert report.pending[0].accepts == ("drop-column",)
    assert lint(report) == ()


def test_functions_in_python_are_named_and_not_run(used: Project) -> None:
    migration(
        used,
        "shop.0002_fill",
        """
        migrations.RunPython(fill),
        migrations.RunPython(migrations.RunPython.noop),
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunPython(fill, fill)], state_operations=[]),
        migrations.RunSQL("DO $$ BEGIN DROP TABLE shop_book; END $$", ""),
        Sneaky(),
        """,
        after=["shop.0001_initial"],
        before="""
        def fill(apps, schema_editor):
            apps.get_model("shop", "Author").objects.create(name="x")

        class Sneaky(migrations.operations.base.Operation):
            def state_forwards(self, app_label, state):
                pass
            def database_forwards(self, app_label, editor, before, after):
                with editor.connection.cursor() as cursor:
                    cursor.execute("INSERT INTO shop_author (name) VALUES ('x')")
        """,
    )
    report = used.report()
    assert report.pending[0].why_not == "RunPython(fill) has no reverse_code"
    words = [what for _, what in unjudged(report)]
    assert words[:2] == ["RunPython(fill)", "RunPython(fill)"]
    assert "it runs commands of its own" in words[2]
    assert words[3].startswith("DO $$")
    assert used.sql("SELECT count(*) FROM shop_author") == "0\n"


# --- with the app's own check in one start ---


def test_one_start_checks_and_reports(used: Project) -> None:
    settings = used.folder / "project_settings.py"
    settings.write_text(settings.read_text() + 'print("settings are loaded")\n')
    migration(used, "shop.0002_isbn", ADD_ISBN, after=["shop.0001_initial"])
    done = used.checked("--deploy", "--fail-level", "CRITICAL")
    assert done.returncode == 0, done.output
    assert done.output.count("settings are loaded") == 1
    assert "security.W020" in done.stderr
    assert DONE in done.stdout.splitlines()
    assert parse(done.stdout) == used.report()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SECRET_KEY = {}['missing']\n",
        "SECRET_KEY = (\n",
        "import sys\nif 'check' in sys.argv: sys.exit('not with these settings')\n",
        "INSTALLED_APPS += ['missing']\n",
    ],
    ids=["warnings", "exception", "syntax", "exit", "app"],
)
def test_failed_check_says_what_it_says_alone(used: Project, text: str) -> None:
    settings = used.folder / "project_settings.py"
    settings.write_text(settings.read_text() + text)
    options = ("--deploy", "--fail-level", "WARNING")
    alone = used.run("python", "manage.py", "check", *options, check=False)
    done = used.checked(*options)
    assert alone.returncode != 0
    assert (done.returncode, done.stdout, done.stderr) == (
        alone.returncode,
        alone.stdout,
        alone.stderr,
    )


def test_one_start_migrates_and_collects(used: Project) -> None:
    settings = used.folder / "project_settings.py"
    settings.write_text(
        settings.read_text()
        + 'print("settings are loaded")\nINSTALLED_APPS += ["django.contrib.staticfiles"]\n'
        + 'STATIC_URL, STATIC_ROOT = "/static/", "collected"\n'
    )
    used.write("shop/static/shop.css", "body {}")
    migration(used, "shop.0002_isbn", ADD_ISBN, after=["shop.0001_initial"])
    done = used.collected()
    assert done.returncode == 0, done.output
    assert done.output.count("settings are loaded") == 1
    assert done.stdout.splitlines().count(DONE) == 2
    assert (used.folder / "collected/shop.css").read_text() == "body {}"
    assert used.report().pending == ()


def test_failed_migrate_says_what_it_says_alone_and_collects_nothing(used: Project) -> None:
    migration(
        used,
        "shop.0002_half",
        "migrations.RunSQL('SELECT 1/0', migrations.RunSQL.noop),",
        after=["shop.0001_initial"],
    )
    alone = used.run(*used.migrate[0], check=False)
    done = used.collected()
    assert alone.returncode != 0
    assert "division by zero" in alone.stderr
    assert (done.returncode, done.stdout, done.stderr) == (
        alone.returncode,
        alone.stdout,
        alone.stderr,
    )


def test_probe_that_fails_after_the_check_leaves_it_passed(used: Project) -> None:
    migration(used, "shop.0002_a", ADD_ISBN, after=["shop.0001_initial"])
    migration(used, "shop.0002_b", ADD_ISBN, after=["shop.0001_initial"])
    done = used.checked()
    assert done.returncode != 0
    assert DONE in done.stdout.splitlines()
    assert "Conflicting migrations" in done.stderr


def test_conflicting_migrations_are_said_before_anything_is_done(used: Project) -> None:
    migration(used, "shop.0002_a", ADD_ISBN, after=["shop.0001_initial"])
    migration(used, "shop.0002_b", ADD_ISBN, after=["shop.0001_initial"])
    done = used.asked(check=False)
    assert done.returncode != 0
    assert "Conflicting migrations" in done.output
    assert "0002_a, 0002_b in shop" in done.output


@pytest.mark.parametrize(
    "command",
    [
        ("python", "manage.py", "migrate", "shop", "0002", "--settings", "other_settings"),
        (
            "django-admin",
            "migrate",
            "--settings=other_settings",
            "--pythonpath",
            ".",
            "shop",
            "0002",
        ),
        ("sh", "-c", "python -m django migrate shop 0002 --settings=other_settings --pythonpath=."),
    ],
)
def test_the_options_and_the_target_of_the_declared_command_are_used(
    used: Project, command: tuple[str, ...]
) -> None:
    (used.folder / "project_settings.py").rename(used.folder / "other_settings.py")
    migration(used, "shop.0002_a", ADD_ISBN, after=["shop.0001_initial"])
    migration(used, "shop.0003_b", 'migrations.DeleteModel("Room"),', after=["shop.0002_a"])
    used.migrate = (command,)
    assert [each.name for each in used.report().pending] == ["shop.0002_a"]


def test_the_way_back_takes_the_options_of_the_declared_command(used: Project) -> None:
    (used.folder / "project_settings.py").rename(used.folder / "other_settings.py")
    migration(used, "shop.0002_a", ADD_ISBN, after=["shop.0001_initial"])
    used.migrate = (("python", "manage.py", "migrate", "--settings", "other_settings"),)
    used.upgrade()
    undo(used, way_back(used, *BEFORE))
    assert "0002_a" not in used.sql("SELECT name FROM django_migrations")


# --- squashed ---


SQUASH = 'replaces = [("shop", "0001_initial"), ("shop", "0002_isbn")]'


def write_squash(project: Project) -> None:
    migration(project, "shop.0001_squashed_0002_isbn", FIRST + ADD_ISBN, more=SQUASH)
    migration(
        project,
        "shop.0003_room",
        'migrations.DeleteModel("Room"),',
        after=["shop.0001_squashed_0002_isbn"],
    )


def test_a_squashed_migration_is_pending_as_one_on_an_empty_database(project: Project) -> None:
    migration(project, "shop.0002_isbn", ADD_ISBN, after=["shop.0001_initial"])
    write_squash(project)
    names = [each.name for each in project.report().pending]
    assert names[2:] == ["shop.0001_squashed_0002_isbn", "shop.0003_room"]


def test_a_squash_of_what_is_applied_is_nothing_to_do_or_undo(used: Project) -> None:
    migration(used, "shop.0002_isbn", ADD_ISBN, after=["shop.0001_initial"])
    used.upgrade()
    keep = used.report().applied
    write_squash(used)
    assert [each.name for each in used.report().pending] == ["shop.0003_room"]
    used.upgrade()
    assert "shop.0001_squashed_0002_isbn" in used.report().applied
    backward = way_back(used, *keep)
    assert backward.migrations == ("shop.0003_room",)
    assert backward.irreversible == ()
    assert backward.commands == (
        ("python", "manage.py", "migrate", "shop", "0001_squashed_0002_isbn", "--noinput"),
    )
    undo(used, backward)
    assert way_back(used, *keep) == Backward()


def test_a_part_of_a_squash_can_not_be_undone(used: Project) -> None:
    migration(used, "shop.0002_isbn", ADD_ISBN, after=["shop.0001_initial"])
    migration(used, "shop.0001_squashed_0002_isbn", FIRST + ADD_ISBN, more=SQUASH)
    used.upgrade()
    backward = way_back(used, *BEFORE)
    assert (
        "shop.0002_isbn",
        "it is squashed into shop.0001_squashed_0002_isbn with others that stay",
    ) in backward.irreversible
    whole = way_back(used, *BEFORE[:2])
    assert whole.migrations == ("shop.0001_squashed_0002_isbn",)
    assert whole.commands == (("python", "manage.py", "migrate", "shop", "zero", "--noinput"),)
    assert way_back(used, *BEFORE[:2], "shop.0001_squashed_0002_isbn") == Backward()


# --- backwards ---


def test_the_way_back_leads_to_the_schema_of_before(used: Project) -> None:
    before = schema_digest.of_database(used.server, used.database)
    migration(used, "shop.0002_isbn", ADD_ISBN, after=["shop.0001_initial"])
    migration(used, "shop.0003_room", 'migrations.DeleteModel("Room"),', after=["shop.0002_isbn"])
    migration(used, "stock.0001_initial", STOCK, after=["shop.0002_isbn"])
    used.upgrade()
    assert schema_digest.of_database(used.server, used.database) != before
    backward = way_back(used, *BEFORE)
    assert set(backward.migrations) == {"shop.0002_isbn", "shop.0003_room", "stock.0001_initial"}
    assert backward.irreversible == ()
    undo(used, backward)
    assert schema_digest.of_database(used.server, used.database) == before
    assert used.report(BEFORE).applied == BEFORE


def test_what_others_build_upon_is_undone_after_them(used: Project) -> None:
    migration(used, "shop.0002_isbn", ADD_ISBN, after=["shop.0001_initial"])
    migration(used, "stock.0001_initial", STOCK, after=["shop.0002_isbn"])
    used.upgrade()
    backward = way_back(used, *BEFORE)
    assert backward.migrations == ("stock.0001_initial", "shop.0002_isbn")
    # What is to stay must not build upon what goes.
    odd = way_back(used, *BEFORE, "stock.0001_initial")
    assert odd.irreversible == (
        ("shop.0002_isbn", "Django can't undo it and leave alone what is to stay beside it"),
    )
    assert odd.commands == ()


def test_what_can_not_be_undone_is_named_with_the_reason(used: Project) -> None:
    cases = {
        "0002_a": ("migrations.RunPython(fill)", "RunPython(fill) has no reverse_code"),
        "0003_b": ("migrations.RunPython(fill, migrations.RunPython.noop)", None),
        "0004_c": ('migrations.RunSQL("SELECT 1")', "RunSQL: Raw SQL operation has no reverse_sql"),
        "0005_d": ('migrations.RunSQL("SELECT 1", "SELECT 1")', None),
        "0006_e": (
            'migrations.SeparateDatabaseAndState([migrations.RunSQL("SELECT 1")])',
            "RunSQL: Raw SQL operation has no reverse_sql",
        ),
        "0007_f": ('migrations.RemoveField("book", "pages")', None),
        "0008_g": (
            'migrations.RemoveField("book", "price")',
            (
                "undoing it brings back book.price, which takes no NULL and has no default:"
                " the rows of today have no value for it"
            ),
        ),
        "0009_h": ('migrations.DeleteModel("Room")', None),
        "0010_i": (
            (
                'migrations.AlterField("book", "title", models.TextField(null=True)),'
                'migrations.RemoveField("book", "title")'
            ),
            None,
        ),
    }
    before = "0001_initial"
    for name, (operation, _) in cases.items():
        migration(
            used,
            f"shop.{name}",
            f"{operation},",
            after=[f"shop.{before}"],
            before="def fill(apps, schema_editor): pass",
        )
        before = name
    whys = {f"shop.{name}": why for name, (_, why) in cases.items()}
    assert {each.name: each.why_not for each in used.report().pending} == whys
    used.upgrade()
    backward = way_back(used, *BEFORE)
    assert len(backward.migrations) == len(cases)
    assert dict(backward.irreversible) == {name: why for name, why in whys.items() if why}


def test_what_is_missing_or_not_known_can_not_be_put_right(used: Project) -> None:
    used.sql("INSERT INTO django_migrations (app, name, applied) VALUES ('shop', '0009_x', now())")
    report = used.report([*BEFORE, "shop.0005_gone"])
    assert report.unknown == ("shop.0009_x",)
    assert report.pending == ()
    backward = report.backward
    assert backward is not None
    assert dict(backward.irreversible) == {
        "shop.0005_gone": (
            "it was applied then and isn't any more; undoing others can't bring it back"
        ),
        "shop.0009_x": "this image doesn't know it",
    }
    assert backward.commands == ()
