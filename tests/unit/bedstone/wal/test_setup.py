"""What a convergence says of the space that waiting WAL may take."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedstone.core import disk
from bedstone.postgres.server import Server
from bedstone.storage.destinations import Destination, Destinations, PointInTime
from bedstone.wal import setup
from bedstone.wal.stanza import Stanza

KNOWN = Destinations((Destination("local", "local", 1),), PointInTime("main", 7, 2, 60))


class Cluster(Server):
    """A PostgreSQL that only says where its data is."""

    def execute(self, sql: str, database: str = "postgres", *, timeout: float | None = 60) -> str:
        del database, timeout
        assert sql == "SHOW data_directory"
        return "/var/lib/postgresql/17/main\n"


@pytest.mark.parametrize(
    ("free_mb", "warned"), [(8192, False), (8191, True), (0, True)], ids=["enough", "less", "none"]
)
def test_room_for_waiting_wal_is_looked_at(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    free_mb: int,
    warned: bool,  # noqa: FBT001
) -> None:
    monkeypatch.setenv("BEDSTONE_ROOT", str(tmp_path))
    monkeypatch.setattr(disk, "free_bytes", lambda _: free_mb * 1024 * 1024)
    settings = tmp_path / "etc/pgbackrest/pgbackrest.conf"
    settings.parent.mkdir(parents=True)
    settings.write_text("[global]\narchive-push-queue-max=4096MB\n")

    said = setup._too_long_a_queue(Stanza(KNOWN, server=Cluster("/run", 5432)))

    assert (said is not None) == warned
    if said is not None:
        assert "up to 4.0 GiB of WAL is kept" in said
        assert "`pgbackrest_queue_max_mb`" in said
