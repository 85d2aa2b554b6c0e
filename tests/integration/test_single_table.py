"""One table out of a real dump: with its types, keys and indexes, and without the others' rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bedstone import dump, single_table
from tests.integration.cluster import Cluster

SCHEMA = """
CREATE SCHEMA audit;
CREATE TYPE state AS ENUM ('open', 'paid');
CREATE TABLE customers (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text UNIQUE);
CREATE TABLE orders (
    id serial PRIMARY KEY, customer int NOT NULL REFERENCES customers, state state NOT NULL,
    total numeric CHECK (total > 0), tags text[],
    doubled numeric GENERATED ALWAYS AS (total * 2) STORED);
CREATE INDEX orders_open ON orders (customer) WHERE state = 'open';
CREATE TABLE "order Lines" (id serial PRIMARY KEY, "order" int REFERENCES orders);
CREATE TABLE audit.orders (id bigserial, said text);
CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN INSERT INTO audit.orders (said) VALUES ('x'); RETURN NEW; END$$;
CREATE TRIGGER noted AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION noted();
CREATE FUNCTION open_orders() RETURNS SETOF orders LANGUAGE sql AS
    $$SELECT * FROM orders WHERE state = 'open'$$;
CREATE VIEW totals AS SELECT customer, sum(total) FROM orders GROUP BY customer;
CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM orders;
CREATE TABLE visits (day date, path text, PRIMARY KEY (day, path)) PARTITION BY RANGE (day);
CREATE TABLE visits_2025 PARTITION OF visits FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE visits_2026 PARTITION OF visits FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON orders USING (customer > 0);
INSERT INTO customers (name) SELECT 'customer ' || i FROM generate_series(1, 10) i;
INSERT INTO orders (customer, state, total, tags)
    SELECT i % 10 + 1, (ARRAY['open', 'paid'])[i % 2 + 1]::state, i, ARRAY['a', E'b\\tc']
    FROM generate_series(1, 200) i;
INSERT INTO "order Lines" ("order") SELECT i FROM generate_series(1, 200) i;
INSERT INTO visits SELECT '2025-12-30'::date + i, '/' FROM generate_series(1, 9) i;
"""


@pytest.fixture(scope="module")
def source(cluster: Cluster, create: Callable[..., str]) -> str:
    name = create()
    cluster.administrator.execute(SCHEMA, name)
    return name


@pytest.fixture(scope="module")
def dumped(cluster: Cluster, source: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("backup") / "database"
    dump.dump(cluster.server, source, directory, jobs=2, watch=lambda: None)
    return directory


@pytest.fixture
def restored(
    cluster: Cluster, dumped: Path, database: str
) -> Callable[[str], tuple[dict[str, int], frozenset[str]]]:
    """Restore one table into an empty database; return the rows there and what was filled."""

    def restore(wanted: str) -> tuple[dict[str, int], frozenset[str]]:
        table = single_table.find(dump.listing(cluster.server, dumped), wanted)
        filled = single_table.load(
            cluster.server, dumped, database, table, jobs=2, owner=None, watch=lambda: None
        )
        return dump.count(cluster.server, database), filled

    return restore


EMPTY = {
    "audit.orders": 0,
    "public.customers": 0,
    "public.order Lines": 0,
    "public.orders": 0,
    "public.visits_2025": 0,
    "public.visits_2026": 0,
}


@pytest.mark.parametrize(
    ("wanted", "rows"),
    [
        ("public.orders", {"public.orders": 200}),
        ("audit.orders", {"audit.orders": 200}),
        ("customers", {"public.customers": 10}),
        ("public.order Lines", {"public.order Lines": 200}),
        ("visits_2026", {"public.visits_2026": 8}),
        ("visits", {"public.visits_2025": 1, "public.visits_2026": 8}),
    ],
)
def test_table_alone_is_filled(
    restored: Callable[[str], tuple[dict[str, int], frozenset[str]]],
    wanted: str,
    rows: dict[str, int],
) -> None:
    counted, filled = restored(wanted)
    assert counted == {**EMPTY, **rows}
    assert filled == set(rows)


def test_rows_are_the_same_and_indexes_are_there(
    cluster: Cluster,
    source: str,
    database: str,
    restored: Callable[[str], tuple[dict[str, int], frozenset[str]]],
) -> None:
    restored("public.orders")
    rows = "SELECT to_jsonb(o) FROM orders o ORDER BY id"
    assert cluster.administrator.rows(rows, database) == cluster.administrator.rows(rows, source)
    indexes = (
        "SELECT to_json(indexdef) FROM pg_indexes WHERE schemaname = 'public' ORDER BY indexname"
    )
    assert cluster.administrator.rows(indexes, database) == cluster.administrator.rows(
        indexes, source
    )
    # The next number follows those of then.
    assert cluster.administrator.value("SELECT nextval('orders_id_seq')", database) == "201"
    # Nothing points at rows that aren't there, and nothing is set off by a correction.
    keys = "SELECT count(*) FROM pg_constraint WHERE contype = 'f'"
    triggers = "SELECT count(*) FROM pg_trigger"
    assert cluster.administrator.value(keys, database) == "0"
    assert cluster.administrator.value(triggers, database) == "0"
    secured = "SELECT relrowsecurity FROM pg_class WHERE oid = 'orders'::regclass"
    assert cluster.administrator.value(secured, database) == "t"


def test_partitioned_index_is_whole(
    cluster: Cluster,
    database: str,
    restored: Callable[[str], tuple[dict[str, int], frozenset[str]]],
) -> None:
    restored("public.visits")
    valid = "SELECT to_json(bool_and(indisvalid)) FROM pg_index"
    assert cluster.administrator.rows(valid, database) == [True]
