"""What a second machine and containers reach: declared ports, and no others."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from again import applied
from testinfra.host import Host

UNITS = ["bedstone-firewall.service", "docker.service"]
IMAGE = "bedstone-python:trixie"
ROOT = Path(__file__).resolve().parents[2]
DECLARED = "/etc/bedstone/firewall.nft"
# prepare.yml gives them.
SIX = {"server": "fd00:bed::1", "peer": "fd00:bed::2"}
OPEN = {22, 80, 443}
UDP = "53,69,111,123,161,443,514,1900,4789,5353,11211,51820"
SCAN = "/usr/local/bin/testbed-scan"
# A server in a container: it answers on one port, IPv6 as well.
SERVE = "python -m http.server --bind :: "
METADATA = "169.254.169.254"


@pytest.fixture
def peer_address(peer: Host) -> str:
    """The peer's address, by which the server reaches it."""
    return str(peer.interface("eth0").addresses[0])


@pytest.fixture(autouse=True)
def no_containers(host: Host) -> Iterator[None]:
    """Remove what a test started."""
    remove = (
        "docker ps --all --quiet | xargs --no-run-if-empty docker rm --force;"
        " docker network prune --force"
    )
    host.run(remove)
    yield
    host.run(remove)


@contextmanager
def stopped(host: Host) -> Iterator[None]:
    """Without the firewall: what it is that the rules change."""
    host.check_output("systemctl stop bedstone-firewall")
    try:
        yield
    finally:
        host.check_output("systemctl start bedstone-firewall")


def scan(source: Host, address: str, ports: str, protocol: str = "tcp") -> set[int]:
    """Return which ports of an address answer to a machine."""
    printed = source.check_output(f"{SCAN} {protocol} {address} {ports}")
    return {int(line.split()[1]) for line in printed.splitlines() if line.startswith("open")}


def scan_inside(
    host: Host, address: str, ports: str, *options: str, protocol: str = "tcp"
) -> set[int]:
    """Return which ports of an address answer to a container."""
    command = (
        f"docker run --rm --volume {SCAN}:/scan:ro {' '.join(options)} {IMAGE}"
        f" python /scan {protocol} {address} {ports}"
    )
    printed = host.check_output(command)
    return {int(line.split()[1]) for line in printed.splitlines() if line.startswith("open")}


def serve(host: Host, name: str, *options: str, port: int = 80) -> str:
    """Run a container that serves a port, and return its address."""
    host.check_output(
        f"docker run --detach --name {name} {' '.join(options)} {IMAGE} {SERVE} {port}"
    )
    template = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}"
    address = str(host.check_output(f"docker inspect --format '{template}' {name}").split()[0])
    ready = (
        f"for i in $(seq 50); do {SCAN} tcp {address} {port} | grep -q open && exit 0; done; exit 1"
    )
    host.check_output(ready)
    return address


@pytest.mark.parametrize("family", [4, 6])
def test_second_machine_reaches_declared_ports_and_no_others_before_and_after_a_typed_publish(
    host: Host, peer: Host, address: str, family: int
) -> None:
    target = address if family == 4 else SIX["server"]
    assert scan(peer, target, "1-65535") == OPEN
    serve(host, "typed", "--publish 8080:80")
    assert scan(peer, target, "1-65535") == OPEN
    with stopped(host):
        assert scan(peer, target, "22,80,443,3306,5432,8080,9100") == {
            *OPEN,
            3306,
            5432,
            8080,
            9100,
        }


@pytest.mark.parametrize("family", [4, 6])
def test_second_machine_gets_no_answer_to_datagrams_but_of_the_declared_port(
    host: Host, peer: Host, address: str, family: int
) -> None:
    target = address if family == 4 else SIX["server"]
    assert scan(peer, target, UDP, "udp") == {443}
    with stopped(host):
        assert scan(peer, target, UDP, "udp") == {int(port) for port in UDP.split(",")}


def test_port_for_one_network_is_open_to_it_alone(
    server_name: str, peer: Host, peer_address: str, address: str
) -> None:
    six = f"{SIX['peer']}/128"
    applied(
        server_name,
        firewall_openings=[
            {"port": 5432, "networks": [peer_address, six]},
            {"port": 6379, "networks": ["192.0.2.0/24"]},
            {"port": 53, "protocol": "udp", "networks": [peer_address, six]},
        ],
    )
    for target in (address, SIX["server"]):
        assert scan(peer, target, "80,5432,6379") == {5432}
        assert scan(peer, target, "53,161", "udp") == {53}


@pytest.mark.parametrize("binding", ["", "0.0.0.0:", "[::]:", "127.0.0.1:", "ADDRESS:"])
def test_undeclared_published_port_is_closed_whatever_it_is_bound_to(
    host: Host, peer: Host, address: str, binding: str
) -> None:
    bound = binding.replace("ADDRESS", address)
    inside = serve(host, "typed", f"--publish {bound}8080:80")
    peer.check_output(f"ip route replace {inside} via {address}")
    for target in (address, SIX["server"]):
        assert scan(peer, target, "8080") == set()
    assert scan(peer, inside, "80") == set()
    if "127" not in bound:
        with stopped(host):
            reached = scan(peer, address, "8080") | scan(peer, SIX["server"], "8080")
            assert reached == {8080}


def test_server_itself_reaches_what_a_container_publishes(host: Host) -> None:
    serve(host, "typed", "--publish 127.0.0.1:8080:80")
    assert scan(host, "127.0.0.1", "8080") == {8080}


def test_declared_published_port_is_open_by_the_number_it_has_on_the_server(
    host: Host, peer: Host, address: str
) -> None:
    serve(host, "declared", "--publish 8090:80", "--publish 8080:80")
    for target in (address, SIX["server"]):
        assert scan(peer, target, "8080,8090") == {8090}


def test_published_port_for_other_networks_is_closed(host: Host, peer: Host, address: str) -> None:
    serve(host, "declared", "--publish 8091:80")
    for target in (address, SIX["server"]):
        assert scan(peer, target, "8091") == set()


def test_container_is_not_reached_by_a_route_to_its_own_address(
    host: Host, peer: Host, address: str
) -> None:
    host.check_output("docker network create --ipv6 --subnet fd00:c0de::/64 molecule-six")
    host.check_output("sysctl -qw net.ipv6.conf.all.forwarding=1")
    four = serve(host, "hidden", "--network molecule-six")
    six = host.check_output(
        "docker inspect --format '{{range .NetworkSettings.Networks}}{{.GlobalIPv6Address}}{{end}}'"
        " hidden"
    )
    peer.check_output(f"ip route replace {four} via {address}")
    peer.check_output(f"ip -6 route replace {six} via {SIX['server']}")
    assert scan(peer, four, "80") == set()
    assert scan(peer, six, "80") == set()
    with stopped(host):
        assert scan(peer, four, "80") | scan(peer, six, "80") == {80}
    assert scan(host, four, "80") == scan(host, six, "80") == {80}


def test_container_reaches_declared_ports_of_the_server_and_no_others(
    host: Host, address: str
) -> None:
    assert scan_inside(host, "172.17.0.1", "1-65535") == {80, 443, 6379}
    assert scan_inside(host, address, "22,80,443,3306,6379") == {80, 443, 6379}
    assert scan_inside(host, "172.17.0.1", UDP, protocol="udp") == {443}
    with stopped(host):
        assert scan_inside(host, "172.17.0.1", "22,3306") == {22, 3306}


def test_container_reaches_outside_and_the_metadata_service_for_dns_only(
    host: Host, peer: Host, peer_address: str
) -> None:
    assert scan_inside(host, peer_address, "80,3306") == {80, 3306}
    peer.check_output(f"ip address replace {METADATA}/32 dev eth0")
    host.check_output(f"ip route replace {METADATA} via {peer_address}")
    assert scan(host, METADATA, "80") == {80}
    assert scan_inside(host, METADATA, "53,80,443,8000") == {53}
    with stopped(host):
        assert scan_inside(host, METADATA, "53,80") == {53, 80}


def test_router_advertisement_of_a_container_is_dropped(host: Host) -> None:
    """An ICMPv6 packet of type 134 from a container to all nodes on its bridge."""
    host.check_output("docker network create --ipv6 --subnet fd00:c0de::/64 molecule-six")
    send = (
        "import socket, struct; s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, 58);"
        " s.setsockopt(41, socket.IPV6_MULTICAST_HOPS, 255);"
        " s.sendto(struct.pack('!BBHBBHII', 134, 0, 0, 64, 0, 1800, 0, 0),"
        " ('ff02::1', 0, 0, socket.if_nametoindex('eth0')))"
    )
    dropped = "nft list chain inet bedstone input | grep -c 'nd-router-advert counter packets 1 '"
    assert host.run(dropped).stdout.strip() == "0"
    # An address is usable only after the duplicate address detection.
    command = f"docker run --rm --network molecule-six {IMAGE} python -c"
    host.check_output(f"{command} %s", f"import time; time.sleep(3); {send}")
    assert host.check_output(dropped) == "1"


def test_container_gets_nothing_by_the_address_of_a_listed_network(host: Host) -> None:
    """A datagram with a forged source, to the port that 192.0.2.0/24 may use."""
    forge = (
        "import socket, struct; s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 255);"
        " a = socket.inet_aton; d = struct.pack('!HHHH', 4000, 514, 9, 0) + b'?';"
        " h = struct.pack('!BBHHHBBH4s4s', 69, 0, 20 + len(d), 1, 0, 64, 17, 0,"
        " a('192.0.2.9'), a('172.17.0.1')); s.sendto(h + d, ('172.17.0.1', 0))"
    )
    # A rule that counts what no earlier one accepted.
    rule = "ip saddr 192.0.2.9 udp dport 514 counter drop"
    host.check_output(f"nft insert rule inet bedstone container_input {rule}")
    host.check_output(f"docker run --rm {IMAGE} python -c %s", forge)
    listed = host.check_output("nft list chain inet bedstone container_input")
    assert "udp dport 514 counter packets 1 " in listed


def test_apps_dont_reach_each_other(host: Host, address: str) -> None:
    host.check_output("docker network create molecule-a && docker network create molecule-b")
    inside = serve(host, "one", "--network molecule-a", "--publish 8080:80")
    assert scan_inside(host, inside, "80", "--network molecule-a") == {80}
    assert scan_inside(host, inside, "80", "--network molecule-b") == set()
    assert scan_inside(host, address, "8080", "--network molecule-b") == set()
    with stopped(host):
        assert scan_inside(host, address, "8080", "--network molecule-b") == {8080}


def test_containers_connect_only_to_declared_destinations(
    host: Host, server_name: str, peer_address: str
) -> None:
    host.check_output("docker network create molecule-a")
    neighbour = serve(host, "one", "--network molecule-a")
    applied(
        server_name,
        firewall_container_destinations=[
            {"networks": [peer_address], "port": 443},
            {"networks": [peer_address], "port": 53, "protocol": "udp"},
        ],
    )
    options = ("--network molecule-a",)
    assert scan_inside(host, peer_address, "80,443", *options) == {443}
    assert scan_inside(host, peer_address, "53,161", *options, protocol="udp") == {53}
    assert scan_inside(host, neighbour, "80", *options) == {80}
    assert scan_inside(host, "172.17.0.1", "80,6379") == {80, 6379}


def test_app_with_a_list_connects_only_to_what_is_on_it(
    host: Host, server_name: str, peer_address: str
) -> None:
    options = "--opt com.docker.network.bridge.name=br-limited molecule-limited"
    host.check_output(f"docker network create {options} && docker network create molecule-free")
    neighbour = serve(host, "one", "--network molecule-limited")
    applied(
        server_name,
        firewall_resolvers=[peer_address],
        firewall_app_egress=[
            {"interface": "br-limited", "destinations": [{"networks": [peer_address], "port": 443}]}
        ],
    )
    limited, free = ("--network molecule-limited",), ("--network molecule-free",)
    assert scan_inside(host, peer_address, "53,80,443", *limited) == {53, 443}
    assert scan_inside(host, peer_address, "53,161", *limited, protocol="udp") == {53}
    assert scan_inside(host, peer_address, "53,80,443", *free) == {53, 80, 443}
    # What it lists is what is outside: its own network and the server are as before.
    assert scan_inside(host, neighbour, "80", *limited) == {80}
    assert scan_inside(host, "172.17.0.1", "80,6379", *limited) == {80, 6379}


def test_icmp_works_in_both_families(peer: Host, address: str) -> None:
    for target in (address, SIX["server"]):
        answer = peer.run(f"ping -c 1 -W 3 {target}")
        assert answer.rc == 0, answer.stdout


def test_rules_hold_through_a_restart_of_docker(host: Host, peer: Host, address: str) -> None:
    serve(host, "typed", "--publish 8080:80", "--publish 8090:80")
    host.check_output("systemctl reset-failed docker && systemctl restart docker")
    for target in (address, SIX["server"]):
        assert scan(peer, target, "3306,8080,8090") == {8090}
    assert scan_inside(host, "172.17.0.1", "22,6379") == {6379}


def test_dockers_rules_are_left_alone(host: Host, peer: Host, address: str) -> None:
    serve(host, "declared", "--publish 8090:80")
    before = host.check_output("iptables-save | grep -v '^[#:]'")
    host.check_output("systemctl reload bedstone-firewall")
    host.check_output("systemctl restart bedstone-firewall")
    assert host.check_output("iptables-save | grep -v '^[#:]'") == before
    assert scan(peer, address, "8090") == {8090}


def test_confirmed_rules_are_there_from_the_first_moment_of_a_boot(
    host: Host,
    peer: Host,
    server_name: str,
    address: str,
    wait_until: Callable[..., None],
) -> None:
    serve(host, "typed", "--restart always", "--publish 8080:80", "--publish 8090:80")
    # A trial that a reboot has to end: no login succeeds under these rules.
    host.check_output("sed -i 's/tcp dport 22 goto ssh/tcp dport 2222 goto ssh/' %s", DECLARED)
    host.check_output("/usr/local/lib/bedstone/firewall try 600")
    watch = (
        f"while :; do {SCAN} tcp {address} 3306,8080,8090 >> /run/seen;"
        f" {SCAN} tcp {SIX['server']} 3306,8080,8090 >> /run/seen; done"
    )
    peer.check_output("rm -f /run/seen; systemd-run --quiet --unit watch sh -c %s", watch)
    try:
        subprocess.run(["python3", "-m", "testbed", "restart", server_name], cwd=ROOT, check=True)
        wait_until(
            lambda: scan(peer, address, "8090") and scan(peer, SIX["server"], "8090"),
            seconds=120,
            what="the container serves again",
        )
    finally:
        peer.check_output("systemctl stop watch")
    seen = set(peer.check_output("cat /run/seen").splitlines())
    assert "open 8090" in seen
    assert not {"open 8080", "open 3306"} & seen
    assert scan(host, address, "3306,8080") == {3306, 8080}
    assert scan(peer, address, "22,2222,3306,8080") == {22}
