"""Two images behind one domain: released, rolled back and pruned together."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from ledger_app import APP, STATE, Ledger, said_at
from testinfra.host import Host

pytestmark = pytest.mark.usefixtures("web_alone")

UNITS = ["bedstone-ledger-web@*", "bedstone-ledger-api@*", "bedstone-operation@ledger"]


@pytest.fixture
def two_images(host: Host, ledger: Ledger) -> Iterator[None]:  # noqa: ARG001 - plain before
    """Declare an image of its own for `api`; afterwards the app's again."""
    kept = host.check_output("mktemp")
    host.check_output("cp --preserve %s %s", APP, kept)
    app = json.loads(host.check_output("cat %s", APP))
    own = {**app["image"], "archive": f"{STATE}/source-api.tar.gz"}
    app["services"]["api"]["image"] = own
    host.check_output("printf '%%s' %s > %s.new && mv %s.new %s", json.dumps(app), APP, APP, APP)
    yield
    host.check_output("mv %s %s; rm -f %s/source-api.tar.gz", kept, APP, STATE)


def source_of_api(ledger: Ledger, web: Path) -> str:
    """Put another source of `api` on the server and leave the app's; return its version."""
    kept = web.read_bytes()
    version = ledger.source("plain-api")
    ledger.send(web, f"{STATE}/source-api.tar.gz")
    web.write_bytes(kept)
    ledger.send(web, f"{STATE}/source.tar.gz")
    return version


@pytest.mark.usefixtures("two_images")
def test_images_are_released_and_rolled_back_together(host: Host, ledger: Ledger) -> None:
    archive = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "ledger.tar.gz"
    web = ledger.source("plain-web")
    first = source_of_api(ledger, archive)
    release = ledger.release()
    assert (ledger.answer()["version"], ledger.get("/api/")["version"]) == (web, first)

    second = source_of_api(ledger, archive)
    with ledger.load() as load:
        outcome = ledger.release("--if-changed")
        assert (ledger.answer()["version"], ledger.get("/api/")["version"]) == (web, second)
        assert said_at(outcome, "image").startswith("build as before")
        ledger.bedstone("rollback ledger")
        assert (ledger.answer()["version"], ledger.get("/api/")["version"]) == (web, first)
    ledger.check_nothing_lost(load)
    tags = host.check_output("docker image ls --format '{{.Tag}}' bedstone/ledger").split()
    for each in (release["release"], outcome["release"]):
        assert {each, f"{each}.api"} <= set(tags)
