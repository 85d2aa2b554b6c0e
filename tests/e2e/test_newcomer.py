"""A newcomer's machine: on a bare Debian, `make setup && make check` in a fresh clone pass.

What the setup forgets to install is not there, as it may be on a machine where people develop.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest

from testbed import servers
from testbed.servers import Server, Spec
from tests.e2e.conftest import ROOT

GROUP = "newcomer"
SETUP_SECONDS, CHECK_SECONDS = 900, 1200
# What the README says that a machine has to have.
PREREQUISITES = "python3 git make"
INSTALL = (
    "sudo apt-get update -qq && sudo DEBIAN_FRONTEND=noninteractive"
    f" apt-get install -y -qq --no-install-recommends {PREREQUISITES}"
)
CLONE = (
    "set -e; mkdir origin; tar -x -C origin; cd origin; git init -q; git add -A;"
    " git -c user.name=n -c user.email=n@example.com commit -q -m all;"
    " cd; git clone -q origin bedstone"
)


def said(server: Server, command: str, seconds: float, tree: bytes | None = None) -> str:
    """Return what a command says on the newcomer's machine, where it has to work."""
    done = subprocess.run(
        server.ssh(command),
        input=tree or b"",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=seconds,
        check=False,
    )
    text = done.stdout.decode(errors="replace")
    assert done.returncode == 0, text
    return text


def packed() -> bytes:
    """Return this tree's files, without what git ignores, as a tar archive."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    ).stdout
    there = [name for name in listed.split(b"\0") if name and (ROOT / name.decode()).exists()]
    return subprocess.run(
        ["tar", "--create", "--null", "--files-from=-"],
        cwd=ROOT,
        input=b"\0".join(there),
        check=True,
        capture_output=True,
    ).stdout


@pytest.fixture(scope="module")
def newcomer() -> Iterator[Server]:
    """A bare server with a fresh clone, and a user who may use sudo."""
    server, made = servers.up(Spec("newcomer", group=GROUP, user="debian"))
    assert made, "it was up before"
    try:
        said(server, INSTALL, SETUP_SECONDS)
        said(server, CLONE, 120, packed())
        yield server
    finally:
        servers.down(servers.containers(group=GROUP))


def test_setup_and_check_pass_in_a_fresh_clone(newcomer: Server) -> None:
    print(setup := said(newcomer, "cd bedstone && make setup", SETUP_SECONDS))
    assert "this machine is ready" in setup
    # Nothing about this machine's own configuration, which a newcomer could do nothing about.
    assert re.findall(r"(?im)^.*\b(?:warn(?:ing)?|deprecat\w*)\b.*$", setup) == []
    print(check := said(newcomer, "cd bedstone && make check", CHECK_SECONDS))
    assert re.search(r"^\d+ passed", check, re.MULTILINE)
    assert "skipped" not in check
