"""Several containers of one HTTP service: they start, switch, roll back and stop together."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from bedstone.apps import current, health
from bedstone.apps.config import Service
from bedstone.release import operations
from bedstone.release.outcome import Outcome
from bedstone.system import nginx
from bedstone.system.http_check import Answer
from bedstone.system.systemd import Systemd
from tests.unit.fixtures.server import APP, Server, declare

TOLERANCE = "max_fails=3 fail_timeout=2s"


def app(replicas: int) -> dict[str, Any]:
    changed = copy.deepcopy(APP)
    changed["services"] = {"web": {**APP["services"]["web"], "replicas": replicas}}
    return changed


def release(server: Server, replicas: int, source: str = "one") -> Outcome:
    declare(server, app=app(replicas), source=source)
    outcome = operations.release("shop", host=server.host())
    assert outcome.ok, outcome.error
    return outcome


def routed(server: Server) -> list[str]:
    """Return the lines of the servers that get the requests now."""
    name = f"shop-web-{(server.root / 'etc/nginx/bedstone/serving/shop').readlink().name}"
    text = (server.root / "etc/nginx/bedstone/upstreams/shop-web.conf").read_text()
    block = text.partition(f"upstream {name} {{\n")[2].partition("}")[0]
    return [line.strip() for line in block.splitlines() if "server " in line]


def test_all_replicas_start_before_any_gets_requests(server: Server) -> None:
    outcome = release(server, 2)
    assert set(server.serves()) == {"web@blue", "web@blue-2"}
    assert server.enabled == {f"bedstone-shop-{key}.service" for key in server.serves()}
    assert routed(server) == [
        f"server 172.20.0.129:8000 {TOLERANCE};",
        f"server 172.20.0.130:8000 {TOLERANCE};",
    ]
    said = {step.name: step.said for step in outcome.steps}
    assert said["start"] == "2 of web healthy in slot blue"


def test_release_with_as_many_replicas_reloads_nothing(server: Server) -> None:
    release(server, 2)
    reloads = len(server.reloads)
    release(server, 2, "two")
    assert set(server.serves()) == {"web@green", "web@green-2"}
    assert (len(routed(server)), len(server.reloads)) == (2, reloads)


def test_scaling_builds_nothing(server: Server) -> None:
    release(server, 1)
    assert routed(server) == ["server 172.20.0.129:8000;"], "as without replicas"
    release(server, 3)
    assert set(server.serves()) == {"web@green", "web@green-2", "web@green-3"}
    assert len(routed(server)) == 3
    release(server, 1)
    assert set(server.serves()) == {"web@blue"}
    assert len(routed(server)) == 1
    assert (server.builds, server.slots()) == (1, {"web@blue"})


def test_one_replica_that_is_not_healthy_stops_the_release(server: Server) -> None:
    first = release(server, 2)
    before = routed(server)
    server.broken.add("web@green-2")
    declare(server, app=app(2), source="two")
    outcome = operations.release("shop", host=server.host())
    assert (outcome.failed_step, "web@green-2" in str(outcome.error)) == ("start", True)
    assert server.serves() == {"web@blue": first.release, "web@blue-2": first.release}
    assert (routed(server), server.slots()) == (before, {"web@blue", "web@blue-2"})


def test_rollback_has_the_replicas_of_its_release(server: Server) -> None:
    first = release(server, 3)
    release(server, 1)
    outcome = operations.rollback("shop", host=server.host())
    assert outcome.ok, outcome.error
    assert set(server.serves()) == {"web@blue", "web@blue-2", "web@blue-3"}
    assert (set(server.serves().values()), len(routed(server))) == ({first.release}, 3)


def test_replica_that_does_not_run_is_put_right(server: Server) -> None:
    release(server, 2)
    server.active.discard("bedstone-shop-web@blue-2.service")
    assert operations.put_right("shop", host=server.host()).put_right == ["web@blue-2 doesn't run"]
    assert set(server.serves()) == {"web@blue", "web@blue-2"}


def test_each_replica_is_asked_for_its_health(server: Server) -> None:
    release(server, 2)

    def asks(address: str, service: Service, domain: str) -> Answer:
        assert (service.name, domain) == ("web", "shop.example.com")
        return Answer(ok=address != "172.20.0.130", said=f"{address} answered")

    found = current.load("shop")
    tasks = health.tasks(found, Systemd(server.run), asks, 1.0)
    shown = health.as_json(found, {key: task() for key, task in tasks.items()})
    assert [(row["service"], row["ok"]) for row in shown] == [
        ("web@blue", True),
        ("web@blue-2", False),
    ]
    assert health.problems(shown) == ["web@blue-2 isn't healthy: 172.20.0.130 answered"]


@pytest.mark.parametrize("replicas", [(), ("10.0.0.1:80",), ("10.0.0.1:80", "10.0.0.2:80")])
def test_file_of_an_upstream_is_read_as_it_was_written(
    server: Server, replicas: tuple[str, ...]
) -> None:
    path = server.root / "etc/nginx/bedstone/upstreams/shop-web.conf"
    path.write_text(nginx.render("shop", "web", {"green": replicas}, ()))
    # The side that doesn't get requests keeps what another release has there.
    [(_, text)] = nginx.upstream_texts("shop", "blue", {"web": {"blue": ("10.0.0.9:1",)}}).items()
    assert text == nginx.render("shop", "web", {"green": replicas, "blue": ("10.0.0.9:1",)}, ())


def test_slot_files_name_the_replica_and_its_address(server: Server) -> None:
    release(server, 2)
    slots = server.root / "var/lib/bedstone/apps/shop/slots"
    kept = json.loads((slots / "web@blue-2.json").read_text())
    assert (kept["service"], kept["name"], kept["address"]) == ("web", "blue-2", "172.20.0.130")
