"""What a new database gets from another one, as SQL."""

from __future__ import annotations

from typing import Any

import pytest

from bedstone.postgres import properties as database_properties
from bedstone.postgres import server as postgres

COMMON: dict[str, Any] = {
    "owner": "pay_owner",
    "encoding_name": "UTF8",
    "datcollate": "C.UTF-8",
    "datctype": "C.UTF-8",
    "datlocprovider": "c",
    "datconnlimit": -1,
}


def test_database_is_made_with_the_same_locale() -> None:
    statement = database_properties.create_statement("new", "pay_owner", COMMON)
    assert statement == (
        'CREATE DATABASE "new" OWNER "pay_owner" TEMPLATE template0 ENCODING \'UTF8\''
        " LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8' LOCALE_PROVIDER libc CONNECTION LIMIT -1;"
    )


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"datlocprovider": "i", "daticulocale": "de"}, "LOCALE_PROVIDER icu ICU_LOCALE 'de'"),
        ({"datlocprovider": "i", "datlocale": "de"}, "LOCALE_PROVIDER icu ICU_LOCALE 'de'"),
        (
            {"datlocprovider": "b", "datlocale": "C.UTF-8"},
            "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'",
        ),
    ],
)
def test_locale_provider_of_each_version_is_kept(columns: dict[str, Any], expected: str) -> None:
    assert expected in database_properties.create_statement("n", "o", {**COMMON, **columns})


def test_privileges_are_exactly_those_of_the_other_database() -> None:
    properties = {
        **COMMON,
        "privileges": [
            {"role": "pay_owner", "privilege": "CREATE", "grantable": False},
            {"role": "pay_app", "privilege": "CONNECT", "grantable": True},
            {"role": None, "privilege": "TEMPORARY", "grantable": False},
        ],
    }
    assert database_properties.like("new", "new_owner", properties).splitlines() == [
        'REVOKE ALL ON DATABASE "new" FROM PUBLIC, "new_owner";',
        'GRANT CREATE ON DATABASE "new" TO "new_owner";',
        'GRANT CONNECT ON DATABASE "new" TO "pay_app" WITH GRANT OPTION;',
        'GRANT TEMPORARY ON DATABASE "new" TO PUBLIC;',
    ]


def test_untouched_privileges_stay_the_defaults() -> None:
    assert database_properties.like("new", "o", {**COMMON, "privileges": None}) == ""


def test_settings_of_roles_go_along_and_can_not_break_out() -> None:
    properties = {
        **COMMON,
        "settings": [
            {"role": "pay_migrate", "values": ["role=pay_owner"]},
            {"role": None, "values": ['search_path="$user", public', "app.x=it's; DROP"]},
        ],
    }
    assert database_properties.like("new", "o", properties).splitlines() == [
        'ALTER ROLE "pay_migrate" IN DATABASE "new" SET "role" TO \'pay_owner\';',
        "ALTER DATABASE \"new\" SET \"search_path\" TO '$user', 'public';",
        'ALTER DATABASE "new" SET "app"."x" TO \'it\'\'s; DROP\';',
    ]


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ('"$user", public', ["$user", "public"]),
        ("a;drop/**/table,b", ["a;drop/**/table", "b"]),
        ('"a, ""b"', ['a, "b']),
        ('""', []),
        ("", []),
    ],
)
def test_lists_are_split_as_postgresql_writes_them(value: str, names: list[str]) -> None:
    assert database_properties.split_list(value) == names


@pytest.mark.parametrize(
    ("text", "quoted"), [("a", "'a'"), ("it's", "'it''s'"), ("a\\b", " E'a\\\\b'")]
)
def test_texts_are_quoted(text: str, quoted: str) -> None:
    assert postgres.literal(text) == quoted


def test_error_says_what_postgresql_said() -> None:
    error = postgres.explained('psql:<stdin>:1: ERROR:  relation "x" does not exist\nLINE 1: ...')
    assert error.message == 'relation "x" does not exist.'


def test_missing_server_is_named_with_where_to_look() -> None:
    error = postgres.explained('psql: error: connection to server on socket "..." failed: No such')
    assert error.message == "PostgreSQL doesn't answer on this server."
    assert "systemctl status" in (error.hint or "")


def test_no_password_and_no_sql_in_any_argument() -> None:
    server = postgres.Server("/run", 5432)
    arguments = server.psql("payments")
    assert "--no-password" in arguments
    assert arguments[-2:] == ["--file", "-"]
