"""What belongs to the app is loaded as its owners, what belongs to a superuser as one."""

from __future__ import annotations

from dataclasses import replace

from bedstone.postgres import restore_role
from bedstone.postgres.restore_role import Login, Turn

LISTING = """\
;
; Archive created at 2026-11-20 17:16:54 UTC
;
2; 3079 16388 EXTENSION - pg_trgm \n\
3445; 0 0 COMMENT - EXTENSION pg_trgm \n\
5; 2615 2200 SCHEMA - public payments_owner
3450; 0 0 ACL - SCHEMA public payments_owner
7; 2615 16469 SCHEMA - audit payments_owner
8; 2615 16470 SCHEMA - reports postgres
3444; 0 0 ACL - SCHEMA reports postgres
215; 1259 16402 TABLE public order Lines payments_owner
217; 1259 16471 VIEW reports overview postgres
3453; 0 0 ACL reports TABLE overview postgres
3433; 0 16500 TABLE DATA audit entry payments_owner
3426; 0 16487 ROW SECURITY public orders payments_owner
3427; 3256 16515 POLICY public orders own payments_owner
3428; 6104 16518 PUBLICATION - orders_only payments_owner
3269; 3466 16476 EVENT TRIGGER - noted postgres
2106; 826 16478 DEFAULT ACL public DEFAULT PRIVILEGES FOR TABLES payments_owner
3436; 0 0 BLOBS - BLOBS \n\
"""


LOGIN = Login("bedstone_restore", "payments_owner", frozenset({"postgres", "pg_monitor"}))


def numbers(lines: list[str]) -> list[int]:
    return [int(line.partition(";")[0]) for line in lines]


def test_it_goes_in_turns() -> None:
    turns = restore_role.split(LISTING.splitlines(), LOGIN)
    assert [(turn.superuser, turn.heir) for turn in turns] == [
        (True, None),
        (True, None),
        (False, None),
        # What a superuser owns may call functions of the app.
        (False, "postgres"),
        (True, None),
        (False, None),
    ]
    extensions, before, own, views, after, last = (numbers(turn.lines) for turn in turns)
    assert extensions == [2]
    assert before == [3445, 5, 3450, 8, 3444]
    assert own == [7, 215, 3433, 2106, 3436]
    assert views == [217]
    assert after == [3453, 3428, 3269]
    # The owner of a table with forced row security doesn't see the rows that a foreign key needs.
    assert last == [3426, 3427]


def test_nothing_is_lost_and_no_turn_is_empty() -> None:
    entries = [line for line in LISTING.splitlines() if line[0] != ";"]
    turns = restore_role.split(LISTING.splitlines(), LOGIN)
    assert sorted(line for turn in turns for line in turn.lines) == sorted(entries)
    plain = ["215; 1259 16402 TABLE public orders payments_owner"]
    assert restore_role.split(plain, LOGIN) == [Turn(plain)]


def test_name_that_ends_like_the_superusers_is_not_his() -> None:
    line = "215; 1259 16402 TABLE public orders notpostgres"
    assert restore_role.split([line], LOGIN) == [Turn([line])]


def test_extension_of_the_app_is_made_by_its_owner() -> None:
    login = replace(LOGIN, extensions={"pg_trgm": "payments_owner"})
    lines = [
        "2; 3079 16388 EXTENSION - pg_trgm ",
        "3; 3079 16389 EXTENSION - pg_stat_statements ",
        "3445; 0 0 COMMENT - EXTENSION pg_trgm ",
    ]
    turns = restore_role.split(lines, login)
    assert [(turn.superuser, turn.role) for turn in turns] == [
        (False, "payments_owner"),
        (True, None),
        (True, None),
    ]


def test_rows_of_an_extensions_table_are_the_superusers() -> None:
    lines = [
        "215; 1259 16402 TABLE reports notes postgres",
        "3433; 0 16402 TABLE DATA reports notes postgres",
        "3434; 0 16500 TABLE DATA public spatial_ref_sys postgres",
    ]
    turns = restore_role.split(lines, LOGIN)
    assert [(turn.superuser, numbers(turn.lines)) for turn in turns] == [
        (False, [215, 3433]),
        (True, [3434]),
    ]
