"""Squashed migrations of real projects, right and deliberately wrong, on a real PostgreSQL."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bedstone.core.errors import BedstoneError
from bedstone.core.process import run
from bedstone.migrations import commands, squash
from bedstone.migrations.squash import DATABASES, Comparison
from tests.integration import projects
from tests.integration.cluster import ADMINISTRATOR, PORT, Cluster
from tests.integration.projects import Project, migration

FIRST = """
migrations.CreateModel("Author", [
    ("id", models.BigAutoField(primary_key=True)),
    ("name", models.CharField(max_length=100)),
]),
migrations.CreateModel("Draft", [("id", models.BigAutoField(primary_key=True))]),
"""
SECOND = """
migrations.CreateModel("Book", [
    ("id", models.BigAutoField(primary_key=True)),
    ("title", models.CharField(max_length=50)),
    ("kind", models.CharField(max_length=10)),
    ("author", models.ForeignKey("shop.author", models.CASCADE)),
]),
migrations.AddIndex("book", models.Index(fields=["title"], name="book_title")),
migrations.DeleteModel("Draft"),
"""
THIRD = """
migrations.AlterField("book", "title", models.CharField(max_length=200)),
migrations.AlterField("book", "kind", models.CharField(max_length=10, db_default="paper")),
migrations.AddField("book", "price", models.IntegerField(default=0)),
migrations.AddConstraint("book", models.CheckConstraint(
    condition=models.Q(price__gte=0), name="book_price")),
migrations.AddConstraint("book", models.UniqueConstraint(
    fields=["author", "title"], name="book_once")),
migrations.RunSQL([
    "CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN NEW.title := upper(NEW.title); RETURN NEW; END $$",
    "CREATE TRIGGER shout BEFORE INSERT ON shop_book FOR EACH ROW EXECUTE FUNCTION shout()",
    "CREATE SEQUENCE shop_invoice START 1000",
    "INSERT INTO shop_author (name) VALUES ('house')",
]),
"""
SQUASHED = """
migrations.CreateModel("Author", [
    ("id", models.BigAutoField(primary_key=True)),
    ("name", models.CharField(max_length=100)),
]),
migrations.CreateModel("Book", [
    ("id", models.BigAutoField(primary_key=True)),
    ("title", models.CharField(max_length=200)),
    ("kind", models.CharField(max_length=10, db_default="paper")),
    ("author", models.ForeignKey("shop.author", models.CASCADE)),
    ("price", models.IntegerField(default=0)),
], options={
    "indexes": [models.Index(fields=["title"], name="book_title")],
    "constraints": [
        models.CheckConstraint(condition=models.Q(price__gte=0), name="book_price"),
        models.UniqueConstraint(fields=["author", "title"], name="book_once"),
    ],
}),
migrations.RunSQL([
    "CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN NEW.title := upper(NEW.title); RETURN NEW; END $$",
    "CREATE TRIGGER shout BEFORE INSERT ON shop_book FOR EACH ROW EXECUTE FUNCTION shout()",
    "CREATE SEQUENCE shop_invoice START 1000",
    "INSERT INTO shop_author (name) VALUES ('house')",
]),
"""
NAME = "shop.0001_squashed_0003_third"
REPLACED = ("shop.0001_first", "shop.0002_second", "shop.0003_third")
REPLACES = f"replaces = {[tuple(each.split('.')) for each in REPLACED]!r}"


@pytest.fixture(autouse=True)
def _no_database_stays(cluster: Cluster) -> Iterator[None]:
    yield
    for name in DATABASES.values():
        cluster.server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture
def project(tmp_path: Path, cluster: Cluster) -> Project:
    """Return a project whose own database isn't there: the comparison needs none."""
    made = projects.django(tmp_path / "image", cluster.server, "no_such_database")
    migration(made, REPLACED[0], FIRST)
    migration(made, REPLACED[1], SECOND, after=REPLACED[:1])
    migration(made, REPLACED[2], THIRD, after=REPLACED[1:2])
    # Another app builds upon the last of them, and is squashed in no way.
    item = '("book", models.ForeignKey("shop.book", models.CASCADE))'
    identity = '("id", models.BigAutoField(primary_key=True))'
    migration(
        made,
        "stock.0001_item",
        f'migrations.CreateModel("Item", [{identity}, {item}]),',
        after=REPLACED[2:],
    )
    return made


def squashed(project: Project, operations: str = SQUASHED, more: str = REPLACES) -> None:
    migration(project, NAME, operations, more=more)


def compare(project: Project, monkeypatch: pytest.MonkeyPatch, *squashes: str) -> Comparison:
    variables = {
        "PATH": f"{projects.PROGRAMS}{os.pathsep}{os.environ['PATH']}",
        "DATABASE": "no_such_database",
    }
    variables |= {"PGHOST": "/nowhere", "PGPORT": "1", "PGUSER": "no_one"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    (django,) = commands.django(project.migrate)
    return squash.compare(project.server, django, project.folder, squashes)


def second_judge(cluster: Cluster) -> str:
    """Return what `results` would run to make of the squashed schema the replaced ones' schema."""
    urls = (
        f"postgresql:///{DATABASES[which]}?host={cluster.folder}&port={PORT}&user={ADMINISTRATOR}"
        for which in (squash.SQUASHED, squash.REPLACED)
    )
    done = run(["results", "dbdiff", *urls], allowed=(0, 2, 3), timeout=120)
    return done.stdout.strip()


def test_right_squash_is_equal_and_the_second_judge_agrees(
    project: Project, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    squashed(project)
    found = compare(project, monkeypatch)
    assert found.squashes == {NAME: list(REPLACED)}
    assert found.schema == ()
    assert found.rows == {}
    assert found.is_equal
    assert found.objects == 25
    assert second_judge(cluster) == ""
    # Each database was migrated in its own way.
    records = "SELECT name FROM public.django_migrations WHERE app = 'shop' ORDER BY id"
    ways = [cluster.server.execute(records, name).split() for name in DATABASES.values()]
    assert [each.partition(".")[2] for each in REPLACED] == ways[0]
    assert NAME.partition(".")[2] in ways[1]


# Each mistake of a squash: what is there, what stands there in its place, and a word of the
# statement by which the second judge mends it.
DRAFT = 'migrations.CreateModel("Draft", [("id", models.BigAutoField(primary_key=True))]),'
MISTAKES = {
    "index": ('"indexes": [models.Index(fields=["title"], name="book_title")],', "", "book_title"),
    "default": ('db_default="paper"', 'db_default="stone"', "'paper'"),
    "length": ("max_length=200", "max_length=50", "varying(200)"),
    "null": ("IntegerField(default=0)", "IntegerField(default=0, null=True)", "price"),
    "check": (
        'models.CheckConstraint(condition=models.Q(price__gte=0), name="book_price"),',
        "",
        "book_price",
    ),
    "unique": (
        'models.UniqueConstraint(fields=["author", "title"], name="book_once"),',
        "",
        "book_once",
    ),
    "foreign key": (
        '"shop.author", models.CASCADE)',
        '"shop.author", models.CASCADE, db_constraint=False)',
        "foreign key",
    ),
    "trigger": (
        '"CREATE TRIGGER shout BEFORE INSERT ON shop_book FOR EACH ROW EXECUTE FUNCTION shout()",',
        "",
        "trigger shout",
    ),
    "function": ("upper(NEW.title)", "lower(NEW.title)", "upper("),
    "sequence": ("CREATE SEQUENCE shop_invoice START 1000", "SELECT 1", "shop_invoice"),
    "another table": ("migrations.RunSQL([", f"{DRAFT}\nmigrations.RunSQL([", "shop_draft"),
    "rows": ("\"INSERT INTO shop_author (name) VALUES ('house')\",", "", ""),
}
FOUND = {
    ("only in the first", "INDEX", "public.book_title"),
    ("different", "TABLE", "public.shop_book"),
    ("only in the first", "CONSTRAINT", "public.shop_book book_once"),
    ("only in the first", "TRIGGER", "public.shop_book shout"),
    ("different", "FUNCTION", "public.shout()"),
    ("only in the first", "SEQUENCE", "public.shop_invoice"),
    ("only in the second", "TABLE", "public.shop_draft"),
    ("only in the second", "SEQUENCE", "public.shop_draft_id_seq"),
    ("only in the second", "CONSTRAINT", "public.shop_draft shop_draft_pkey"),
}


def test_every_mistake_is_caught_and_the_second_judge_agrees(
    project: Project, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = SQUASHED
    for right, mistake, _ in MISTAKES.values():
        assert SQUASHED.count(right) == 1
        wrong = wrong.replace(right, mistake)
    squashed(project, wrong)
    found = compare(project, monkeypatch)
    assert not found.is_equal
    assert found.rows == {"public.shop_author": (1, 0)}
    (lost,) = (each for each in found.schema if each.kind == "FK CONSTRAINT")
    assert lost.what == "only in the first"
    assert "FOREIGN KEY (author_id) REFERENCES public.shop_author(id)" in lost.first[1]
    others = {(each.what, each.kind, each.name) for each in found.schema if each != lost}
    assert others == FOUND
    (table,) = (each for each in found.schema if each.name == "public.shop_book")
    assert set(table.first) == {
        "CONSTRAINT book_price CHECK ((price >= 0))",
        "kind character varying(10) DEFAULT 'paper'::character varying NOT NULL",
        "price integer NOT NULL",
        "title character varying(200) NOT NULL",
    }
    assert set(table.second) == {
        "kind character varying(10) DEFAULT 'stone'::character varying NOT NULL",
        "price integer",
        "title character varying(50) NOT NULL",
    }
    said = second_judge(cluster).lower()
    assert [name for name, (_, _, word) in MISTAKES.items() if word.lower() not in said] == []


def test_squash_of_djangos_own_command_is_equal(
    project: Project, cluster: Cluster, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.database = database
    command = ("python", "manage.py", "squashmigrations", "shop", "0003", "--noinput")
    project.run(*command)
    found = compare(project, monkeypatch, "shop")
    assert list(found.squashes.values()) == [list(REPLACED)]
    assert found.is_equal
    assert second_judge(cluster) == ""


def test_squash_that_can_not_be_applied_is_told_with_djangos_words(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    squashed(project, SQUASHED.replace("CREATE SEQUENCE", "CREATE SEQUINCE"))
    with pytest.raises(BedstoneError, match="squashed migrations can't be applied") as error:
        compare(project, monkeypatch)
    assert "SEQUINCE" in error.value.details


def test_without_a_squash_there_is_nothing_to_compare(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BedstoneError) as error:
        compare(project, monkeypatch)
    assert "There is no squashed migration" in error.value.details


def test_wrong_name_is_told_with_the_names_that_there_are(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    squashed(project)
    with pytest.raises(BedstoneError) as error:
        compare(project, monkeypatch, "stock")
    assert NAME in error.value.details


def test_replaced_files_that_are_gone_are_named(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    squashed(project)
    (project.folder / "shop/migrations/0002_second.py").unlink()
    with pytest.raises(BedstoneError) as error:
        compare(project, monkeypatch)
    assert "shop.0002_second" in error.value.details
