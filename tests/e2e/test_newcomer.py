"""A newcomer's machine: on a bare Debian, `make setup && make check` in a fresh clone pass.

What the setup forgets to install is not there, as it may be on a machine where people develop.
Debian 13 has Python 3.13, so this is also the controller with the newest ansible in the lock file:
it provisions another bare server. The Molecule scenarios run with this machine's Python.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from testbed import servers
from testbed.servers import Server, Spec
from tests.e2e.conftest import ROOT

GROUP = "newcomer"
SETUP_SECONDS, CHECK_SECONDS, PROVISION_SECONDS = 900, 1200, 600
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
# The README's own commands. The roles that are quick to install are sufficient: all roles share the
# plugins, and what they don't share runs on the server's Python.
KEY = "ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519 && cat ~/.ssh/id_ed25519.pub"
NEW = (
    "cd bedstone && make new NAME=production HOST={} DOMAIN=pay.example.com"
    " ARGS='--ssh-key ~/.ssh/id_ed25519.pub'"
)
PROVISION = (
    "cd bedstone && .venv/bin/ansible-playbook playbooks/provision.yml -i inventories/production"
    " --vault-password-file inventories/production/.vault-password"
    " --tags base,host_program,ca,nginx"
)
INSTALLED = (
    "import sys, importlib.metadata as m;"
    "print(*sys.version_info[:2], m.version('ansible'), sep='.')"
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


@pytest.fixture(scope="module")
def setup(newcomer: Server) -> str:
    """The output of `make setup`."""
    return said(newcomer, "cd bedstone && make setup", SETUP_SECONDS)


@pytest.fixture(scope="module")
def check(newcomer: Server, setup: str) -> Iterator[Future[str]]:
    """The output of `make check`, which runs while the other server is provisioned."""
    assert setup
    with ThreadPoolExecutor() as pool:
        yield pool.submit(said, newcomer, "cd bedstone && make check", CHECK_SECONDS)


@pytest.fixture(scope="module")
def bare(newcomer: Server) -> Server:
    """Another bare server in the newcomer's network; its root has the newcomer's key."""
    server, made = servers.up(Spec("newcomer-web", group=newcomer.group))
    assert made, "it was up before"
    key = said(newcomer, KEY, 60).strip()
    said(server, f"echo {shlex.quote(key)} >> ~/.ssh/authorized_keys", 60)
    return server


def test_setup_passes_in_a_fresh_clone(setup: str) -> None:
    print(setup)
    assert "this machine is ready" in setup
    # Nothing about this machine's own configuration, which a newcomer could do nothing about.
    assert re.findall(r"(?im)^.*\b(?:warn(?:ing)?|deprecat\w*)\b.*$", setup) == []


@pytest.mark.usefixtures("check")
def test_newest_ansible_provisions_a_server(newcomer: Server, bare: Server) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    newest = next(pin for pin in project["dependencies"] if pin.endswith(">= '3.12'"))
    found = said(newcomer, f'cd bedstone && .venv/bin/python -c "{INSTALLED}"', 60)
    assert found.strip() == f"3.13.{newest.partition(';')[0].removeprefix('ansible==')}"
    said(newcomer, NEW.format(bare.address), 60)
    print(first := said(newcomer, PROVISION, PROVISION_SECONDS))
    print(again := said(newcomer, PROVISION, PROVISION_SECONDS))
    assert re.search(r"^web1 .*\bchanged=[1-9]\d* .*\bfailed=0 ", first, re.MULTILINE)
    assert re.search(r"^web1 .*\bchanged=0 .*\bfailed=0 ", again, re.MULTILINE)
    assert "deprecat" not in f"{first}{again}".lower()
    assert said(bare, "systemctl is-active nginx", 60).strip() == "active"


def test_check_passes_in_a_fresh_clone(check: Future[str]) -> None:
    print(text := check.result())
    assert re.search(r"^\d+ passed", text, re.MULTILINE)
    assert "skipped" not in text
