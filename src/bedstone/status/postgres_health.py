"""Collect PostgreSQL's health: conditions that will stop it later.

A few read-only questions to the catalogues and statistics, each with a short limit. None
reads a table of the app's.

The limits follow PostgreSQL's own documentation ("Routine Vacuuming", "Vacuuming"
parameters):

* Autovacuum freezes a table by itself when it is ``autovacuum_freeze_max_age`` (200 million)
  transactions old, so ages up to there are every day's. The effective ``vacuum_failsafe_age``
  (1.6 billion; "strategy of last resort") is never less than 105 % of it. A warning comes at
  half as much again as autovacuum's limit, where it evidently doesn't get through, or at the
  failsafe age, whichever comes first: with the defaults at 300 million, 1.8 billion before
  PostgreSQL refuses to write. The same goes for multixacts.
* Autovacuum visits a table when ``threshold + scale factor * rows`` of its rows are dead (or
  changed, for the planner's statistics). Twice as many, and no visit within the last hour:
  it doesn't keep up.
* Dead rows are the statistics' estimate. The empty part of a table is reported only where the
  extension pgstattuple is installed (``pgstattuple_approx``).
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from bedstone.backup import settings as backup_settings
from bedstone.core.errors import BedstoneError
from bedstone.ledger import database as ledger
from bedstone.ledger import growth as ledger_growth
from bedstone.postgres.server import MAINTENANCE, PostgresError, Server, identifier
from bedstone.postgres.snapshot import READER
from bedstone.status import growth, postgres_rules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bedstone.backup.settings import Settings

# A busy server answers late; the picture as a whole has eight seconds.
_STATEMENT_SECONDS = 3
_BLOAT_SECONDS = 2
_LARGE_TABLE_BYTES = 100 * 1024 * 1024

_LIMITED = """
SET statement_timeout = '{seconds}s';
SET lock_timeout = '1s';
SET default_transaction_read_only = on;
{query}
"""

_CLUSTER = """
SELECT jsonb_build_object(
    'version', current_setting('server_version'),
    'autovacuum', current_setting('autovacuum')::bool AND current_setting('track_counts')::bool,
    'checksums', current_setting('data_checksums')::bool,
    'xid_limit', current_setting('autovacuum_freeze_max_age')::bigint,
    'xid_failsafe', current_setting('vacuum_failsafe_age')::bigint,
    'mxid_limit', current_setting('autovacuum_multixact_freeze_max_age')::bigint,
    'mxid_failsafe', current_setting('vacuum_multixact_failsafe_age')::bigint,
    'prepared', (SELECT count(*) FROM pg_prepared_xacts),
    'inactive_slots', (SELECT count(*) FROM pg_replication_slots WHERE NOT active),
    'shared_checksum_failures', coalesce(
        (SELECT checksum_failures FROM pg_stat_database WHERE datid = 0), 0),
    'databases', (
        SELECT jsonb_agg(jsonb_build_object(
            'name', d.datname,
            'template', d.datistemplate,
            'bytes', CASE WHEN d.datistemplate THEN 0 ELSE pg_database_size(d.oid) END,
            'xid_age', age(d.datfrozenxid),
            'mxid_age', mxid_age(d.datminmxid),
            'checksum_failures', coalesce(s.checksum_failures, 0)) ORDER BY d.datname)
          FROM pg_database d LEFT JOIN pg_stat_database s ON s.datid = d.oid),
    'idle', (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
            'pid', pid, 'database', datname, 'user', usename, 'program', application_name,
            'seconds', extract(epoch FROM now() - state_change)::bigint) ORDER BY state_change),
            '[]')
          FROM pg_stat_activity
         WHERE state LIKE 'idle in transaction%' AND application_name <> 'bedstone'));
"""

# The largest ones, and those that autovacuum doesn't keep up with.
_TABLES = """
WITH found AS (
    SELECT s.relid, s.schemaname, s.relname, s.n_live_tup, s.n_dead_tup, s.n_mod_since_analyze,
           c.relpages::bigint * current_setting('block_size')::bigint AS bytes,
           greatest(s.last_vacuum, s.last_autovacuum) AS vacuumed,
           greatest(s.last_analyze, s.last_autoanalyze) AS analyzed,
           coalesce(o.enabled, true) AS enabled,
           least(
               coalesce(o.dead, current_setting('autovacuum_vacuum_threshold')::float)
               + coalesce(o.dead_scale, current_setting('autovacuum_vacuum_scale_factor')::float)
               * greatest(c.reltuples, 0),
               nullif(current_setting('autovacuum_vacuum_max_threshold', true)::float, -1)
           ) AS dead_limit,
           coalesce(o.changed, current_setting('autovacuum_analyze_threshold')::float)
           + coalesce(o.changed_scale, current_setting('autovacuum_analyze_scale_factor')::float)
           * greatest(c.reltuples, 0) AS changed_limit,
           row_number() OVER (ORDER BY c.relpages DESC, s.relid) AS place
      FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = s.relid
      LEFT JOIN LATERAL (
          SELECT bool_and(option_value::bool)
                     FILTER (WHERE option_name = 'autovacuum_enabled') AS enabled,
                 max(option_value::float)
                     FILTER (WHERE option_name = 'autovacuum_vacuum_threshold') AS dead,
                 max(option_value::float)
                     FILTER (WHERE option_name = 'autovacuum_vacuum_scale_factor') AS dead_scale,
                 max(option_value::float)
                     FILTER (WHERE option_name = 'autovacuum_analyze_threshold') AS changed,
                 max(option_value::float)
                     FILTER (WHERE option_name = 'autovacuum_analyze_scale_factor') AS changed_scale
            FROM pg_options_to_table(c.reloptions)
           WHERE option_name LIKE 'autovacuum%') o ON true
)
SELECT json_build_object(
    'table', schemaname || '.' || relname, 'bytes', bytes,
    'rows', n_live_tup, 'dead', n_dead_tup, 'dead_limit', ceil(dead_limit),
    'changed', n_mod_since_analyze, 'changed_limit', ceil(changed_limit), 'autovacuum', enabled,
    'vacuumed_seconds', extract(epoch FROM now() - vacuumed)::bigint,
    'analyzed_seconds', extract(epoch FROM now() - analyzed)::bigint)
  FROM found
 WHERE place <= 5 OR n_dead_tup > 2 * dead_limit OR n_mod_since_analyze > 2 * changed_limit
 ORDER BY n_dead_tup DESC, place LIMIT 25;
"""

_PGSTATTUPLE = """
SELECT to_json(n.nspname::text) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
 WHERE e.extname = 'pgstattuple';
"""

_BLOAT = """
SELECT json_build_array(t.name, round((a.approx_free_percent + a.dead_tuple_percent)::numeric, 1))
  FROM (SELECT c.oid, n.nspname || '.' || c.relname AS name
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind = 'r' AND n.nspname NOT LIKE 'pg\\_%'
           AND c.relpages::bigint * current_setting('block_size')::bigint >= {least}
         ORDER BY c.relpages DESC LIMIT 3) t
 CROSS JOIN LATERAL {schema}.pgstattuple_approx(t.oid::regclass) a;
"""


def gather(now: datetime | None = None) -> dict[str, Any] | None:
    """Return how the database server of this host is, or None if no app has a database here.

    The keys are those of `bedstone status --json`: ``version``, ``error``, ``databases`` (each
    with name, bytes, bytes_per_day), ``wraparound``, ``checksums``, ``idle_in_transaction``,
    ``tables`` (the largest, and those that autovacuum doesn't keep up with), ``disks`` (each
    with path, free_bytes, bytes_per_day, days_left) and ``problems``, sentences that say
    what to do.
    """
    if not backup_settings.path().exists():
        return None
    settings = backup_settings.load()
    names = sorted({app.database for app in settings.apps if app.database})
    if not names:
        return None
    now = now or datetime.now(UTC)
    server = Server(settings.socket, settings.port)
    try:
        (cluster,) = _ask(server, _CLUSTER)
    except PostgresError as error:
        return {
            "version": None,
            "error": error.message,
            "databases": [],
            "wraparound": None,
            "checksums": None,
            "idle_in_transaction": [],
            "tables": [],
            "disks": _disks(settings, now),
            "problems": [f"{error.message} {error.hint or ''}".strip()],
        }
    present = {database["name"] for database in cluster["databases"]}
    tables = [
        {"database": name, **table}
        for name in names
        if name in present
        for table in _tables(server, name)
    ]
    found = {
        "version": str(cluster["version"]).split(" ", maxsplit=1)[0],
        "error": None,
        "databases": _sizes(cluster, now),
        "wraparound": postgres_rules.wraparound(cluster),
        "checksums": {
            "on": cluster["checksums"],
            "failures": cluster["shared_checksum_failures"]
            + sum(database["checksum_failures"] for database in cluster["databases"]),
        },
        "idle_in_transaction": cluster["idle"],
        "tables": tables,
        "disks": _disks(settings, now),
    }
    return {**found, "problems": postgres_rules.problems(cluster, found)}


def _ask(
    server: Server, query: str, database: str = MAINTENANCE, seconds: int = _STATEMENT_SECONDS
) -> list[Any]:
    return server.rows(_LIMITED.format(seconds=seconds, query=query), database)


def _tables(server: Server, database: str) -> list[dict[str, Any]]:
    try:
        tables: list[dict[str, Any]] = _ask(server, _TABLES, database)
        extension = _ask(server, _PGSTATTUPLE, database)
    except PostgresError:
        # It takes no connections, or is too busy: what is known of the server counts.
        return []
    empty: dict[str, float] = {}
    if extension:
        query = _BLOAT.format(schema=identifier(extension[0]), least=_LARGE_TABLE_BYTES)
        # Not as the superuser: an app may own the schema. The first backup makes the role.
        with suppress(PostgresError):
            as_reader = replace(server, role=READER)
            empty = dict(_ask(as_reader, query, database, _BLOAT_SECONDS))
    return [{**table, "empty_percent": empty.get(table["table"])} for table in tables]


def _sizes(cluster: dict[str, Any], now: datetime) -> list[dict[str, Any]]:
    shown = [database for database in cluster["databases"] if not database["template"]]
    pace = _trends("database", [database["name"] for database in shown], now)
    return [
        {
            "name": database["name"],
            "bytes": database["bytes"],
            "bytes_per_day": pace[database["name"]],
        }
        for database in shown
    ]


def _disks(settings: Settings, now: datetime) -> list[dict[str, Any]]:
    free = growth.free(settings)
    pace = _trends("free", list(free), now)
    return [
        {
            "path": path,
            "free_bytes": size,
            "bytes_per_day": pace[path],
            "days_left": _whole(ledger_growth.days_left(size, pace[path])),
        }
        for path, size in free.items()
    ]


def _trends(kind: ledger_growth.Kind, names: Sequence[str], now: datetime) -> dict[str, int | None]:
    try:
        with ledger.opened() as connection:
            return {
                name: _whole(ledger_growth.trend(connection, kind, name, now)) for name in names
            }
    except (BedstoneError, sqlite3.Error):
        return dict.fromkeys(names)


def _whole(number: float | None) -> int | None:
    return None if number is None else round(number)
