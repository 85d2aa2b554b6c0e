"""The sandbox of Bedstone's units, and that no unit goes without one."""

from __future__ import annotations

import re

import pytest

from bedstone_control.roles import sandbox
from tests.unit.fixtures.checkout import ROOT

# It installs packages, whose scripts may do anything.
WITHOUT = {"bedstone-upgrade.service.j2"}
# What they mount or swap to is for the server: a mount namespace of their own would keep it.
BY_HAND = {"bedstone-content.service.j2", "bedstone-swap.service.j2"}


def lines(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if not line.startswith("#"))


def test_unit_names_its_exceptions_alone() -> None:
    usual = lines(sandbox.systemd_sandbox(["/var/lib/a", "-/srv/b"], ["CHOWN", "KILL"]))
    assert usual["ReadWritePaths"] == "/var/lib/a -/srv/b"
    assert usual["CapabilityBoundingSet"] == "CAP_CHOWN CAP_KILL"
    assert usual["RestrictAddressFamilies"] == "AF_UNIX"
    other = lines(
        sandbox.systemd_sandbox(
            ["/var/lib/a", "-/srv/b"],
            ["CHOWN", "KILL"],
            network="any",
            namespaces="net",
            setgid=True,
            write_execute=True,
        )
    )
    assert {name: other[name] for name in usual if usual[name] != other[name]} == {
        "MemoryDenyWriteExecute": "no",
        "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6 AF_NETLINK",
        "RestrictNamespaces": "net",
        "RestrictSUIDSGID": "no",
    }


def test_no_capability_is_none_and_not_all() -> None:
    # Without the line, or without its name, a unit would have all of them.
    assert "\nCapabilityBoundingSet=\n" in sandbox.systemd_sandbox([])


def test_unknown_network_is_refused() -> None:
    with pytest.raises(ValueError, match="network is 'internet', not local or any"):
        sandbox.systemd_sandbox([], network="internet")


def test_every_service_has_a_sandbox_that_ends_its_service_section() -> None:
    units = sorted(ROOT.glob("roles/*/**/*.service*"))
    units = [path for path in units if path.is_file() and "ExecStart=" in path.read_text()]
    assert len(units) > len(WITHOUT | BY_HAND)
    for path in units:
        sandboxed = re.search(r"\| systemd_(kernel_)?sandbox", path.read_text())
        assert bool(sandboxed) == (path.name not in WITHOUT | BY_HAND), path
