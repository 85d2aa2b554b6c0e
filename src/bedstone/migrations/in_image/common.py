"""Share between the probes: their question, the tables, the report's line."""

from __future__ import annotations

import base64
import json
import os
import re
import zlib
from typing import Any, Iterable

MARKER = "BEDSTONE-MIGRATIONS "
DONE = "BEDSTONE-DONE"
# The caller of the probe keeps a million characters of its output.
PLAIN_CHARACTERS = 500_000
# A statement beyond it is data; what it would do to the schema stands at its beginning.
STATEMENT_CHARACTERS = 200_000

# Neither a colon before a name nor a percent sign: both mean something to some driver.
TABLES = """
SELECT CASE WHEN pg_table_is_visible(c.oid) THEN CAST(c.relname AS text)
            ELSE CAST(n.nspname AS text) || '.' || CAST(c.relname AS text) END,
       size.rows,
       size.bytes,
       (SELECT CAST(json_object_agg(a.attname, format_type(a.atttypid, a.atttypmod)) AS text)
          FROM pg_attribute a
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
       (SELECT CAST(json_agg(a.attname) AS text)
          FROM pg_attribute a
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attnotnull)
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  CROSS JOIN LATERAL (
       SELECT CAST(sum(GREATEST(part.reltuples, s.n_live_tup, 0)) AS bigint) AS rows,
              CAST(sum(pg_total_relation_size(part.oid)) AS bigint) AS bytes
         FROM pg_class part
         LEFT JOIN pg_stat_user_tables s ON s.relid = part.oid
        WHERE part.oid IN (SELECT c.oid UNION SELECT relid FROM pg_partition_tree(c.oid))
       ) size
 WHERE c.relkind IN ('r', 'p', 'v', 'm')
   AND n.nspname <> 'information_schema'
   AND left(n.nspname, 3) <> 'pg_'
"""

# Settings of the session end with it, and it ends with the probe.
_READS = re.compile(
    r"\s*(select|show|set|reset|begin|start|commit|rollback|savepoint|release)\b", re.IGNORECASE
)


class WriteError(Exception):
    """A migration tried to change data while it was only analysed."""


def question() -> dict[str, Any]:
    """Return what the probe is asked."""
    text = os.environ["BEDSTONE_PROBE"]
    if text.startswith("zlib:"):
        text = zlib.decompress(base64.b64decode(text[5:])).decode()
    asked = json.loads(text)
    assert isinstance(asked, dict)
    return asked


def only_reads(statement: object) -> None:
    """Let through what reads; looking at migrations must change nothing."""
    text = statement.decode("utf-8", "replace") if isinstance(statement, bytes) else str(statement)
    if not _READS.match(text):
        raise WriteError("it runs commands of its own")


def mentioned(rows: Iterable[Any], pending: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the rows of `TABLES` whose table a pending migration speaks of."""
    text = "\n".join(part for each in pending for part in each["sql"] or ()).lower()
    return {
        name: {
            "rows": int(count or 0),
            "bytes": int(size or 0),
            "columns": json.loads(columns),
            "required": json.loads(required or "[]"),
        }
        for name, count, size, columns, required in rows
        if columns and name.rpartition(".")[2].lower() in text
    }


def accepted(where: object) -> list[str]:
    """Return the rules that a migration says it breaks on purpose."""
    said = getattr(where, "bedstone_accepts", ())
    return [said] if isinstance(said, str) else [str(each) for each in said]


def first_line(error: BaseException) -> str:
    """Return an error in one line."""
    lines = str(error).strip().splitlines()
    return "{}: {}".format(type(error).__name__, lines[0] if lines else "no message")


def emit(report: dict[str, Any]) -> None:
    """Print the report as the one line that is looked for."""
    for each in report["pending"]:
        if each["sql"] is not None:
            each["sql"] = [statement[:STATEMENT_CHARACTERS] for statement in each["sql"]]
    text = json.dumps(report)
    if len(text) > PLAIN_CHARACTERS:
        text = "zlib:" + base64.b64encode(zlib.compress(text.encode())).decode()
    # The app may have left a line without its end.
    print("\n" + MARKER + text, flush=True)
