"""The SQL of docs/your-app.md does what the page says, and PostgreSQL's words are understood."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from bedstone.postgres.server import SETTINGS, PostgresError, Server
from bedstone.system import container_hints
from tests.integration.cluster import Cluster

PAGE = Path(__file__).resolve().parents[2] / "docs" / "your-app.md"
MAINTAIN_MAJOR = 17
VIEW = """
SET ROLE shop_live_owner;
CREATE TABLE sale (amount int);
CREATE MATERIALIZED VIEW totals AS SELECT sum(amount) AS total FROM sale;
GRANT SELECT, INSERT ON sale TO shop_live_app;
GRANT SELECT ON totals TO shop_live_app;
"""


@pytest.fixture
def app(cluster: Cluster, database: str) -> Server:
    """Return the server as the app's role reaches it; migrations have made a view."""
    for role in ("shop_live_owner", "shop_live_app"):
        if role not in cluster.server.roles():
            cluster.server.execute(f"CREATE ROLE {role} LOGIN")
    cluster.administrator.execute(f"ALTER DATABASE {database} OWNER TO shop_live_owner")
    cluster.administrator.execute(VIEW, database)
    return replace(cluster.server, role="shop_live_app", options=SETTINGS)


def test_documented_function_refreshes_a_view_and_nothing_else_does(
    cluster: Cluster, app: Server, database: str
) -> None:
    block = re.search(
        r"```sql\n(CREATE FUNCTION refresh_totals.*?)```", PAGE.read_text(), re.DOTALL
    )
    assert block is not None
    refresh = "REFRESH MATERIALIZED VIEW totals"
    with pytest.raises(PostgresError, match=r"must be owner of|permission denied"):
        app.execute(refresh, database)
    cluster.administrator.execute(f"SET ROLE shop_live_owner; {block[1]}", database)
    app.execute("INSERT INTO sale VALUES (5); SELECT refresh_totals()", database)
    assert app.value("SELECT total FROM totals", database) == "5"
    # A schema before the others, which the caller chooses, doesn't lead the function astray.
    app.execute("SET search_path = pg_temp; SELECT public.refresh_totals()", database)
    cluster.server.execute(
        "DO $$ BEGIN CREATE ROLE other LOGIN; EXCEPTION WHEN duplicate_object THEN END $$"
    )
    with pytest.raises(PostgresError, match="permission denied for function"):
        replace(app, role="other").execute("SELECT public.refresh_totals()", database)


def test_documented_grant_refreshes_a_view(cluster: Cluster, app: Server, database: str) -> None:
    grant = re.search(r"`(GRANT MAINTAIN [^`]*)`", PAGE.read_text())
    assert grant is not None
    if cluster.server.major() < MAINTAIN_MAJOR:
        pytest.skip(f"MAINTAIN came with PostgreSQL 17; this is {cluster.server.major()}")
    cluster.administrator.execute(f"SET ROLE shop_live_owner; {grant[1]}", database)
    app.execute("REFRESH MATERIALIZED VIEW totals", database)


IDLE = """
SET idle_in_transaction_session_timeout = '50ms';
BEGIN; SELECT 1;
\\! sleep 0.5
SELECT 2
"""
SPILL = """
SET temp_file_limit = '100kB'; SET work_mem = '64kB';
SELECT count(*) FROM (SELECT DISTINCT n FROM generate_series(1, 200000) n) x
"""


@pytest.mark.parametrize(
    ("sql", "setting"),
    [
        ("SET statement_timeout = '50ms'; SELECT pg_sleep(9)", "statement_timeout"),
        (IDLE, "idle_in_transaction_session_timeout"),
        (SPILL, "temp_file_limit"),
        ("SET transaction_timeout = '50ms'; BEGIN; SELECT pg_sleep(9)", "transaction_timeout"),
    ],
)
def test_limit_is_known_by_what_postgresql_says(
    cluster: Cluster, database: str, sql: str, setting: str
) -> None:
    if setting == "transaction_timeout" and cluster.server.major() < MAINTAIN_MAJOR:
        pytest.skip(f"it came with PostgreSQL 17; this is {cluster.server.major()}")
    with pytest.raises(PostgresError) as raised:
        cluster.administrator.execute(sql, database)
    said = f"{raised.value.message}\n{raised.value.details}"
    assert f"{{{setting}: " in str(container_hints.of_database(said)), said


def test_lock_timeout_is_known_by_what_postgresql_says(cluster: Cluster, database: str) -> None:
    locking = (
        "CREATE TABLE held (id int); BEGIN; LOCK TABLE held;\n"
        f"\\! PGOPTIONS='-c lock_timeout=50ms' psql -X -d {database} -c 'TABLE held' 2>&1 | cat\n"
        "ROLLBACK;"
    )
    said = cluster.administrator.execute(locking, database)
    assert "{lock_timeout: 30s}" in str(container_hints.of_database(said)), said
