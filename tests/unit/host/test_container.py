"""What `docker run` is told."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from bedstone import config, container
from bedstone.slots import Made, Slot
from tests.unit.host.server import APP

SERVICE = APP["services"]["web"] | {"memory_mb": 256, "cpus": 0.5, "pids": 99, "stop_seconds": 7}
SHOP = config.parse(APP | {"services": APP["services"] | {"web": SERVICE}})
MADE = Made("sha256:1", 10001, 10001, "/srv/bedstone/shop/static/1")
SLOT = Slot("web", "blue", "1", MADE, "172.20.0.129")


def arguments(app: config.App = SHOP, slot: Slot = SLOT) -> list[str]:
    return container.for_service(app, app.services["web"], slot, {"SECRET": "x"}).arguments()


def test_container_is_locked_down(root: Path) -> None:
    text = " ".join(arguments())
    for words in (
        "--read-only",
        "--cap-drop ALL",
        "--security-opt no-new-privileges",
        "--tmpfs /tmp",
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
    ):
        assert words in text
    assert "SECRET" not in text
    assert "--publish" not in text
    assert text.endswith("sha256:1 serve")


def test_image_that_starts_as_root_keeps_what_it_needs_to_give_rights_up(root: Path) -> None:
    del root
    slot = dataclasses.replace(SLOT, made=dataclasses.replace(MADE, uid=0))
    assert "--cap-drop" not in arguments(slot=slot)


def test_no_command_means_the_images_own(root: Path) -> None:
    del root
    services = APP["services"] | {"web": SERVICE | {"command": None}}
    assert arguments(config.parse(APP | {"services": services}))[-1] == "sha256:1"


@pytest.mark.parametrize("change", [{"environment": {"A": "2"}}, {"pids": 1}, {"address": "x"}])
def test_specification_tells_containers_apart(root: Path, change: dict[str, object]) -> None:
    del root
    one = container.for_service(SHOP, SHOP.services["web"], SLOT, {"A": "1"})
    two = container.for_service(SHOP, SHOP.services["web"], SLOT, {"A": "1"})
    assert one.specification() == two.specification()
    assert dataclasses.replace(one, **change).specification() != one.specification()  # type: ignore[arg-type]


def test_command_that_makes_static_files_may_write_them(root: Path) -> None:
    made = container.for_command(
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
