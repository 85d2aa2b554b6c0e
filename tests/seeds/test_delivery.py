"""The piggy bank's delivery script against its server, as a runner calls it: with one key alone."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from testbed.paths import ROOT, SSH
from tests.seeds.conftest import DEPLOY_KEY, System, make_key

pytestmark = pytest.mark.parametrize("system", ["piggy-bank-and-coffee"], indirect=True)

Deliver = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def checkout(system: System, tmp_path: Path) -> Path:
    """The team's checkout, whose `production` is the server."""
    path = tmp_path / "checkout"
    shutil.copytree(ROOT / "tests/apps/octoco/delivery", path / "delivery")
    address = system.server.address
    (path / "delivery/production.env").write_text(f"SERVER=deploy@{address}\n")
    (path / "delivery/known_hosts").write_text(f"{address} {system.server.host_key}\n")
    return path


@pytest.fixture
def deliver(system: System, checkout: Path) -> Deliver:
    """Run the script with a key, in the environment of a runner: no agent, no home."""

    def call(*words: str, key: Path | None = None) -> subprocess.CompletedProcess[str]:
        text = (key or system.directory / DEPLOY_KEY).read_text()
        return subprocess.run(
            ["delivery/bedstone.sh", "production", *words],
            cwd=checkout,
            env={"PATH": "/usr/bin:/bin", "HOME": str(checkout), "DEPLOY_KEY": text},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    return call


def releases(system: System) -> list[str]:
    """Return the names of the app's releases, the newest first."""
    told = json.loads(system.on_server("bedstone releases octoco --json"))
    return [each["release"] for each in told]


def test_only_the_declared_key_and_the_known_server_are_accepted(
    system: System, deliver: Deliver, checkout: Path, tmp_path: Path
) -> None:
    before = releases(system)
    make_key(tmp_path / "other")
    # The second opens root's account of this server.
    for key in (tmp_path / "other", SSH / "id_ed25519"):
        refused = deliver("release", "octoco", key=key)
        assert refused.returncode == 255
        assert "Permission denied" in refused.stderr
    public = (tmp_path / "other.pub").read_text()
    (checkout / "delivery/known_hosts").write_text(f"{system.server.address} {public}\n")
    refused = deliver("release", "octoco")
    assert refused.returncode == 255
    assert "Host key verification failed" in refused.stderr
    assert releases(system) == before


@pytest.mark.parametrize(
    "words",
    [
        ("backup", "octoco"),
        ("run", "octoco", "--", "id"),
        ("release", "octoco", "--accept", "core.0002"),
        ("release", "coffee-payments"),
        ("rollback", "coffee-payments"),
        ("release", "octoco; sudo -n id"),
    ],
)
def test_other_command_and_other_app_are_refused(
    system: System, deliver: Deliver, words: tuple[str, ...]
) -> None:
    before = releases(system)
    refused = deliver(*words)
    assert refused.returncode == 1, refused.stdout
    assert "sudo" in refused.stderr
    assert "uid=" not in refused.stdout
    assert releases(system) == before
