"""PgBouncer's pools: clients that wait for a connection."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bedstone.core.errors import BedstoneError
from bedstone.core.process import Completed
from bedstone.postgres.pool import Pool, pools
from bedstone.watch import pool

NOW = datetime(2026, 11, 20, tzinfo=UTC)
# As PgBouncer 1.24 prints it.
HEAD = (
    "database,user,cl_active,cl_waiting,cl_active_cancel_req,cl_waiting_cancel_req,sv_active,"
    "sv_active_cancel,sv_being_canceled,sv_idle,sv_used,sv_tested,sv_login,maxwait,maxwait_us,"
    "pool_mode,load_balance_hosts"
)
LINES = (
    "bedstone_pool,bedstone_pool,0,0,0,0,0,0,0,1,0,0,0,0,0,transaction,",
    "pgbouncer,pgbouncer,1,0,0,0,0,0,0,0,0,0,0,0,0,statement,",
    "shop,shop_app_0a1b2c3d,10,4,0,0,10,0,0,0,0,0,0,3,500000,transaction,",
)


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BEDSTONE_ROOT", str(tmp_path))
    return tmp_path


def configured(root: Path) -> None:
    path = root / "etc/bedstone/pool/pgbouncer.ini"
    path.parent.mkdir(parents=True)
    path.write_text("[pgbouncer]\nlisten_port = 7432\n")


def answering(*lines: str) -> Any:
    def run(argv: Sequence[str], **options: Any) -> Completed:
        assert "psql" in argv
        assert options["env"]["PGPORT"] == "7432"
        assert options["env"]["PGUSER"] == "pgbouncer"
        return Completed(tuple(argv), 0, "\n".join(lines) + "\n", "", 0.1)

    return run


def test_server_without_the_role_has_none() -> None:
    assert pool.gather() == []


def test_pools_of_apps_are_read(root: Path) -> None:
    configured(root)
    found = pools(answering(HEAD, *LINES))
    assert found == [
        Pool("shop", "shop_app_0a1b2c3d", clients=14, waiting=4, servers=10, wait_seconds=3.5)
    ]


def test_answer_of_another_form_is_no_verdict(root: Path) -> None:
    configured(root)
    with pytest.raises(BedstoneError, match="unknown form"):
        pools(answering("database,user", "shop,shop_app"))


@pytest.mark.parametrize(("seconds", "severity"), [(2.0, "warning"), (20.0, "red")])
def test_clients_that_wait_are_an_alarm(seconds: float, severity: str) -> None:
    waiting = Pool("shop", "shop_app_0a1b2c3d", 14, 4, 10, seconds)
    (alarm,) = pool.judge([waiting], NOW)
    assert (alarm.name, alarm.severity) == ("pool/shop_app_0a1b2c3d", severity)
    assert "4 clients wait for a connection to shop" in alarm.words
    assert "all 10 of its pool" in alarm.words


def test_short_wait_is_none() -> None:
    assert (
        list(pool.judge([Pool("shop", "a", 14, 4, 10, 1.9), Pool("b", "b", 3, 0, 2, 0)], NOW)) == []
    )
