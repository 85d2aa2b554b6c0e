from __future__ import annotations

from bedstone.postgres.schema_digest import digest

DUMP = """--
-- PostgreSQL database dump
--

\\restrict {token}

-- Dumped from database version {version}
-- Dumped by pg_dump version {version}

SET statement_timeout = 0;
SELECT pg_catalog.set_config('search_path', '', false);

--
-- Name: f(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.f() RETURNS integer
    LANGUAGE plpgsql
    AS $$ BEGIN

    -- {remark}
    RETURN 1; END $$;


SET default_tablespace = '';

--
-- Name: book; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.book (
{columns}
);


--
-- PostgreSQL database dump complete
--

\\unrestrict {token}

"""


def dump(*columns: str, token: str = "a", version: str = "15.1", remark: str = "one") -> str:
    lines = ",\n".join(f"    {column}" for column in columns)
    return DUMP.format(columns=lines, token=token, version=version, remark=remark)


def test_versions_tokens_and_the_order_of_columns_do_not_count() -> None:
    first = dump("id integer NOT NULL", "title text DEFAULT 'a, b'::text")
    second = dump("title text DEFAULT 'a, b'::text", "id integer NOT NULL", token="b", version="17")
    assert digest(first) == digest(second)


def test_everything_else_counts() -> None:
    same = dump("id integer NOT NULL")
    assert len(digest(same)) == 32
    others = [
        dump("id integer"),
        dump("id integer NOT NULL", "x text"),
        dump("id integer NOT NULL", remark="two"),
        same.replace("public.book", "public.volume"),
    ]
    assert len({digest(text) for text in [same, *others]}) == 5


def test_an_empty_schema_has_a_digest() -> None:
    assert digest("") == digest("--\n-- PostgreSQL database dump\n--\n")
