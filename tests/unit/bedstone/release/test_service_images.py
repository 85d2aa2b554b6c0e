"""Images of services of their own: one release has all of them, and they come and go together."""

from __future__ import annotations

import copy
import io
import json
import tarfile
from typing import Any

import pytest

from bedstone.apps import config, slots, source_secrets
from bedstone.core import names, paths
from bedstone.core.errors import ConfigError
from bedstone.ledger import releases
from bedstone.notify import redact
from bedstone.offsite import host_state
from bedstone.release import operations
from bedstone.release.changes import REBUILT, would_change
from bedstone.release.context import ReleaseOptions
from bedstone.release.outcome import Outcome
from bedstone.system.docker import Docker
from bedstone.watch import images as watched
from tests.unit.fixtures.server import APP, Server, declare

ARCHIVE = "/var/lib/bedstone/apps/shop/source-api.tar.gz"


def app(**own: Any) -> dict[str, Any]:
    changed = copy.deepcopy(APP)
    changed["services"]["api"]["image"] = own or {"kind": "build", "archive": ARCHIVE}
    return changed


def release(server: Server, source: str, of_api: str, **options: Any) -> Outcome:
    declare(server, app=app(), source=source)
    with tarfile.open(paths.host(ARCHIVE), "w") as tar:
        for name, text in (("Dockerfile", "FROM y"), ("version", of_api)):
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return operations.release("shop", host=server.host(), options=ReleaseOptions(**options))


def running(server: Server) -> dict[str, str]:
    """Return the image in each slot."""
    del server
    return {slot.key: slot.made.image for slot in slots.all_of("shop")}


def said(outcome: Outcome, step: str) -> str:
    return next(each.said for each in outcome.steps if each.name == step)


def test_one_release_has_all_images(server: Server) -> None:
    outcome = release(server, "one", "one")
    assert outcome.ok, outcome.error
    found = running(server)
    assert found["web@blue"] == found["worker@1"] != found["api@blue"]
    assert server.images[f"bedstone/shop:{outcome.release}"] == found["web@blue"]
    assert server.images[f"bedstone/shop:{outcome.release}.api"] == found["api@blue"]
    assert ", api: build sha256:" in said(outcome, "image")


def test_change_of_one_source_builds_one_image(server: Server) -> None:
    first = release(server, "one", "one")
    before = running(server)
    assert not would_change("shop", server.host()).changed
    second = release(server, "one", "two")
    assert second.ok, second.error
    assert second.reason == "its source, settings or environment have changed"
    assert said(second, "image").startswith("build as before")
    assert server.builds == 3
    assert running(server)["web@green"] == before["web@blue"]
    assert running(server)["api@green"] != before["api@blue"]
    third = release(server, "three", "two")
    assert "api: build as before" in said(third, "image")
    assert first.release != second.release != third.release


def test_failure_of_the_second_build_leaves_all_as_it_was(server: Server) -> None:
    first = release(server, "one", "one")
    before, images = running(server), dict(server.images)
    server.broken.add("build")
    failed = release(server, "one", "two")
    assert (failed.failed_step, running(server)) == ("image", before)
    kept = {name for name in server.images if name.startswith("bedstone/shop:")}
    assert kept == {name for name in images if name.startswith("bedstone/shop:")}
    assert set(server.serves().values()) == {first.release}


def test_rollback_brings_all_images_back(server: Server) -> None:
    release(server, "one", "one")
    before = running(server)
    release(server, "two", "two")
    outcome = operations.rollback("shop", host=server.host())
    assert outcome.ok, outcome.error
    assert running(server) == before


def test_rollback_needs_all_images(server: Server) -> None:
    first = release(server, "one", "one")
    gone = running(server)["api@blue"]
    release(server, "two", "two")
    server.images = {name: image for name, image in server.images.items() if image != gone}
    outcome = operations.rollback("shop", host=server.host())
    assert f"An image of release {first.release} isn't on this server" in str(outcome.error)


def test_restart_and_reconcile_keep_the_images(server: Server) -> None:
    release(server, "one", "one")
    before = running(server)
    assert operations.put_right("shop", host=server.host()).put_right == []
    assert operations.restart("shop", host=server.host()).ok
    now = running(server)
    assert (now["web@green"], now["api@green"]) == (before["web@blue"], before["api@blue"])


def test_images_go_with_their_release(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(releases, "KEPT_RELEASES", 2)
    kept = [release(server, str(number), str(number)).release for number in range(4)][2:]
    tags = {name.partition(":")[2] for name in server.images if name.startswith("bedstone/shop:")}
    assert tags == {*kept, *(f"{each}.api" for each in kept)}


def test_pulled_images_of_a_service_go_too(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(releases, "KEPT_RELEASES", 2)
    name = "registry.example.com/front"
    for number in range(1, 5):
        reference = f"{name}:{number}"
        server.registry[reference] = f"sha256:{'a' * 63}{number}"
        declare(server, app=app(kind="pull", reference=reference))
        assert operations.release("shop", host=server.host()).ok
    assert sorted(n for n in server.images if n.startswith(name)) == [f"{name}:3", f"{name}:4"]


def test_rebuild_makes_each_image_again(server: Server) -> None:
    release(server, "one", "one")
    outcome = release(server, "one", "one", rebuild=True)
    assert (outcome.ok, outcome.reason, server.builds) == (True, REBUILT, 4)


def test_tag_belongs_to_its_release() -> None:
    kept = {"20261130_1-v1.4.2"}
    assert names.is_image_of("20261130_1-v1.4.2", kept)
    assert names.is_image_of("20261130_1-v1.4.2.api", kept)
    assert not names.is_image_of("20261130_1-v1.4", kept)
    assert not names.is_image_of("20261130_2-v1.api", kept)


def test_secrets_of_a_source_are_the_service_s_own_and_masked(server: Server) -> None:
    declare(server, app=app(kind="git", url="https://git.example.com/front.git", version="v1"))
    directory = paths.app_config("shop").parent
    (directory / "source-api.json").write_text(json.dumps({"secrets": {"NPM": "token-of-npm"}}))
    (directory / "registry-api.json").write_text(json.dumps({"password": "pass-of-registry"}))
    assert source_secrets.load("shop", "api").secrets == {"NPM": "token-of-npm"}
    assert source_secrets.load("shop").secrets == {}
    assert {"token-of-npm", "pass-of-registry"} <= redact.secrets_of("shop")


def test_description_is_checked() -> None:
    with pytest.raises(ConfigError, match=r"services\.api\.image\.archive is None"):
        config.parse(app(kind="build"))


def test_age_of_each_image_is_watched(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    release(server, "one", "one")
    monkeypatch.setattr(Docker, "layer_dates", lambda _self, _image: [])
    found = watched.gather(Docker(server.run))
    assert [image.whose for image in found or ()] == ["shop", "shop/api"]


def test_copies_hold_all_images(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = release(server, "one", "one")
    saved: list[list[str]] = []
    monkeypatch.setattr(host_state, "Docker", lambda: Docker(server.run))
    monkeypatch.setattr(Docker, "image_size", lambda _self, _name: 1)
    monkeypatch.setattr(Docker, "save", lambda _self, each, _target: saved.append(list(each)))
    served = host_state._served()["shop"]
    assert served["services"] == {"api": running(server)["api@blue"]}
    host_state.save_image("shop", str(outcome.release), str(served["image"]), 0)
    name = f"bedstone/shop:{outcome.release}"
    assert saved == [[name, f"{name}.api"]]


def test_static_files_come_from_the_image_of_the_named_service(server: Server) -> None:
    declared = app()
    declared["static"]["service"] = "api"
    declared["commands"]["static"] = []
    declare(server, app=declared, source="one")
    with tarfile.open(paths.host(ARCHIVE), "w") as tar:
        tar.addfile(tarfile.TarInfo("Dockerfile"), io.BytesIO(b""))
    outcome = operations.release("shop", host=server.host())
    assert outcome.ok, outcome.error
    created = [call for call in server.calls if call[:2] == ["docker", "create"]]
    assert running(server)["api@blue"] in created[-1]
    assert running(server)["web@blue"] not in created[-1]
    assert said(outcome, "static") == "1 files"
