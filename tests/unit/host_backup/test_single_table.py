"""One table of a backup, beside what serves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bedstone import backup, cli, dump, manifest, restore_check, single_table
from bedstone.backup_settings import Settings
from bedstone.errors import RefusedError
from bedstone.postgres import Server
from bedstone.run import Completed
from bedstone.single_table import Table
from tests.unit.host_backup.conftest import FakePostgres

LISTING = """\
;
; Archive created at 2026-11-20 02:00:00 UTC
;     dbname: payments
;
7; 2615 16391 SCHEMA - audit payments_owner
2; 3079 16392 EXTENSION - pg_trgm
3421; 0 0 COMMENT - EXTENSION pg_trgm
215; 1259 16402 TABLE public orders payments_owner
216; 1259 16403 SEQUENCE public orders_id_seq payments_owner
217; 1259 16410 TABLE public order_lines payments_owner
218; 1259 16420 TABLE audit entry payments_owner
219; 1259 16430 TABLE public visits payments_owner
220; 1259 16431 TABLE public visits_2026 payments_owner
3300; 0 0 TABLE ATTACH public visits_2026 payments_owner
221; 1259 16440 TABLE public entry payments_owner
222; 1259 16450 TABLE public odd name payments_owner
223; 1259 16460 VIEW public open_orders payments_owner
3401; 0 16402 TABLE DATA public orders payments_owner
3402; 0 16410 TABLE DATA public order_lines payments_owner
3403; 0 16431 TABLE DATA public visits_2026 payments_owner
3500; 0 0 SEQUENCE SET public orders_id_seq payments_owner
3501; 2606 16500 CONSTRAINT public orders orders_pkey payments_owner
3502; 1259 16501 INDEX public orders_title_idx payments_owner
3503; 2606 16502 FK CONSTRAINT public order_lines order_lines_order_fkey payments_owner
3504; 2620 16503 TRIGGER public orders orders_audit payments_owner
3505; 0 16450 MATERIALIZED VIEW DATA public totals payments_owner
"""


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("public.orders", Table("public", "orders")),
        ("orders", Table("public", "orders")),
        ("audit.entry", Table("audit", "entry")),
        ("visits", Table("public", "visits")),
        ("public.odd name", Table("public", "odd name")),
    ],
)
def test_table_is_found_by_its_name(wanted: str, found: Table) -> None:
    assert single_table.find(LISTING, wanted) == found


@pytest.mark.parametrize(
    ("wanted", "message", "hint"),
    [
        ("public.order", "no table public.order", "Did you mean public.orders"),
        ("ordres", "no table ordres", "Did you mean public.orders"),
        ("open_orders", "no table open_orders", "public.orders"),
        ("xyzzy", "no table xyzzy", "Its tables: audit.entry, public.entry, public.odd name"),
        ("entry", "audit.entry, public.entry", "Say which: --table audit.entry"),
    ],
)
def test_table_that_is_not_there_or_not_clear_is_refused(
    wanted: str, message: str, hint: str
) -> None:
    with pytest.raises(RefusedError) as caught:
        single_table.find(LISTING, wanted)
    assert message in caught.value.message
    assert hint in str(caught.value.hint)


def test_rows_of_others_foreign_keys_and_triggers_are_left_away() -> None:
    belongs = single_table.wanted([Table("public", "orders")])
    numbers = [int(line.split(";")[0]) for line in LISTING.splitlines() if belongs(line)]
    assert numbers == [3401, 3500, 3501, 3502]


def test_partitions_are_filled_for_their_table(monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[dict[str, Any]] = []
    monkeypatch.setattr(dump, "load", lambda *_, **options: loads.append(options))
    monkeypatch.setattr(Server, "rows", lambda *_: [["public", "visits_2026"]])
    filled = single_table.load(
        Server("/nowhere", 5432), Path("database"), "look", Table("public", "visits"),
        jobs=1, owner=None, watch=lambda: None,
    )  # fmt: skip
    assert filled == {"public.visits_2026"}
    first, second = loads
    assert first["sections"] == ("pre-data",)
    assert second["sections"] == ("data", "post-data")
    assert second["only"]("3403; 0 16431 TABLE DATA public visits_2026 payments_owner")
    assert not second["only"]("3401; 0 16402 TABLE DATA public orders payments_owner")


@pytest.mark.parametrize(
    ("owner", "present"), [(None, True), ("payments_owner", False)], ids=["own", "another app's"]
)
def test_pg_restore_gets_the_sections_and_the_lines(
    monkeypatch: pytest.MonkeyPatch,
    owner: str | None,
    present: bool,  # noqa: FBT001
) -> None:
    called: list[list[str]] = []
    listed: list[str] = []

    def run(argv: list[str], **_: object) -> None:
        called.append(argv)
        (path,) = [word for word in argv if word.startswith("--use-list=")]
        listed.extend(Path(path.removeprefix("--use-list=")).read_text().splitlines())

    monkeypatch.setattr("bedstone.guarded.run", run)
    monkeypatch.setattr(Server, "program", lambda _, name: name)
    said = Completed(("pg_restore",), 0, LISTING, "", 0.0)
    monkeypatch.setattr("bedstone.postgres.call", lambda *_, **__: said)
    dump.load(
        Server("/nowhere", 5432), Path("database"), "look", jobs=1, owner=owner,
        watch=lambda: None, sections=("data",), only=lambda line: "EXTENSION" in line,
    )  # fmt: skip
    assert "--section=data" in called[0]
    assert ("--no-owner" in called[0]) == (owner is not None)
    assert bool(listed) == present


# --- the command ------------------------------------------------------------------------------


@pytest.fixture
def made(settings: Settings, postgres: FakePostgres, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A backup of two tables, and a dump from which one can be had."""
    postgres.put("payments", {"public.orders": 3, "public.order_lines": 7})
    path = backup.create(settings, "payments").backup.path

    def load(*arguments: Any, **_: object) -> frozenset[str]:
        _, directory, database, table = arguments
        rows = json.loads((directory / "toc.dat").read_text())
        only = {name: number if name == str(table) else 0 for name, number in rows.items()}
        postgres.put(database, only)
        return frozenset({str(table)})

    monkeypatch.setattr(dump, "listing", lambda *_: LISTING)
    monkeypatch.setattr(single_table, "load", load)
    return path


def run(*arguments: str) -> int:
    return cli.main(["restore", "payments", "latest", "--yes", *arguments])


@pytest.mark.usefixtures("made")
def test_table_is_restored_beside_and_what_serves_is_left_alone(
    postgres: FakePostgres, capsys: pytest.CaptureFixture[str]
) -> None:
    oid = postgres.oid("payments")
    assert run("--table", "public.orders", "--into", "payments_look") == 0
    assert postgres.rows("payments_look") == {"public.orders": 3, "public.order_lines": 0}
    assert postgres.oid("payments") == oid
    said = capsys.readouterr().out
    assert "holds 3 rows of public.orders, as then; its other tables are empty" in said
    assert "dropdb" in said


@pytest.mark.usefixtures("made")
def test_result_names_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--table", "orders", "--into", "payments_look", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["database"], result["table"], result["rows"]) == (
        "payments_look", "public.orders", 3,
    )  # fmt: skip


@pytest.mark.usefixtures("made")
def test_table_is_never_restored_in_place(
    postgres: FakePostgres, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--table", "public.orders") == 3
    said = capsys.readouterr().err
    assert "never put in the place of one that serves" in said
    assert "--table public.orders --into payments_look" in said
    assert postgres.names() == ["payments"]


@pytest.mark.usefixtures("made")
def test_table_that_is_not_in_the_dump_is_refused_before_anything_is_made(
    postgres: FakePostgres, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--table", "public.order", "--into", "payments_look") == 3
    assert "Did you mean public.orders" in capsys.readouterr().err
    assert postgres.names() == ["payments"]


@pytest.mark.usefixtures("made")
def test_rows_of_another_table_are_noticed(
    postgres: FakePostgres,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(dump, "count", lambda *_: {"public.orders": 2, "public.order_lines": 0})
    assert run("--table", "public.orders", "--into", "payments_look") == 1
    assert "public.orders: 3 in the backup, 2 restored" in capsys.readouterr().err
    assert postgres.names() == ["payments"]


def test_person_is_told_what_will_be_made(made: Path, settings: Settings) -> None:
    plan = restore_check.check(
        settings, settings.app("payments"), made, into="payments_look", table="orders"
    )
    assert "made beside with all tables; only public.orders (3 rows) is filled" in plan.describe()


def test_small_table_of_a_large_database_needs_little_room(
    made: Path, configure: Callable[..., Settings]
) -> None:
    assert configure()
    found = manifest.read(made)
    assert found.database is not None
    object.__setattr__(found.database, "bytes", 10**12)
    found.files.clear()
    found.files["database/toc.dat"] = manifest.File(5000, "")
    found.files["database/3401.dat.zst"] = manifest.File(1_000, "")
    found.files["database/3402.dat.zst"] = manifest.File(999_000, "")

    def needed(name: str) -> int:
        return single_table.needed_bytes(LISTING, Table("public", name), found, "database")

    assert needed("orders") == 10**9 + 64 * 1024**2
    assert needed("order_lines") == 999 * 10**9 + 64 * 1024**2
    # Of partitions nobody knows before.
    assert needed("visits") == 10**12
