"""Run the pre-flight checks of a major upgrade."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bedstone.appdata import journal as restore_journal
from bedstone.apps import config
from bedstone.backup import catalog
from bedstone.backup.create import server_of
from bedstone.core import disk, lock, paths
from bedstone.core.errors import BedstoneError, RefusedError
from bedstone.postgres import compare, obstacles, queries
from bedstone.postgres.debian_cluster import AUTOMATIC, NAME, Cluster, all_clusters
from bedstone.postgres.obstacles import some
from bedstone.postgres.programs import home_of
from bedstone.system import apt
from bedstone.upgrade import journal, wal
from bedstone.verify.run import LOCK as VERIFY_LOCK
from bedstone.wal import backup

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bedstone.backup.settings import Settings
    from bedstone.postgres.server import Server

_EMPTY_BYTES = 100 * 1024 * 1024
_POINT_MARGIN = 1.25


def serving(settings: Settings) -> Cluster:
    """Return the cluster that serves on this server's port."""
    return Cluster(server_of(settings).major())


def check(settings: Settings, target: int) -> tuple[Cluster, Cluster]:
    """Return the serving cluster and the target one, after all checks that can be run before.

    Args:
        settings: this server's.
        target: the major version to come to.

    Raises:
        RefusedError: names everything that prevents it; nothing was touched.

    """
    server = server_of(settings)
    source = serving(settings)
    wanted = Cluster(target)
    if target == source.major:
        raise RefusedError(
            f"PostgreSQL {target} serves already.",
            hint="Its newest minor version: `bedstone upgrade postgresql`.",
        )
    if target < source.major:
        raise RefusedError(
            f"PostgreSQL {source.major} serves, and data never goes to an older version.",
            hint="After an upgrade, `bedstone upgrade postgresql --back` leads back to the cluster"
            " of before.",
        )
    if not (wanted.programs / "pg_upgrade").exists():
        raise RefusedError(
            f"PostgreSQL {target} isn't installed on this server.",
            hint=f"Install it beside the one that serves: `apt-get install postgresql-{target}`"
            " (the empty cluster that comes with it is removed by the upgrade). If apt doesn't"
            " know it, upgrade Debian first; docs/upgrade.md says in which order.",
        )
    found = list(_obstacles(settings, server, source, wanted))
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise RefusedError(
            f"PostgreSQL can't be brought from {source.major} to {target}: {found[0]}{more}.",
            details="\n".join(found[1:]),
            hint="Nothing was touched. Put each of them right, then ask again.",
        )
    return source, wanted


def _obstacles(
    settings: Settings, server: Server, source: Cluster, wanted: Cluster
) -> Iterator[str]:
    yield from _clusters(source, wanted, server)
    yield from busy(settings)
    yield from _packages(source, wanted)
    yield from obstacles.objects(server)
    yield from _extensions(server, wanted)
    if compare.setting(server, "data_checksums") != "on":
        yield (
            "the cluster has no data checksums, and the new one will: write them first"
            " (`postgresql_enable_data_checksums: true` and a run of `provision.yml`)"
        )
    if (missing := wal.obstacle(wanted.major)) is not None:
        yield missing
    yield from obstacles.collations(server)
    yield from _configuration(source, wanted)
    yield from _room(settings, server, wanted)


def _clusters(source: Cluster, wanted: Cluster, server: Server) -> Iterator[str]:
    data = compare.setting(server, "data_directory")
    if data != str(source.data):
        yield f"the cluster's data are in {data}, and this command knows only {source.data}"
    last = journal.recorded("last")
    former = Cluster(int(last["other"])) if last else None
    if wanted.exists and wanted != former and not wanted.is_empty():
        yield (
            f"there is a cluster {wanted.name} already, and something is in it: look whose it is;"
            f" `pg_dropcluster --stop {wanted.major} {NAME}` removes it for good"
        )
    others = [
        each.name
        for each in all_clusters()
        if each not in {source, wanted} and each.starts() == AUTOMATIC
    ]
    if others:
        yield f"another cluster starts at boot as well: {some(others)}"
    if former is not None and former != source and former.exists:
        yield (
            f"the cluster {former.name} of the upgrade before is still there:"
            " `bedstone upgrade postgresql --drop-old` removes it"
        )


def busy(settings: Settings) -> Iterator[str]:
    """Yield the operations on the apps' data that are running or were left half done."""
    names = sorted({*config.declared(), *(entry.app for entry in settings.apps)})
    others = (*(f"{name}.backup" for name in names), VERIFY_LOCK, backup.LOCK)
    for name in (*names, *others):
        if (owner := lock.owner(name)) is not None:
            yield f"{owner.words()} is at work: wait until it has finished"
    for name in names:
        if restore_journal.load(name) is not None:
            yield f"a restore of {name} was interrupted: `bedstone backup {name}` settles it"


def _packages(source: Cluster, wanted: Cluster) -> Iterator[str]:
    installed = apt.installed(f"postgresql*-{source.major}*", f"postgresql*-{wanted.major}*")
    missing = [
        package.replace(f"-{source.major}", f"-{wanted.major}", 1)
        for package in sorted(installed)
        if f"-{source.major}" in package and "-dbgsym" not in package and "-doc-" not in package
    ]
    missing = [package for package in missing if package not in installed]
    if missing:
        yield f"packages are missing: `apt-get install {' '.join(missing)}`"


def _extensions(server: Server, wanted: Cluster) -> Iterator[str]:
    shared = paths.host(f"/usr/share/postgresql/{wanted.major}/extension")
    missing: dict[str, list[str]] = {}
    for database in compare.databases(server):
        for name in queries.extensions(server, database):
            if not (shared / f"{name}.control").exists():
                missing.setdefault(str(name), []).append(database)
    for name, databases in sorted(missing.items()):
        yield (
            f"the extension {name} of {some(databases)} isn't there for PostgreSQL"
            f" {wanted.major}: install its package (postgresql-{wanted.major}-NAME)"
        )
    libraries = [
        part.strip()
        for part in compare.setting(server, "shared_preload_libraries").split(",")
        if part.strip()
    ]
    home = home_of(wanted.major).parent / "lib"
    for name in libraries:
        if not (home / f"{name.rpartition('/')[2]}.so").exists():
            yield f"`shared_preload_libraries` names {name}, which {wanted.major} doesn't have"


def _configuration(source: Cluster, wanted: Cluster) -> Iterator[str]:
    if (reason := wanted.rejects(source)) is not None:
        yield (
            f"PostgreSQL {wanted.major} doesn't understand the configuration in"
            f" {source.settings}: {reason}"
        )


def _room(settings: Settings, server: Server, wanted: Cluster) -> Iterator[str]:
    needs: dict[int, tuple[Path, int]] = {}

    def need(place: Path, size: int) -> None:
        while not place.exists():
            place = place.parent
        device = place.stat().st_dev
        before = needs.get(device, (place, 0))
        needs[device] = (before[0], before[1] + size)

    need(wanted.data.parent.parent, queries.restored_bytes(compare.size(server)) + _EMPTY_BYTES)
    for entry in settings.apps:
        last = catalog.newest(settings.directory / entry.app, points=True)
        if last is not None and last.manifest is not None and last.manifest.database is not None:
            need(settings.directory, int(last.manifest.bytes * _POINT_MARGIN))
    for place, size in needs.values():
        try:
            disk.require(place, size, settings.reserve_bytes, "The copy of the cluster")
        except BedstoneError as error:
            yield error.message.removesuffix(".")
