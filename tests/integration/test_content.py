"""A server that holds data is told from an empty one, whatever an app has made in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bedstone.postgres.content import tables_with_content
from tests.integration.cluster import Cluster
from tests.integration.conftest import Create

TABLES = """
CREATE EXTENSION pg_trgm SCHEMA public;
CREATE TABLE public.empty (id int);
CREATE SCHEMA "Odd Name";
CREATE TABLE "Odd Name".entry (id int);
CREATE FUNCTION public.to_json(text) RETURNS json LANGUAGE sql AS $$SELECT '"hidden"'::json$$;
"""


def test_only_tables_with_content_are_named(cluster: Cluster, create: Create) -> None:
    database = create()
    cluster.server.execute(TABLES, database)
    cluster.server.execute(f"ALTER DATABASE {database} SET search_path = public, pg_catalog")
    own = [found for found in tables_with_content(cluster.server) if found.startswith(database)]
    assert own == []
    cluster.server.execute('INSERT INTO "Odd Name".entry VALUES (1)', database)
    assert f'{database}: "Odd Name".entry' in tables_with_content(cluster.server)


def test_server_that_does_not_answer_holds_nothing(cluster: Cluster, tmp_path: Path) -> None:
    assert tables_with_content(replace(cluster.server, socket=str(tmp_path))) == []
