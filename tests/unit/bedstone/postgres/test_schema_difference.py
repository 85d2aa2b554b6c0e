"""Differences of schemas as pg_dump writes them."""

from __future__ import annotations

from bedstone.postgres.schema_difference import Difference, differences
from bedstone.postgres.schema_digest import Key, digest, keyed

DUMP = r"""--
-- PostgreSQL database dump
--

\restrict token

SET statement_timeout = 0;

--
-- Name: book; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.book (
    id bigint NOT NULL,
    title character varying(100) NOT NULL,
    CONSTRAINT positive CHECK ((id > 0))
);


--
-- Name: book_title; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX book_title ON public.book USING btree (title);


--
-- Name: book book_author_fk; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.book
    ADD CONSTRAINT book_author_fk FOREIGN KEY (id) REFERENCES public.author(id);


--
-- PostgreSQL database dump complete
--

\unrestrict token
"""


def compared(change: str, into: str) -> list[Difference]:
    assert change in DUMP
    return differences(keyed(DUMP), keyed(DUMP.replace(change, into)))


def test_objects_are_those_of_the_dump() -> None:
    assert list(keyed(DUMP)) == [
        Key("TABLE", "public", "book"),
        Key("INDEX", "public", "book_title"),
        Key("FK CONSTRAINT", "public", "book book_author_fk"),
    ]
    assert keyed(DUMP)[Key("INDEX", "public", "book_title")] == (
        "CREATE INDEX book_title ON public.book USING btree (title);",
    )


def test_digest_of_a_release_made_earlier_stays_the_same() -> None:
    # It is kept with each release on the servers.
    assert digest(DUMP) == "c16a6a5c1c2ce096cae7b1cefd33d8fc"


def test_equal_schemas_do_not_differ_whatever_the_columns_order_is() -> None:
    title = "    title character varying(100) NOT NULL,\n"
    moved = DUMP.replace(title, "").replace("    id bigint", f"{title}    id bigint")
    assert moved != DUMP
    assert differences(keyed(DUMP), keyed(moved)) == []


def test_only_the_lines_that_differ_are_told() -> None:
    assert compared("varying(100)", "varying(50)") == [
        Difference(
            "different",
            "TABLE",
            "public.book",
            ("title character varying(100) NOT NULL",),
            ("title character varying(50) NOT NULL",),
        )
    ]


def test_what_only_one_has_is_told_with_its_definition() -> None:
    whole, _, index = DUMP.partition("--\n-- Name: book_title;")
    without = whole + "--\n-- Name: book book_author_fk" + index.partition("book_author_fk")[2]
    definition = ("CREATE INDEX book_title ON public.book USING btree (title);",)
    assert differences(keyed(DUMP), keyed(without)) == [
        Difference("only in the first", "INDEX", "public.book_title", definition)
    ]
    assert differences(keyed(without), keyed(DUMP)) == [
        Difference("only in the second", "INDEX", "public.book_title", second=definition)
    ]


def test_other_name_alone_is_told_as_that() -> None:
    assert compared("book_title", "title_of_book") == [
        Difference(
            "name", "INDEX", "public.book_title", ("public.book_title",), ("public.title_of_book",)
        )
    ]
    (found,) = compared("book_author_fk", "other_fk")
    assert (found.what, found.second) == ("name", ("public.book other_fk",))


def test_the_same_name_on_another_table_is_no_other_name() -> None:
    found = compared("public.book\n    ADD CONSTRAINT", "public.page\n    ADD CONSTRAINT")
    assert [each.what for each in found] == ["different"]
    found = compared("-- Name: book book_author_fk", "-- Name: page book_author_fk")
    assert [each.what for each in found] == ["only in the first", "only in the second"]
