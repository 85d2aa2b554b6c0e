"""The demo, brought up as a newcomer does: in a clean checkout, by `make demo`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.browser import Browser

ROOT = Path(__file__).resolve().parents[2]
LIMIT_SECONDS = 1200


@dataclass(frozen=True)
class Demo:
    """A checkout whose demo is up."""

    checkout: Path
    said: str

    @property
    def port(self) -> int:
        """The port of the printed URL."""
        found = re.search(r"https://payments\.localhost(?::(\d+))?/", self.said)
        assert found, self.said
        return int(found[1] or 443)

    @property
    def logins(self) -> dict[str, str]:
        """The printed names and passwords."""
        return dict(re.findall(r"^  (rosa|arthur) +(\S+)$", self.said, re.MULTILINE))

    def browser(self) -> Browser:
        """Return a new browser at the printed URL that trusts the printed authority."""
        found = re.search(r"curl --cacert (\S+)", self.said)
        assert found, self.said
        return Browser("payments.localhost", "127.0.0.1", self.checkout / found[1], self.port)


def make(checkout: Path, *targets: str) -> str:
    """Run make as a newcomer would, without this run's Python environment.

    Returns:
        all that it printed.

    """
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MAKE", "MFLAGS", "VIRTUAL_ENV", "PYTEST", "ANSIBLE"))
    }
    clean["PATH"] = ":".join(
        entry for entry in clean["PATH"].split(":") if not entry.startswith(str(ROOT))
    )
    ended = subprocess.run(
        ["make", *targets],
        cwd=checkout,
        env=clean,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert ended.returncode == 0, f"make {' '.join(targets)} failed:\n{ended.stdout}"
    return ended.stdout


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The demo of a clean checkout of this tree; removed at the end."""
    checkout = tmp_path_factory.mktemp("checkout") / "bedstone"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists():
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, checkout / name, follow_symlinks=False)
    subprocess.run(["git", "init", "-q"], cwd=checkout, check=True)
    subprocess.run(["git", "add", "-A"], cwd=checkout, check=True)
    try:
        yield Demo(checkout, make(checkout, "demo"))
    finally:
        make(checkout, "demo-down")
        # A whole environment and two images: more than pytest should keep around.
        shutil.rmtree(checkout)
