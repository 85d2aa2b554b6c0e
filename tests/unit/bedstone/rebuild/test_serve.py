"""A restored release serves on a server that has never run it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bedstone.apps import environment, network
from bedstone.core import paths
from bedstone.core.errors import BedstoneError
from bedstone.rebuild import serve as rebuild_serve
from bedstone.release import operations
from tests.unit.fixtures.server import Server


@pytest.fixture
def release(server: Server, root: Path) -> str:
    """A release, after its server was replaced: nothing runs, and only files came back."""
    outcome = operations.release("shop", host=server.host())
    assert outcome.ok, outcome.error
    for path in (paths.slots("shop"), root / "srv", root / "etc/nginx/bedstone/upstreams"):
        shutil.rmtree(path)
    (root / "etc/nginx/bedstone/upstreams").mkdir()
    server.active.clear()
    server.enabled.clear()
    server.networks.clear()
    return str(outcome.release)


def serve(server: Server) -> list[str]:
    said: list[str] = []
    rebuild_serve.serve("shop", said.append, server.host())
    return said


def test_it_serves_as_it_did_without_being_built(server: Server, release: str) -> None:
    builds = server.builds
    serve(server)
    assert server.serves() == dict.fromkeys(
        ("web@blue", "api@blue", "worker@1", "worker@2"), release
    )
    assert server.static() == release
    assert (paths.served("shop") / "static" / release / "site.css").exists()
    assert server.enabled == server.active
    assert sorted(server.upstreams()) == ["shop-api", "shop-web"]
    assert server.builds == builds


def test_it_gets_its_network_with_the_addresses_of_before(server: Server, release: str) -> None:
    del release
    serve(server)
    known = network.subnet("shop")
    assert server.networks == {"bedstone-shop": known}


def test_it_gets_the_secrets_of_today(server: Server, release: str) -> None:
    declared = paths.app_config("shop")
    declared.write_text(declared.read_text().replace("{", '{"secret_variables": ["SECRET"], ', 1))
    path = declared.with_name("app.env")
    path.write_text(path.read_text().replace("tell-nobody", "a-new-vault"))
    said = serve(server)
    kept = environment.load(paths.release("shop", release) / "app.env")
    assert kept["SECRET"] == "a-new-vault"
    assert [line for line in said if "with the present SECRET" in line]


def test_it_may_be_done_again(server: Server, release: str) -> None:
    serve(server)
    serve(server)
    assert set(server.serves().values()) == {release}


def test_an_image_that_is_not_there_is_told(server: Server, release: str) -> None:
    server.images.clear()
    with pytest.raises(BedstoneError) as caught:
        serve(server)
    assert f"An image of release {release} isn't on this server" in caught.value.message


def test_one_that_does_not_start_is_told_with_what_to_do(server: Server, release: str) -> None:
    del release
    server.broken.add("web@blue")
    with pytest.raises(BedstoneError) as caught:
        serve(server)
    assert "doesn't start" in caught.value.message
    assert "bedstone release shop" in (caught.value.hint or "")
