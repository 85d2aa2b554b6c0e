from __future__ import annotations

import ipaddress
import json
from typing import TYPE_CHECKING, Any

import pytest
from again import applied, refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from testinfra.host import Host

UNITS = ["docker.service"]
IMAGE = "bedstone-python:trixie"
RUN = f"docker run --detach --name molecule {IMAGE}"


@pytest.fixture(autouse=True)
def no_container(host: Host) -> Iterator[None]:
    host.run("docker rm --force molecule")
    yield
    host.run("docker rm --force molecule")


def inspect(host: Host, what: str) -> Any:
    return json.loads(host.check_output("docker inspect molecule"))[0][what]


def test_daemon_runs_and_starts_with_the_server(host: Host) -> None:
    assert host.service("docker").is_running
    assert host.service("docker").is_enabled


def test_build_cache_has_the_declared_limit(host: Host) -> None:
    config = json.loads(host.file("/etc/docker/daemon.json").content_string)
    assert config["builder"]["gc"] == {"enabled": True, "defaultKeepStorage": "5GB"}


def test_container_survives_a_restart_of_the_daemon(host: Host) -> None:
    host.check_output(f"{RUN} sleep 300")
    before = inspect(host, "State")
    # The tests before restarted it too; systemd would count this one as a crash.
    host.check_output("systemctl reset-failed docker && systemctl restart docker")
    after = inspect(host, "State")
    assert after["Running"]
    assert (after["Pid"], after["StartedAt"]) == (before["Pid"], before["StartedAt"])
    assert host.check_output("docker exec molecule echo there") == "there"


def test_archive_is_loaded_again_only_when_its_image_is_gone(host: Host, server_name: str) -> None:
    host.check_output(f"docker image rm {IMAGE}")
    assert "changed=1 " in applied(server_name)
    assert host.run(f"docker image inspect {IMAGE}").rc == 0


def test_archive_that_is_none_is_named(host: Host, server_name: str) -> None:
    host.check_output("echo nonsense > /tmp/no.tar")
    said = refused(server_name, docker_image_archives=["/tmp/no.tar"])
    assert "/tmp/no.tar is no image archive" in said


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param({"live-restor": True}, "live-restor", id="unknown key"),
        pytest.param({"live-restore": "perhaps"}, "live-restore", id="wrong type"),
        pytest.param(
            *({"hosts": ["tcp://0.0.0.0:2375"]}, "would not start"), id="clash with the unit"
        ),
    ],
)
def test_wrong_settings_are_refused_and_the_daemon_is_left_alone(
    host: Host, server_name: str, settings: dict[str, Any], message: str
) -> None:
    before = host.file("/etc/docker/daemon.json").content_string
    running = host.check_output("systemctl show --property=MainPID --value docker")
    said = refused(server_name, docker_daemon_settings=settings)
    assert message in said
    assert host.file("/etc/docker/daemon.json").content_string == before
    assert host.check_output("systemctl show --property=MainPID --value docker") == running


def test_own_setting_takes_effect_and_containers_live_through_it(
    host: Host, server_name: str, wait_until: Callable[..., None]
) -> None:
    host.check_output(f"{RUN} sleep 300")
    pid = inspect(host, "State")["Pid"]
    applied(server_name, docker_daemon_settings={"labels": ["bedstone.test=yes"]})
    wait_until(lambda: "bedstone.test=yes" in host.check_output("docker info"))
    assert inspect(host, "State")["Pid"] == pid
    applied(server_name)
    wait_until(lambda: "bedstone.test=yes" not in host.check_output("docker info"))


def test_own_repository_is_trusted_for_itself_alone(host: Host, server_name: str) -> None:
    """Its packages can't be had here; what can be seen is that apt asks it, with that key."""
    key = "/etc/apt/keyrings/bedstone-docker.asc"
    sources = "/etc/apt/sources.list.d/bedstone-docker.sources"
    said = refused(
        server_name,
        docker_repository_url="http://127.0.0.1:9/linux/debian",
        docker_repository_key="/dev/null",
        docker_packages=["docker-ce"],
    )
    assert "Installing docker-ce failed" in said
    assert f"Signed-By: {key}" in host.file(sources).content_string
    assert "http://127.0.0.1:9/linux/debian/dists/" in host.check_output(
        "apt-get update --print-uris"
    )
    applied(server_name)
    assert not host.file(sources).exists
    assert not host.file(key).exists


def test_build_runs_in_a_slice_of_its_own(host: Host) -> None:
    dockerfile = "FROM bedstone-python:trixie\\nRUN cat /proc/self/cgroup"
    said = host.check_output(
        f"printf '{dockerfile}' | docker build --no-cache --progress=plain"
        " --cgroup-parent bedstone-build.slice - 2>&1"
    )
    assert "/bedstone-build.slice/" in said
    assert host.check_output("systemctl is-active bedstone-build.slice") == "active"
    assert host.check_output("systemctl show -P CPUWeight bedstone-build.slice") == "20"


def test_image_is_built_by_buildkit(host: Host) -> None:
    dockerfile = f"FROM {IMAGE}\\nRUN --mount=type=cache,target=/c echo built > /x\\n"
    host.check_output(f"mkdir -p /tmp/build && printf '{dockerfile}' > /tmp/build/Dockerfile")
    host.check_output("docker build --quiet --tag molecule-built /tmp/build")
    assert host.check_output("docker run --rm molecule-built cat /x") == "built"
    host.check_output("docker image rm molecule-built")


def test_container_runs_and_prints(host: Host) -> None:
    printed = host.check_output(f"docker run --rm --name molecule {IMAGE} python -c 'print(6 * 7)'")
    assert printed == "42"


def test_logs_have_a_limit(host: Host, wait_until: Callable[..., None]) -> None:
    host.check_output(f"{RUN} python -c \"[print(n, 'x' * 1000) for n in range(6000)]\"")
    host.check_output("docker wait molecule")
    last = "docker logs --tail 1 molecule"
    wait_until(lambda: host.check_output(last).startswith("5999 "), what="the last line is kept")
    config = inspect(host, "HostConfig")["LogConfig"]
    assert config == {"Type": "local", "Config": {"max-size": "1m", "max-file": "2"}}
    directory = f"/var/lib/docker/containers/{inspect(host, 'Id')}/local-logs"
    kilobytes = int(host.check_output(f"du -sk {directory}").split()[0])
    assert 0 < kilobytes < 2500  # 6 MB were printed


def test_bridge_has_the_declared_address(host: Host) -> None:
    assert "172.17.0.1" in host.interface("docker0").addresses


def test_container_reaches_the_host_at_the_bridge(host: Host) -> None:
    reached = host.check_output(
        f"docker run --rm --name molecule {IMAGE} python -c "
        "\"import socket; print(socket.create_connection(('172.17.0.1', 22), 5).recv(4).decode())\""
    )
    assert reached == "SSH-"


def test_networks_come_from_the_pool(host: Host) -> None:
    host.run("docker network rm molecule-a molecule-b")
    subnets = []
    for name in ("molecule-a", "molecule-b"):
        host.check_output(f"docker network create {name}")
        network = json.loads(host.check_output(f"docker network inspect {name}"))[0]
        subnets.append(ipaddress.ip_network(network["IPAM"]["Config"][0]["Subnet"]))
    host.check_output("docker network rm molecule-a molecule-b")
    pool = ipaddress.ip_network("172.20.0.0/14")
    assert all(subnet.prefixlen == 24 and subnet.subnet_of(pool) for subnet in subnets)
    assert subnets[0] != subnets[1]


def test_nobody_is_in_the_group_that_is_root(host: Host) -> None:
    assert host.group("docker").members == []


def test_socket_is_closed_to_others(host: Host) -> None:
    refusal = host.run("setpriv --reuid=nobody --clear-groups docker ps")
    assert refusal.rc != 0
    assert "permission denied" in refusal.stderr


def test_sockets_and_settings_are_roots(host: Host) -> None:
    socket = host.file("/run/docker.sock")
    assert (socket.user, socket.group, socket.mode) == ("root", "docker", 0o660)
    socket = host.file("/run/containerd/containerd.sock")
    assert (socket.user, socket.group, socket.mode) == ("root", "root", 0o660)
    for path in ("/etc/docker/daemon.json", "/usr/lib/systemd/system/docker.service"):
        file = host.file(path)
        assert (file.user, file.mode & 0o022) == ("root", 0), path
    directory = host.file("/var/lib/docker")
    assert (directory.user, directory.mode & 0o007) == ("root", 0)


def test_container_is_filtered_and_gains_no_rights(host: Host) -> None:
    """One that is started by hand: Bedstone asks for more than this."""
    status = host.check_output(f"docker run --rm --name molecule {IMAGE} cat /proc/self/status")
    fields = dict(line.split(":", 1) for line in status.splitlines())
    assert fields["NoNewPrivs"].strip() == "1"
    assert fields["Seccomp"].strip() == "2"


def test_daemon_trusts_no_registry_without_tls(host: Host) -> None:
    info = json.loads(host.check_output("docker info --format '{{json .}}'"))
    assert set(info["RegistryConfig"]["InsecureRegistryCIDRs"]) <= {"::1/128", "127.0.0.0/8"}
    secure = [each["Secure"] for each in info["RegistryConfig"]["IndexConfigs"].values()]
    assert secure
    assert all(secure)
    assert info["Swarm"]["LocalNodeState"] == "inactive"
    assert info["LiveRestoreEnabled"]


def test_daemon_listens_on_no_port(host: Host) -> None:
    listening = host.check_output("ss --listening --tcp --numeric --processes")
    assert "dockerd" not in listening


WIDE = "/etc/systemd/network/80-wide.network"


def test_networkd_leaves_containers_in_their_bridge(
    host: Host, wait_until: Callable[..., None]
) -> None:
    """With a file that matches all but the server's own interface, as `Type=ether` does."""
    host.check_output(f"printf '[Match]\\nName=veth* docker0\\n[Network]\\nDHCP=yes\\n' > {WIDE}")
    networkd = "systemd-networkd.service systemd-networkd.socket"
    host.check_output("systemctl start systemd-networkd.service")
    try:
        host.check_output(f"{RUN} sleep 300")

        def interface() -> list[str]:
            shown = host.check_output("networkctl --json=short list")
            found = json.loads(shown)["Interfaces"]
            return [i["AdministrativeState"] for i in found if i["Name"].startswith("veth")]

        wait_until(lambda: interface() not in ([], ["pending"]), what="networkd has seen it")
        assert interface() == ["unmanaged"]
        assert "master docker0" in host.check_output("ip -o link show type veth")
    finally:
        host.check_output(f"rm {WIDE}; systemctl stop {networkd}")
