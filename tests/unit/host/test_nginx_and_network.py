"""nginx's workers, Docker's networks, retiring an app."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedstone import config, history, ledger, network, paths, perform
from bedstone.docker import Docker
from bedstone.errors import BedstoneError
from bedstone.retire import retire
from tests.unit.host.server import APP, SUBNET, Server

SHOP = config.parse(APP)


def workers(root: Path, titles: dict[int, str]) -> None:
    """Play /proc: a master with workers."""
    (root / "run").mkdir(exist_ok=True)
    (root / "run/nginx.pid").write_text("100\n")
    task = root / "proc/100/task/100"
    task.mkdir(parents=True, exist_ok=True)
    for pid, title in titles.items():
        (root / f"proc/{pid}").mkdir(exist_ok=True)
        (root / f"proc/{pid}/cmdline").write_bytes(b"nginx: " + title.encode())
    (task / "children").write_text(" ".join(map(str, titles)))


def test_workers_are_those_that_end_too_and_no_other_process(server: Server) -> None:
    titles = {101: "worker process", 102: "worker process is shutting down", 103: "cache manager"}
    workers(server.root, titles)
    assert server.host().nginx.workers() == {101, 102}


def test_no_nginx_has_no_workers(server: Server) -> None:
    assert server.host().nginx.workers() == set()


def test_workers_of_before_a_reload_are_waited_for(server: Server) -> None:
    workers(server.root, {101: "worker process"})
    assert server.host().nginx.reload() == {101}
    workers(server.root, {101: "worker process is shutting down", 102: "worker process"})
    assert not server.host().nginx.wait_for_end({101}, 0.2)
    (server.root / "proc/101/cmdline").unlink()
    assert server.host().nginx.wait_for_end({101}, 5)


def test_worker_that_the_kernels_list_leaves_out_is_waited_for(server: Server) -> None:
    workers(server.root, {101: "worker process is shutting down", 102: "worker process"})
    (server.root / "proc/100/task/100/children").write_text("102")
    assert not server.host().nginx.wait_for_end({101}, 0.2)


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
    perform.release("shop", host=server.host())
    path = paths.app_state("shop") / "network.json"
    before, calls = path.read_text(), len(server.calls)
    path.unlink() if damage == "gone" else path.write_text(damage)
    assert network.ensure(Docker(server.run), SHOP) == SUBNET
    assert path.read_text() == before, "Docker knows the subnet, the slots know their addresses"
    assert not [call for call in server.calls[calls:] if call[2] in {"create", "rm"}]


def test_network_made_by_somebody_else_is_replaced(server: Server) -> None:
    server.networks["bedstone-shop"] = "10.9.0.0/24"
    network.ensure(Docker(server.run), SHOP)
    assert server.networks["bedstone-shop"] == SUBNET


def test_addresses_are_fixed_and_in_the_upper_half(server: Server) -> None:
    del server
    found = [
        network.address("shop", service, slot, SUBNET)
        for service in ("web", "api", "web")
        for slot in ("blue", "green")
    ]
    assert found[:2] == found[4:] == ["172.20.0.129", "172.20.0.130"]
    assert found[2:4] == ["172.20.0.131", "172.20.0.132"]


def test_full_network_is_told(server: Server) -> None:
    del server
    for number in range(14):
        network.address("shop", f"s{number}", "blue", "10.0.0.0/27")
    with pytest.raises(BedstoneError, match="has no address left"):
        network.address("shop", "one-more", "blue", "10.0.0.0/27")


def test_retired_app_leaves_its_data(server: Server) -> None:
    perform.release("shop", host=server.host())
    media = server.root / "srv/bedstone/shop/media/upload.txt"
    media.write_text("kept")
    retire("shop", server.host())
    assert server.active == server.enabled == set()
    assert server.networks == {}
    assert not [name for name in server.images if name.startswith("bedstone/")]
    assert "bedstone-shop-web-blue" in server.removed_containers
    assert media.read_text() == "kept"
    assert not (server.root / "var/lib/bedstone/apps/shop").exists()
    with ledger.opened() as connection:
        assert history.known_apps(connection) == []
