"""Judge the database server's health, with a remedy for each problem."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bedstone.core import age
from bedstone.core import disk as space

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Half as much again as where autovacuum begins: see database_health.
_BEYOND_AUTOVACUUM = 1.5
# PostgreSQL refuses new transaction ids (and multixacts) three million before the end.
_STOP = 2**31 - 3_000_000
# Below this size, a manual VACUUM of a table takes no noticeable time.
_LEAST_ROWS = 10_000
_TWICE = 2
_VISIT_SECONDS = 3600
_IDLE_SECONDS = 15 * 60
_EMPTY_PERCENT = 50
LEAST_DAYS_LEFT = 30

_AS_POSTGRES = "runuser -u postgres --"


def wraparound(cluster: Mapping[str, Any]) -> dict[str, Any]:
    """Return the oldest database's ages, and from where on they are a problem."""
    oldest = max(cluster["databases"], key=lambda database: database["xid_age"])
    oldest_mxid = max(cluster["databases"], key=lambda database: database["mxid_age"])
    return {
        "database": oldest["name"],
        "age": oldest["xid_age"],
        "warn_at": _limit(cluster["xid_limit"], cluster["xid_failsafe"]),
        "multixact_database": oldest_mxid["name"],
        "multixact_age": oldest_mxid["mxid_age"],
        "multixact_warn_at": _limit(cluster["mxid_limit"], cluster["mxid_failsafe"]),
        "stops_at": _STOP,
    }


def problems(cluster: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Return what needs attention, the worst first.

    Args:
        cluster: what the server said of itself.
        found: the picture, as :func:`database_health.look` returns it.

    """
    return [
        *_checksums(cluster),
        *_wraparound(cluster, found["wraparound"]),
        *_disks(found),
        *_autovacuum(cluster, found),
        *_idle(found),
    ]


def _limit(autovacuum: int, failsafe: int) -> int:
    # The failsafe is never below 105 % of autovacuum's limit, whatever is set.
    return int(min(autovacuum * _BEYOND_AUTOVACUUM, max(failsafe, autovacuum * 1.05), _STOP))


def _checksums(cluster: Mapping[str, Any]) -> Iterator[str]:
    failures = {
        database["name"]: database["checksum_failures"]
        for database in cluster["databases"]
        if database["checksum_failures"]
    }
    if cluster["shared_checksum_failures"]:
        failures["the shared catalogues"] = cluster["shared_checksum_failures"]
    for where, number in failures.items():
        yield (
            f"PAGES ON THE DISK ARE DAMAGED: {number} checksum failures in {where}. Make a backup"
            " elsewhere now, look at the disk (`journalctl -k`, `smartctl -a`), and restore onto a"
            " sound one"
        )


def _wraparound(cluster: Mapping[str, Any], ages: Mapping[str, Any]) -> Iterator[str]:
    for what, key, database in (
        ("transactions", "age", ages["database"]),
        ("multixacts", "multixact_age", ages["multixact_database"]),
    ):
        old, limit = ages[key], ages[key.replace("age", "warn_at")]
        if old < limit:
            continue
        yield (
            f"the database {database} is {old / 1e6:.0f} million {what} old, and autovacuum didn't"
            f" freeze it; at {_STOP / 1e6:.0f} million PostgreSQL stops writing."
            f" {_holding(cluster)}then `{_AS_POSTGRES} vacuumdb --freeze --jobs=2 {database}`"
        )


def _holding(cluster: Mapping[str, Any]) -> str:
    held = []
    if cluster["prepared"]:
        held.append(f"{cluster['prepared']} prepared transactions (pg_prepared_xacts)")
    if cluster["inactive_slots"]:
        held.append(f"{cluster['inactive_slots']} unused replication slots (pg_replication_slots)")
    if held:
        return f"End what holds it back, {' and '.join(held)}, "
    return "End what holds it back (old transactions in pg_stat_activity), "


def _disks(found: Mapping[str, Any]) -> Iterator[str]:
    for disk in found["disks"]:
        if disk["days_left"] is not None and disk["days_left"] < LEAST_DAYS_LEFT:
            pace, free = space.human(-disk["bytes_per_day"]), space.human(disk["free_bytes"])
            yield (
                f"{disk['path']} will be full in about {days(disk['days_left'])}: {free} are free,"
                f" {pace} less each day. Make room, take a larger disk, or keep fewer backups"
                " (`bedstone backups --verbose`)"
            )


def _autovacuum(cluster: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    if not cluster["autovacuum"]:
        yield (
            "autovacuum (or track_counts, which it needs) is off: tables grow and one day"
            " PostgreSQL stops; switch it on in the settings of role postgresql"
        )
    for table in found["tables"]:
        name = f"{table['table']} ({table['database']})"
        vacuum = f"`{_AS_POSTGRES} vacuumdb {{}} --table={table['table']} {table['database']}`"
        if _late(table, "dead", "vacuumed_seconds"):
            share = 100 * table["dead"] / (table["dead"] + table["rows"])
            why = (
                "Does an old transaction hold it back?"
                if table["autovacuum"]
                else "It is switched off for this table."
            )
            yield (
                f"autovacuum doesn't keep up with {name}: {table['dead']} dead rows"
                f" ({share:.0f} %), last vacuumed {_ago(table['vacuumed_seconds'])}. {why}"
                f" {vacuum.format('--analyze')}"
            )
        elif _late(table, "changed", "analyzed_seconds"):
            yield (
                f"the planner's statistics of {name} are old: {table['changed']} rows changed"
                f" since, last analyzed {_ago(table['analyzed_seconds'])}."
                f" {vacuum.format('--analyze-only')}"
            )
        if (table["empty_percent"] or 0) >= _EMPTY_PERCENT:
            yield (
                f"{name}, {space.human(table['bytes'])}, is {table['empty_percent']:.0f} % empty or"
                " dead (pgstattuple_approx). New rows will fill it; VACUUM FULL makes it small, but"
                " locks it meanwhile"
            )


def _late(table: Mapping[str, Any], what: str, visited: str) -> bool:
    return bool(
        table[what] >= _LEAST_ROWS
        and table[what] > _TWICE * table[f"{what}_limit"]
        and (table[visited] is None or table[visited] > _VISIT_SECONDS)
    )


def _ago(seconds: int | None) -> str:
    return (
        "never, as far as the statistics go back"
        if seconds is None
        else f"{age.humanize(seconds)} ago"
    )


def _idle(found: Mapping[str, Any]) -> Iterator[str]:
    for session in found["idle_in_transaction"]:
        if session["seconds"] >= _IDLE_SECONDS:
            program = f", {session['program']}" if session["program"] else ""
            yield (
                f"a session of {session['user']} in {session['database']} (process"
                f" {session['pid']}{program}) has left a transaction open for"
                f" {age.humanize(session['seconds'])}: it keeps locks, and vacuum from cleaning up."
                f" Find out what it is, or end it: `{_AS_POSTGRES} psql -c"
                f" 'SELECT pg_terminate_backend({session['pid']})'`"
            )


def days(number: int) -> str:
    """Return a number of days in words."""
    return "a day" if number <= 1 else f"{number} days"
