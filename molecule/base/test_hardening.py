"""What is closed on a server for containers; a container can't set the kernel but for net.*."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

import pytest
from again import applied, refused
from testinfra.host import Host

Login = Callable[..., subprocess.CompletedProcess[str]]

UNITS = ["ssh.service"]
CONF = "/etc/sysctl.d/60-bedstone-hardening.conf"


def kernel(host: Host, name: str) -> str:
    return str(host.check_output("sysctl --values %s", name))


@pytest.fixture
def victim(host: Host) -> Iterator[str]:
    """Yield an account with a password that is known."""
    host.check_output("useradd --create-home victim; echo victim:known-to-all | chpasswd")
    yield "victim"
    host.check_output("userdel --remove victim")


def test_interfaces_of_later_containers_are_hardened_and_may_forward(host: Host) -> None:
    forwarding = kernel(host, "net.ipv4.ip_forward")
    host.check_output("ip link add molecule0 type veth peer name molecule1")
    try:
        for name in ("accept_redirects", "send_redirects", "accept_source_route"):
            assert kernel(host, f"net.ipv4.conf.molecule0.{name}") == "0", name
        assert kernel(host, "net.ipv4.conf.molecule0.rp_filter") == "2"
        assert kernel(host, "net.ipv6.conf.molecule0.accept_redirects") == "0"
    finally:
        host.check_output("ip link delete molecule0")
    assert kernel(host, "net.ipv4.ip_forward") == forwarding


def test_kernel_settings_of_a_machine_are_there_for_its_boot(host: Host) -> None:
    declared = host.check_output("/usr/lib/systemd/systemd-sysctl --cat-config").splitlines()
    assert "kernel.core_pattern = |/bin/false" in declared
    # The last file counts.
    assert declared.index("kernel.core_pattern = |/bin/false") > max(
        number for number, line in enumerate(declared) if line.startswith("kernel.core_pattern=")
    )


def test_inventory_changes_kernel_settings(host: Host, server_name: str) -> None:
    said = refused(server_name, base_sysctl={"swappiness": 1})
    assert "swappiness" in said
    assert "no kernel setting" in said
    applied(server_name, base_sysctl={"net.ipv4.conf.*.rp_filter": 1, "fs.suid_dumpable": None})
    assert kernel(host, "net.ipv4.conf.all.rp_filter") == "1"
    assert "suid_dumpable" not in host.file(CONF).content_string
    applied(server_name)
    assert kernel(host, "net.ipv4.conf.all.rp_filter") == "2"


@pytest.mark.parametrize("module", ["dccp", "sctp", "rds", "tipc", "usb_storage"])
def test_module_is_not_loaded_for_a_program_that_asks(host: Host, module: str) -> None:
    assert f"install {module} /bin/false" in host.check_output("modprobe --showconfig").splitlines()


def test_account_cannot_become_another_by_its_password(host: Host, victim: str) -> None:
    attempt = (
        "setpriv --reuid=olivia --regid=olivia --init-groups"
        " sh -c 'echo known-to-all | su %s -c id'"
    )
    assert host.run(attempt, victim).rc != 0
    host.check_output("usermod --append --groups root olivia")
    try:
        assert f"({victim})" in host.check_output(attempt, victim)
    finally:
        host.check_output("gpasswd --delete olivia root")
    assert host.check_output("su %s -c 'id -un'", victim) == victim


def test_people_share_nothing_by_chance_and_services_read_what_root_makes(login: Login) -> None:
    said = login("olivia", "bash -lc 'umask; sudo -n sh -c umask; sudo -n bash -lc umask'")
    assert said.stdout.split() == ["0027", "0022", "0022"]


def test_banner_is_shown_before_the_login(host: Host, peer: Host, server_name: str) -> None:
    ask = "ssh -o BatchMode=yes -o StrictHostKeyChecking=no -o ConnectTimeout=5 root@%s || true"
    assert "Of the company" not in peer.run(ask, server_name).stderr
    applied(server_name, base_ssh_banner="Of the company alone.")
    assert "Of the company alone." in peer.run(ask, server_name).stderr
    applied(server_name)
    assert not host.file("/etc/ssh/bedstone-banner").exists


def test_swap_file_is_for_the_boot_of_a_machine_and_goes_again(
    host: Host, server_name: str
) -> None:
    """Swap is the machine's: what is made of it, tests/machine says."""
    assert "base_swap_mb is 1: MiB" in refused(server_name, base_swap_mb=1)
    unit = "bedstone-swap.service"
    applied(server_name, base_swap_mb=64)
    assert host.service(unit).is_enabled
    shown = host.check_output(f"systemctl show --property=ConditionResult,ActiveState {unit}")
    assert sorted(shown.splitlines()) == ["ActiveState=inactive", "ConditionResult=no"]
    assert "changed=0 " in applied(server_name, base_swap_mb=64)
    applied(server_name)
    assert not host.file(f"/etc/systemd/system/{unit}").exists
    assert not host.file("/usr/local/lib/bedstone/swap-file").exists
