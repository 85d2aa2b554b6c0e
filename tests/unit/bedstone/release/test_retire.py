"""nginx's workers, Docker's networks, retiring an app."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bedstone.apps import config, network
from bedstone.core import paths
from bedstone.core.errors import BedstoneError
from bedstone.ledger import database, releases
from bedstone.release import operations
from bedstone.release.retire import prune, retire, retired
from bedstone.system.docker import Docker
from tests.unit.fixtures.server import APP, SUBNET, Server

SHOP = config.parse(APP)


def workers(root: Path, titles: dict[int, str], master: int = 100) -> None:
    """Play /proc: a master with workers."""
    (root / "run").mkdir(exist_ok=True)
    (root / "run/nginx.pid").write_text("100\n")
    for pid, title in titles.items():
        directory = root / f"proc/{pid}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "cmdline").write_bytes(b"nginx: " + title.encode())
        (directory / "stat").write_bytes(f"{pid} (ng) inx) S {master} 1 1".encode())


def test_workers_are_those_that_end_too_and_no_other_process(server: Server) -> None:
    titles = {101: "worker process", 102: "worker process is shutting down", 103: "cache manager"}
    workers(server.root, titles)
    workers(server.root, {104: "worker process"}, master=99)
    assert server.host().nginx.workers() == {101, 102}


def test_no_nginx_has_no_workers(server: Server) -> None:
    assert server.host().nginx.workers() == set()


def test_previous_workers_are_waited_for(server: Server) -> None:
    workers(server.root, {101: "worker process"})
    assert server.host().nginx.reload() == {101}
    workers(server.root, {101: "worker process is shutting down", 102: "worker process"})
    assert not server.host().nginx.wait_for_end({101}, 0.2)
    (server.root / "proc/101/cmdline").unlink()
    assert server.host().nginx.wait_for_end({101}, 5)


TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 010014AC:C001 {address}:1F40 {state} 0:0 00:0 0 {uid} 0 1
"""


@pytest.mark.parametrize(
    ("last", "state", "uid", "drained"),
    [
        (129, "01", 33, False),
        (129, "02", 33, False),
        (129, "06", 33, True),
        (129, "01", 0, True),
        (129, "01", 102, True),
        (130, "01", 33, True),
    ],
    ids=["open", "being opened", "closed", "a probe's", "PostgreSQL's", "to another slot"],
)
def test_slot_is_drained_when_nginx_has_no_connection_to_it(
    server: Server,
    last: int,
    state: str,
    uid: int,
    drained: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    address = f"{int.from_bytes(bytes([172, 20, 0, last]), sys.byteorder):08X}"
    (server.root / "proc/net").mkdir(parents=True)
    (server.root / "proc/net/tcp").write_text(TABLE.format(address=address, state=state, uid=uid))
    assert server.host().nginx.wait_until_drained(["172.20.0.129"], 0.3) is drained


def test_reload_that_nginx_refuses_is_told_with_its_words(server: Server) -> None:
    server.broken.add("reload")
    server.journal = "bind() to 0.0.0.0:443 failed\n"
    with pytest.raises(BedstoneError, match="didn't take its configuration") as caught:
        server.host().nginx.reload()
    assert caught.value.details == "bind() to 0.0.0.0:443 failed"


def test_network_keeps_its_subnet(server: Server) -> None:
    docker = Docker(server.run)
    assert network.ensure(docker, SHOP) == SUBNET
    create = server.calls[-1]
    assert create[create.index("--ip-range") + 1] == "172.20.0.0/25"
    server.networks.clear()
    server.networks["somebody-elses"] = SUBNET
    network.ensure(docker, SHOP)
    assert server.networks["bedstone-shop"] == SUBNET


@pytest.mark.parametrize("damage", ["gone", "", "{", '{"schema": 99}', "[]"])
def test_lost_file_of_a_network_is_made_again(server: Server, damage: str) -> None:
    operations.release("shop", host=server.host())
    path = paths.app_state("shop") / "network.json"
    before, calls = json.loads(path.read_text()), len(server.calls)
    path.unlink() if damage == "gone" else path.write_text(damage)
    assert network.ensure(Docker(server.run), SHOP) == SUBNET
    # Docker has the subnet, the running slots have their addresses; others get new ones.
    after = json.loads(path.read_text())
    assert after["subnet"] == before["subnet"]
    assert {*after["addresses"]} == {"web@blue", "api@blue"}
    assert after["addresses"].items() <= before["addresses"].items()
    assert not [call for call in server.calls[calls:] if call[2] in {"create", "rm"}]


def test_network_made_by_somebody_else_is_replaced(server: Server) -> None:
    server.networks["bedstone-shop"] = "10.9.0.0/24"
    network.ensure(Docker(server.run), SHOP)
    assert server.networks["bedstone-shop"] == SUBNET


def test_interface_of_an_earlier_version_is_replaced_once_no_container_uses_it(
    server: Server,
) -> None:
    docker = Docker(server.run)
    network.ensure(docker, SHOP)
    assert server.bridges["bedstone-shop"] == "br-shop"
    server.bridges["bedstone-shop"] = None
    server.connected.add("0123abcd")
    calls = len(server.calls)
    network.ensure(docker, SHOP)
    assert not [call for call in server.calls[calls:] if call[2] in {"create", "rm"}]
    server.connected.clear()
    network.ensure(docker, SHOP)
    assert server.bridges["bedstone-shop"] == "br-shop"
    assert server.networks["bedstone-shop"] == SUBNET


def test_release_stops_where_the_list_of_destinations_would_not_hold(server: Server) -> None:
    path = paths.app_config("shop")
    path.write_text(json.dumps({**json.loads(path.read_text()), "limited": True}))
    refused = operations.release("shop", host=server.host())
    assert refused.failed_step == "network"
    assert "made by an earlier version" in str(refused.error)
    assert "systemctl stop 'bedstone-shop-*@*'" in str(refused.hint)
    (server.root / "sys/class/net/br-shop").mkdir(parents=True)
    assert operations.release("shop", host=server.host()).ok


def test_addresses_are_fixed_and_in_the_upper_half(server: Server) -> None:
    del server
    found = [
        network.address("shop", f"{service}@{slot}", SUBNET)
        for service in ("web", "api", "web")
        for slot in ("blue", "green")
    ]
    assert found[:2] == found[4:] == ["172.20.0.129", "172.20.0.130"]
    assert found[2:4] == ["172.20.0.131", "172.20.0.132"]


def test_full_network_is_told(server: Server) -> None:
    del server
    for number in range(14):
        network.address("shop", f"s{number}@blue", "10.0.0.0/27")
    with pytest.raises(BedstoneError, match="has no address left"):
        network.address("shop", "one-more@blue", "10.0.0.0/27")


def test_retired_app_leaves_its_data(server: Server) -> None:
    operations.release("shop", host=server.host())
    media = server.root / "srv/bedstone/shop/media/upload.txt"
    media.write_text("kept")
    retire("shop", server.host())
    assert server.active == server.enabled == set()
    assert server.networks == {}
    assert "bedstone-shop-web-blue" in server.removed_containers
    assert media.read_text() == "kept"
    with database.opened() as connection:
        assert releases.known_apps(connection) == []
    assert list(retired()) == ["shop"]


def test_retired_app_comes_back_as_it_was(server: Server) -> None:
    first = operations.release("shop", host=server.host())
    second = operations.release("shop", host=server.host())
    builds = server.builds
    retire("shop", server.host())
    assert prune(server.host()) == []
    back = operations.release("shop", host=server.host(), if_changed=True)
    assert back.ok
    assert server.builds == builds, "its image was kept"
    assert retired() == {}
    assert operations.rollback("shop", host=server.host()).release == second.release
    assert operations.rollback("shop", str(first.release), host=server.host()).ok


def test_images_and_releases_of_a_retired_app_go_after_a_month(server: Server) -> None:
    operations.release("shop", host=server.host())
    media = server.root / "srv/bedstone/shop/media/upload.txt"
    media.write_text("kept")
    retire("shop", server.host())
    mark = paths.app_state("shop") / "retired.json"
    kept = json.loads(mark.read_text())
    assert kept["domains"] == ["shop.example.com"]
    kept["at"] = (datetime.now(UTC) - timedelta(days=31)).isoformat()
    mark.write_text(json.dumps(kept))
    assert prune(server.host()) == ["shop"]
    assert not [name for name in server.images if name.startswith("bedstone/")]
    assert not (server.root / "var/lib/bedstone/apps/shop").exists()
    assert media.read_text() == "kept"
    assert prune(server.host()) == []
