"""Compare a backup and a restore with `pg_dump | gzip` and `gunzip | psql`, under load.

One server, one database of more than a gigabyte, one load: an app behind nginx that reads and
writes rows of that database. Each engine makes a backup and restores it next to that database
during the load.

"""

import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import releases
from bench.load import load, on
from testbed.errors import TestbedError
from testbed.paths import ROOT
from testbed.servers import Server
from testbed.shell import say

CLIENT = ROOT / "bench" / "latency.py"
SOURCE = ROOT / "tests" / "apps" / "ledger"
LEAST_BYTES = 1024**3
ROWS_AT_ONCE = 1_000_000
QUIET_SECONDS = 20
COPY = "/var/backups/bench.sql.gz"
BESIDE = "/var/lib/postgresql/bench-restored"
POSTGRES = "runuser -u postgres --"
REPOSITORY = "/etc/pgbackrest/pgbackrest.conf"
# A table of an app's size and kind: money, moments, text, a key and an index.
TABLE = """
CREATE TABLE bench_events (
    id bigint PRIMARY KEY,
    account integer NOT NULL,
    amount numeric(12, 2) NOT NULL,
    created timestamptz NOT NULL,
    reference uuid NOT NULL,
    note text NOT NULL
);
CREATE INDEX bench_events_by_account ON bench_events (account, created);
"""
ROWS = """
INSERT INTO bench_events
SELECT n, n % 50000, (n * 7919 % 1000000) / 100.0, timestamptz '2020-01-01' + n * interval '37 s',
       md5(n::text)::uuid,
       'event ' || n || ' of ' || md5((n % 9973)::text) || repeat(' etc.', (n % 20)::integer)
  FROM generate_series({first}::bigint, {last}) n;
"""
# The app of the release bench, with an address that reads one of those rows.
LOOK = '''

def look(_request):
    """Read some row of the large table."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM bench_events WHERE id = %s", [random.randint(1, 1000000)])
        return JsonResponse({"row": [str(value) for value in cursor.fetchone()]})


urlpatterns.append(path("look", look))
'''
IMPORTS = (
    "import random\n\nfrom django.db import connection\nfrom django.http import JsonResponse\n"
)


@dataclass
class Measure:
    """One backup or restore under load.

    Attributes:
        what: its name in the table.
        seconds: how long it took.
        size: bytes of what it made; None for a restore.
        milliseconds: how long each request of the app took during it.
        failed: how many requests failed.

    """

    what: str
    seconds: float
    size: int | None = None
    milliseconds: list[float] = field(default_factory=list)
    failed: int = 0


@dataclass
class Results:
    """All of one run; the first of each list is what the others are compared with."""

    database: int
    quiet: Measure
    backups: list[Measure] = field(default_factory=list)
    restores: list[Measure] = field(default_factory=list)


def settings(source: Path) -> dict[str, Any]:
    """Return what an operator would write for the app, whose source is copied to `source`."""
    shutil.copytree(SOURCE, source, ignore=shutil.ignore_patterns("__pycache__", "collected"))
    urls = source / "ledger" / "urls.py"
    urls.write_text(f"{IMPORTS}{urls.read_text()}{LOOK}")
    found = releases.settings()
    found["bedstone_apps"][0]["source"] = {"path": str(source)}
    return found


def measure(server: Server) -> Results:
    """Measure on a server on which the app serves."""
    size = fill(server)
    say(f"   the database has {size / 1024**2:.0f} MiB")
    results = Results(size, quiet(server))
    results.backups.append(
        during(
            server,
            "`pg_dump | gzip`",
            f"bash -o pipefail -c '{POSTGRES} pg_dump ledger | gzip > {COPY}'",
            lambda _: int(on(server, f"stat -c %s {COPY}")),
        )
    )
    on(server, f"{POSTGRES} createdb bench_restored")
    results.restores.append(
        during(
            server,
            "`gunzip | psql`",
            f"bash -o pipefail -c 'gunzip -c {COPY} | {POSTGRES} psql -q -o /dev/null"
            " -v ON_ERROR_STOP=1 bench_restored'",
        )
    )
    on(server, f"{POSTGRES} dropdb bench_restored; rm {COPY}")
    results.backups.append(
        during(server, "`bedstone backup`", "bedstone backup ledger --json", size_of_backup)
    )
    results.restores.append(
        during(
            server,
            "`bedstone restore` beside",
            "bedstone restore ledger latest --into ledger_look --yes",
        )
    )
    on(server, f"{POSTGRES} dropdb ledger_look")
    if on(server, f"test -e {REPOSITORY} && echo yes || true").strip():
        measure_cluster(server, results)
    return results


def measure_cluster(server: Server, results: Results) -> None:
    """Measure pgBackRest, of the whole cluster, in the repository on the server itself."""
    pgbackrest = f"{POSTGRES} pgbackrest --stanza=main --repo=1 --log-level-console=error"
    results.backups.append(
        during(
            server,
            "pgBackRest, full",
            "bedstone wal full --destination local",
            lambda _: size_of_repository(on(server, f"{pgbackrest} info --output=json")),
        )
    )
    # The files alone: replaying WAL depends on how much there is.
    results.restores.append(
        during(
            server,
            "pgBackRest, the files",
            f"{POSTGRES} mkdir -m 700 {BESIDE} &&"
            f" {pgbackrest} restore --pg1-path={BESIDE} --archive-mode=off",
        )
    )
    on(server, f"rm -rf {BESIDE}")


def size_of_backup(said: str) -> int:
    """Return the bytes of the backup that `bedstone backup --json` reports.

    Raises:
        TestbedError: it reports none.

    """
    found = json.loads(said)
    made = found if isinstance(found, list) else found.get("backups", [found])
    for entry in made:
        if "bytes" in entry:
            return int(entry["bytes"])
    raise TestbedError(f"`bedstone backup` tells of no backup: {said}")


def size_of_repository(said: str) -> int:
    """Return what pgBackRest's newest backup takes in the repository."""
    newest = json.loads(said)[0]["backup"][-1]
    return int(newest["info"]["repository"]["delta"])


def fill(server: Server) -> int:
    """Make a database of more than a gigabyte, and return its bytes."""
    psql = f"{POSTGRES} psql -qAt -v ON_ERROR_STOP=1 ledger"
    role = "SET ROLE ledger_owner;"
    on(server, psql, f"{role}{TABLE}".encode())
    size, rows = 0, 0
    while size < LEAST_BYTES:
        statement = ROWS.format(first=rows + 1, last=rows + ROWS_AT_ONCE)
        on(server, psql, f"{role}{statement}".encode())
        rows += ROWS_AT_ONCE
        size = int(on(server, psql, b"SELECT pg_database_size('ledger')"))
    # What the server would do later must not happen in the middle of a measurement.
    for statement in ("GRANT SELECT ON bench_events TO ledger_app", "VACUUM ANALYZE", "CHECKPOINT"):
        on(server, psql, statement.encode())
    return size


def quiet(server: Server) -> Measure:
    """Measure the app's requests while nothing else goes on."""
    return during(server, "nothing else", f"sleep {QUIET_SECONDS}")


def during(
    server: Server, what: str, command: str, size: Callable[[str], int] | None = None
) -> Measure:
    """Time a command on the server while the app is asked.

    Args:
        server: where.
        what: the name in the table.
        command: for the shell.
        size: returns the bytes of what was made, from what the command printed.

    """
    with load(server, CLIENT) as result:
        began = time.monotonic()
        said = on(server, command)
        seconds = time.monotonic() - began
    made = Measure(what, seconds, size(said) if size else None)
    made.milliseconds = sorted(result["milliseconds"])
    made.failed = len(result["failures"])
    say(f"   {what}: {seconds:.1f} s")
    for line in result["failures"][:3]:
        say(f"   {what}: {line}")
    return made


def percentile(times: Sequence[float], share: float) -> float:
    """Return the time below which a share of all is (nearest rank); NaN without any.

    Args:
        times: sorted.
        share: 0.95 for the 95th percentile.

    """
    if not times:
        return math.nan
    return times[max(math.ceil(share * len(times)), 1) - 1]


def rows(results: Results) -> list[str]:
    """Return the table's lines in Markdown."""
    lines = [
        "| what | seconds | compared | MiB | compared | p50 | p95 | p99 | requests | failed |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
        _row(results.quiet, None),
    ]
    for group in (results.backups, results.restores):
        lines += [_row(each, group[0]) for each in group]
    return lines


def _row(made: Measure, first: Measure | None) -> str:
    size = size_ratio = ""
    if made.size is not None:
        size = f"{made.size / 1024**2:.0f}"
        if first is not None and first.size:
            size_ratio = f"{made.size / first.size:.2f} x"
    cells = [
        made.what.replace("|", "\\|"),
        f"{made.seconds:.1f}" if first is not None else "",
        f"{made.seconds / first.seconds:.2f} x" if first is not None else "",
        size,
        size_ratio,
        *(f"{percentile(made.milliseconds, share):.1f}" for share in (0.5, 0.95, 0.99)),
        str(len(made.milliseconds) + made.failed),
        str(made.failed),
    ]
    return f"| {' | '.join(cells)} |"
