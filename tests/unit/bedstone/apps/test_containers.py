"""The arguments of `docker run`."""

from __future__ import annotations

import dataclasses
import grp
import os
from typing import TYPE_CHECKING

import pytest

from bedstone.apps import config, containers
from bedstone.apps.slots import Made, Slot
from bedstone.core.errors import ConfigError
from bedstone.system import container
from tests.unit.fixtures.server import APP

if TYPE_CHECKING:
    from pathlib import Path

SERVICE = APP["services"]["web"] | {"memory_mb": 256, "cpus": 0.5, "pids": 99, "stop_seconds": 7}
SHOP = config.parse(APP | {"services": APP["services"] | {"web": SERVICE}})
MADE = Made("sha256:1", 10001, 10001, "/srv/bedstone/shop/static/1")
SLOT = Slot("web", "blue", "1", MADE, "172.20.0.129")


def arguments(app: config.App = SHOP, slot: Slot = SLOT) -> list[str]:
    return containers.for_service(app, app.services["web"], slot, {"SECRET": "x"}).arguments()


def test_container_is_locked_down(root: Path) -> None:
    text = " ".join(arguments())
    for words in (
        "--read-only",
        "--cap-drop ALL",
        "--security-opt no-new-privileges",
        "--tmpfs /tmp:size=128m",
        "--init",
        "--pull never",
        "--memory 256m --memory-swap 256m",
        "--cpus 0.5",
        "--pids-limit 99",
        "--stop-timeout 7",
        "--ip 172.20.0.129",
        "--network bedstone-shop",
        "--add-host postgres:172.17.0.1",
        f"source={root}/etc/bedstone/tls/ca.crt,target=/run/bedstone/ca.crt,readonly",
        f"source={root}/srv/bedstone/shop/static/1,target=/app/static,readonly",
        f"source={root}/srv/bedstone/shop/media,target=/app/media ",
        "--label bedstone.release=1 ",
        "--log-driver local",
        "--log-opt mode=non-blocking",
    ):
        assert words in text
    assert "SECRET" not in text
    assert "--publish" not in text
    assert text.endswith("sha256:1 serve")


def test_migrations_have_files_of_their_own_and_a_group_reads_them(root: Path) -> None:
    group = grp.getgrgid(os.getgid())
    place = {"target": "/run/bedstone/postgresql", "group": group.gr_name}
    mounts = [*APP["mounts"], {"source": "/etc/bedstone/tls/shop_app", **place}]
    migrate = [{"source": "/etc/bedstone/tls/shop_migrate", **place}]
    app = config.parse(APP | {"mounts": mounts, "migrate_mounts": migrate})
    for is_migration, role, other in (
        (False, "shop_app", "shop_migrate"),
        (True, "shop_migrate", "shop_app"),
    ):
        made = containers.for_command(app, "1", MADE, {}, ("true",), kind="x", migrate=is_migration)
        text = " ".join(made.arguments())
        assert f"source={root}/etc/bedstone/tls/{role},target=/run/bedstone/postgresql," in text
        assert f"--group-add {group.gr_gid}" in text
        assert other not in text
    assert "--group-add" not in " ".join(arguments())
    assert containers.for_command(app, "1", MADE, {}, ("true",), kind="x").specification() != (
        containers.for_command(SHOP, "1", MADE, {}, ("true",), kind="x").specification()
    )


def test_image_that_starts_as_root_keeps_only_what_is_declared(root: Path) -> None:
    del root
    slot = dataclasses.replace(SLOT, made=dataclasses.replace(MADE, uid=0))
    assert "--cap-drop ALL" in " ".join(arguments(slot=slot))
    assert "--cap-add" not in arguments(slot=slot)
    declared = config.parse(APP | {"capabilities": ["SETGID", "SETUID"]})
    text = " ".join(arguments(declared, slot))
    assert "--cap-drop ALL --cap-add SETGID --cap-add SETUID" in text
    made = containers.for_command(declared, "1", MADE, {}, ("check",), kind="check")
    assert "--cap-add SETGID" in " ".join(made.arguments())


def test_image_with_a_supervisor_of_its_own_is_process_1(root: Path) -> None:
    del root
    assert "--init" not in arguments(config.parse(APP | {"init": False}))


def test_temporary_files_are_on_the_disk_and_go_with_the_container(root: Path) -> None:
    del root
    assert "type=volume,target=/tmp" in arguments(config.parse(APP | {"tmpfs": []}))


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("/tmp", "/tmp:size=128m"),
        ("/tmp:exec", "/tmp:exec,size=128m"),
        ("/cache:size=1g", "/cache:size=1g"),
    ],
)
def test_directory_in_memory_has_a_size(root: Path, entry: str, told: str) -> None:
    del root
    app = config.parse(APP | {"services": {"web": SERVICE}, "tmpfs": [entry]})
    given = arguments(app)
    assert given[given.index("--tmpfs") + 1] == told
    assert ("type=volume,target=/tmp" in given) == (not entry.startswith("/tmp"))


def test_service_without_a_limit_has_half_of_the_memory(root: Path) -> None:
    del root
    services = {"web": SERVICE | {"memory_mb": None}}
    given = arguments(config.parse(APP | {"services": services}))
    limit = int(given[given.index("--memory") + 1].removesuffix("m"))
    assert limit == containers.default_memory_mb()
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    assert total // 2 - 64 <= limit <= max(total // 2, 256)


def test_no_command_means_the_images_own(root: Path) -> None:
    del root
    services = APP["services"] | {"web": SERVICE | {"command": None}}
    assert arguments(config.parse(APP | {"services": services}))[-1] == "sha256:1"


@pytest.mark.parametrize("change", [{"environment": {"A": "2"}}, {"pids": 1}, {"address": "x"}])
def test_specification_tells_containers_apart(root: Path, change: dict[str, object]) -> None:
    del root
    one = containers.for_service(SHOP, SHOP.services["web"], SLOT, {"A": "1"})
    two = containers.for_service(SHOP, SHOP.services["web"], SLOT, {"A": "1"})
    assert one.specification() == two.specification()
    assert dataclasses.replace(one, **change).specification() != one.specification()  # type: ignore[arg-type]


def test_command_that_makes_static_files_may_write_them(root: Path) -> None:
    made = containers.for_command(
        SHOP, "1", MADE, {}, ("collect",), kind="static", static_source="/partial"
    )
    text = " ".join(made.arguments())
    assert "source=/partial,target=/app/static " in text
    assert f"{root}/srv/bedstone/shop/static/1" not in text
    assert "--name bedstone-shop-static " in text
    assert "--ip" not in text


def test_secrets_do_not_show_in_a_traceback() -> None:
    made = container.Container("n", "i", "net", {"PASSWORD": "hidden"})
    assert "hidden" not in repr(made)


def test_published_port_is_bound_where_the_settings_say() -> None:
    worker = {"command": ["work"], "publish": ["0.0.0.0:5222:5222/tcp", "127.0.0.1:53:53/udp"]}
    app = config.parse(APP | {"services": {"worker": worker}})
    made = containers.for_service(app, app.services["worker"], SLOT, {})
    text = " ".join(made.arguments())
    assert "--publish 0.0.0.0:5222:5222/tcp --publish 127.0.0.1:53:53/udp" in text
    bare = dataclasses.replace(made, publish=())
    assert made.specification() != bare.specification()


@pytest.mark.parametrize("more", [{"port": 8000}, {"replicas": 2}])
def test_published_port_belongs_to_one_container(more: dict[str, object]) -> None:
    worker = {"command": ["work"], "publish": ["0.0.0.0:5222:5222/tcp"], **more}
    with pytest.raises(ConfigError, match="one container alone"):
        config.parse(APP | {"services": {"worker": worker}})
