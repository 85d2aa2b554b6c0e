import json
import subprocess
from dataclasses import asdict

import pytest
import yaml

from testbed.cli import inventory, main
from testbed.errors import TestbedError
from testbed.host import Host
from testbed.paths import ROOT
from testbed.servers import Server, Spec, free_address, hint, run_arguments, ssh_config

HOST = Host(cgroup="v2", runtime=None, limits={})
SERVER = Server(
    name="web-1",
    suite="trixie",
    group="shop",
    address="10.0.0.10",
    user="root",
    aliases=("pay.example.com",),
    publish=(),
    member_of=("proxy", "app"),
    container="0123456789abcdef",
    host_key="ssh-ed25519 AAAA",
)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "Web"},
        {"name": "-web"},
        {"name": "web", "group": "a b"},
        {"name": "web", "suite": "jessie"},
        {"name": "web", "aliases": ("UPPER.example.com",)},
        {"name": "web", "publish": ("8443",)},
        {"name": "web", "publish": ("0:443",)},
        {"name": "web", "publish": ("0.0.0.0:8443:443",)},
        {"name": "web", "user": "alice"},
    ],
)
def test_wrong_specs_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(TestbedError):
        Spec(**wrong).check()  # type: ignore[arg-type]


def test_spec_survives_its_label() -> None:
    spec = Spec("web", aliases=("a.example.com",), publish=("8443:443",), member_of=("app",))
    assert Spec.from_json(json.dumps(asdict(spec))) == spec


def test_labels_of_an_older_testbed_are_read() -> None:
    assert Spec.from_json('{"name": "web", "suite": "testing"}') == Spec("web", suite="testing")


def test_servers_are_not_privileged_and_publish_on_the_loopback_alone() -> None:
    arguments = run_arguments(Spec("web", publish=("8443:443",)), "image", "10.0.0.10", HOST)
    assert "--privileged" not in arguments
    assert "--cap-drop=SYS_TIME,SYS_MODULE" in arguments
    assert "--publish=127.0.0.1:8443:443" in arguments
    assert f"--label=bedstone.testbed.root={ROOT}" in arguments


def test_runtime_and_limits_are_stated_only_where_the_machine_needs_them() -> None:
    limited = Host(cgroup="hybrid", runtime="/usr/sbin/runc", limits={"nofile": 20000})
    arguments = run_arguments(Spec("web"), "image", "10.0.0.10", limited)
    assert arguments[:2] == ["--runtime", "/usr/sbin/runc"]
    assert "--ulimit=nofile=20000:20000" in arguments
    plain = run_arguments(Spec("web"), "image", "10.0.0.10", HOST)
    assert "--runtime" not in plain
    assert not [argument for argument in plain if argument.startswith("--ulimit")]


def test_addresses_are_the_lowest_free_ones() -> None:
    assert free_address("10.0.0.0/24", []) == "10.0.0.10"
    assert free_address("10.0.0.0/24", ["10.0.0.10", "10.0.0.12"]) == "10.0.0.11"
    with pytest.raises(TestbedError, match="No address is left"):
        free_address("10.0.0.0/28", [f"10.0.0.{number}" for number in range(16)])


def test_inventory_is_what_ansible_reads() -> None:
    loaded = yaml.safe_load(inventory([SERVER]))["all"]
    assert loaded["hosts"]["web-1"]["ansible_host"] == "10.0.0.10"
    assert loaded["children"] == {
        "proxy": {"hosts": {"web-1": {}}},
        "app": {"hosts": {"web-1": {}}},
    }


def test_ssh_believes_only_the_servers_own_key() -> None:
    text = ssh_config(SERVER)
    assert "StrictHostKeyChecking yes" in text
    assert "HostKeyAlias web-1" in text


def test_connection_socket_is_new_with_every_boot() -> None:
    assert SERVER.control_path.endswith("testbed-0123456789ab")


def test_taken_port_has_a_hint() -> None:
    said = subprocess.CompletedProcess([], 126, "", "listen tcp4: bind: address already in use")
    assert "port is taken" in str(hint(said))
    assert hint(subprocess.CompletedProcess([], 126, "", "other")) is None


def test_command_line_refuses_what_it_can_not_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["up", "a", "b", "--alias", "x.example.com"]) == 1
    assert "one server at a time" in capsys.readouterr().err
    assert main(["ssh", "there-is-no-such-server"]) == 1
    assert "python3 -m testbed up" in capsys.readouterr().err
