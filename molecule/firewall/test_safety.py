"""No operator is locked out: rules count only when a new login got through them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from again import applied, command, refused
from testinfra.host import Host

UNITS = ["bedstone-firewall.service", "bedstone-firewall-rollback.service"]
PROGRAM = "/usr/local/lib/bedstone/firewall"
LIST = "nft --stateless --terse list table inet bedstone"
CONFIRMED = "/var/lib/bedstone/firewall/confirmed.nft"
DECLARED = "/etc/bedstone/firewall.nft"
TRIAL = "/run/bedstone-firewall.json"


def logs_in(server_name: str, *remote: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a new ssh connection."""
    config = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "ssh_config"
    options = ["-F", str(config), "-o", "ControlPath=none", "-o", "ConnectTimeout=3"]
    return subprocess.run(
        ["ssh", *options, server_name, *(remote or ("true",))],
        capture_output=True,
        text=True,
        check=False,
    )


def test_rules_that_lock_the_controller_out_are_rolled_back_at_once(
    host: Host, server_name: str
) -> None:
    rules, confirmed = host.check_output(LIST), host.file(CONFIRMED).content_string
    said = refused(server_name, firewall_ssh_port=2222)
    assert "No new ssh login" in said
    assert "firewall_ssh_port (2222)" in said
    assert host.check_output(LIST) == rules
    assert host.file(CONFIRMED).content_string == confirmed
    assert logs_in(server_name).returncode == 0
    assert host.check_output(f"{PROGRAM} check") == "The declared rules were not confirmed yet."


def test_controller_outside_of_the_listed_networks_is_not_locked_out(
    host: Host, server_name: str
) -> None:
    rules = host.check_output(LIST)
    assert "No new ssh login" in refused(server_name, firewall_ssh_networks=["192.0.2.0/24"])
    assert host.check_output(LIST) == rules


def test_killed_run_is_rolled_back_by_the_server(
    host: Host, server_name: str, wait_until: Callable[..., None]
) -> None:
    rules = host.check_output(LIST)
    play = subprocess.Popen(
        command(server_name, firewall_ssh_port=2222, firewall_confirm_seconds=15),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd=os.environ["MOLECULE_PROJECT_DIRECTORY"],
    )
    try:
        wait_until(lambda: host.file(TRIAL).exists, what="the rules are on trial")
    finally:
        os.killpg(play.pid, signal.SIGKILL)
        play.wait()
    assert logs_in(server_name).returncode != 0
    wait_until(lambda: logs_in(server_name).returncode == 0, seconds=60, what="a login succeeds")
    assert host.check_output(LIST) == rules
    assert not host.file(TRIAL).exists


def test_open_connection_confirms_nothing(host: Host, server_name: str) -> None:
    host.check_output("true")  # the shared connection is open before the trial begins
    time.sleep(0.05)
    host.check_output(f"{PROGRAM} try 30")
    old = host.run(f"{PROGRAM} confirm")
    assert (old.rc, old.stdout) == (1, "")
    assert "older than the rules" in old.stderr
    local = host.run(f"systemd-run --quiet --wait --pipe {PROGRAM} confirm")
    assert local.rc == 1
    assert "no ssh login" in local.stderr
    new = logs_in(server_name, PROGRAM, "confirm")
    assert (new.returncode, new.stdout) == (0, "confirmed\n")
    assert "bedstone-firewall-rollback" not in host.check_output("systemctl list-timers")
    late = logs_in(server_name, PROGRAM, "confirm")
    assert late.returncode == 1
    assert "no rules are on trial" in late.stderr


def test_rules_that_nft_refuses_are_never_loaded(host: Host) -> None:
    rules = host.check_output(LIST)
    host.check_output(f"echo 'table inet bedstone {{ chain x {{ nonsense }} }}' >> {DECLARED}")
    tried = host.run(f"{PROGRAM} try 30")
    assert tried.rc == 1
    assert "nonsense" in tried.stderr
    assert host.check_output(LIST) == rules
    assert not host.file(TRIAL).exists
    assert "bedstone-firewall-rollback" not in host.check_output("systemctl list-timers")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("nft delete table inet bedstone", "The rules are not loaded"),
        ("nft insert rule inet bedstone input accept", "-\t\taccept"),
        ("nft flush chain inet bedstone container_input", "+\t\ttcp dport 6379 accept"),
        ("nft add rule inet bedstone published accept", "-\t\taccept"),
    ],
)
def test_rules_changed_by_hand_are_found(host: Host, change: str, said: str) -> None:
    assert host.check_output(f"{PROGRAM} check") == ""
    host.check_output(change)
    assert said in host.check_output(f"{PROGRAM} check")


def test_run_restores_rules_changed_by_hand_and_check_mode_reports_them(
    host: Host, server_name: str
) -> None:
    rules = host.check_output(LIST)
    host.check_output("nft insert rule inet bedstone input accept")
    changed = host.check_output(LIST)
    assert "changed=1 " in applied(server_name, "--check", "--diff")
    assert host.check_output(LIST) == changed
    applied(server_name)
    assert host.check_output(LIST) == rules


def test_stopped_unit_is_started_again(host: Host, server_name: str) -> None:
    host.check_output("systemctl stop bedstone-firewall")
    assert host.run(LIST).rc != 0
    applied(server_name)
    assert host.service("bedstone-firewall").is_running
    assert host.service("bedstone-firewall").is_enabled
    assert host.run(LIST).rc == 0


def test_debians_unit_cannot_flush_the_rules(host: Host) -> None:
    rules = host.check_output(LIST)
    for verb in ("start", "restart", "stop"):
        host.run(f"systemctl {verb} nftables")
    assert "masked" in host.run("systemctl start nftables").stderr
    assert host.check_output(LIST) == rules


def test_debians_unit_in_use_is_a_conflict_before_anything_changes(
    host: Host, server_name: str
) -> None:
    before = host.file(DECLARED).content_string
    host.check_output("systemctl unmask nftables && systemctl enable nftables")
    try:
        said = refused(server_name, firewall_openings=[])
        assert "nftables.service is in use" in said
        assert host.file(DECLARED).content_string == before
    finally:
        host.check_output("systemctl disable nftables")
        applied(server_name)
    assert host.check_output("systemctl is-enabled nftables || true") == "masked"


def test_containers_interfaces_that_fit_the_uplink_are_refused(
    host: Host, server_name: str
) -> None:
    before = host.file(DECLARED).content_string
    said = refused(server_name, firewall_container_interfaces=["eth*"])
    assert "fits eth0" in said
    assert host.file(DECLARED).content_string == before


def test_one_address_with_many_logins_is_slowed_down_and_others_are_not(
    host: Host, peer: Host, server_name: str, address: str
) -> None:
    attempts = (
        "for i in $(seq 45); do /usr/local/bin/testbed-scan tcp %s 22; done | grep -c open || true"
    )
    reached = int(peer.check_output(attempts, address))
    assert 25 <= reached <= 40
    assert logs_in(server_name).returncode == 0
    host.check_output("nft flush set inet bedstone ssh_ipv4")
    assert peer.check_output("/usr/local/bin/testbed-scan tcp %s 22", address) == "open 22"


def test_listed_networks_have_no_limit(
    host: Host, peer: Host, server_name: str, address: str
) -> None:
    gateway = host.check_output("ip route show default").split()[2]
    peer_address = peer.interface("eth0").addresses[0]
    applied(server_name, firewall_ssh_networks=[gateway, peer_address])
    attempts = "for i in $(seq 45); do /usr/local/bin/testbed-scan tcp %s 22; done | grep -c open"
    assert int(peer.check_output(attempts, address)) == 45
    applied(server_name, firewall_ssh_networks=[gateway])
    assert peer.check_output("/usr/local/bin/testbed-scan tcp %s 22", address) == ""


def test_forwarding_is_on(host: Host, server_name: str) -> None:
    assert host.check_output("cat /proc/sys/net/ipv4/ip_forward") == "1"
    path = "/etc/sysctl.d/60-bedstone-firewall.conf"
    assert host.file(path).exists
    applied(server_name, firewall_ip_forward=False)
    assert not host.file(path).exists
    host.check_output("echo 0 > /proc/sys/net/ipv4/ip_forward")
    applied(server_name)
    assert host.check_output("cat /proc/sys/net/ipv4/ip_forward") == "1"


def test_removed_firewall_leaves_nothing_behind(
    host: Host, peer: Host, server_name: str, address: str
) -> None:
    applied(server_name, firewall_state="absent")
    assert host.run(LIST).rc != 0
    assert "changed=0 " in applied(server_name, firewall_state="absent")
    for path in (DECLARED, CONFIRMED, PROGRAM, "/etc/systemd/system/bedstone-firewall.service"):
        assert not host.file(path).exists, path
    assert host.check_output("systemctl is-enabled nftables || true") == "disabled"
    assert peer.check_output("/usr/local/bin/testbed-scan tcp %s 3306", address) == "open 3306"
    assert "No new ssh login" in refused(server_name, firewall_ssh_port=2222)
    assert host.run(LIST).rc != 0
    assert logs_in(server_name).returncode == 0
    applied(server_name)
    assert peer.check_output("/usr/local/bin/testbed-scan tcp %s 3306", address) == ""
