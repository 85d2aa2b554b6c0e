"""The broker lets in who is declared, keeps messages, and listens nowhere else."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from typing import Any

import again
import pytest
from testinfra.host import Host

UNITS = ["rabbitmq-server.service", "epmd.service"]
SHOP = ("shop-0001", "password-of-shop-0123456789", "/shop")
KORE = ("kore-0001", "password-of-kore-0123456789", "kore")
NEXT = ("shop-0002", "another-of-shop-0123456789", "/shop")
WaitUntil = Callable[..., None]

# Publishes, or takes, one message of a durable queue, with the client that Celery uses.
CLIENT = """
import sys, time, amqp
user, password, vhost, action, body = sys.argv[1:6]
ssl = {"ca_certs": "/etc/bedstone/tls/ca.crt"} if "tls" in sys.argv else False
host = "rabbitmq:5671" if ssl else "127.0.0.1:5672"
with amqp.Connection(
    host, user, password, virtual_host=vhost, ssl=ssl, confirm_publish=True, connect_timeout=20
) as connection:
    channel = connection.channel()
    channel.queue_declare("tasks", durable=True, auto_delete=False)
    if action == "send":
        channel.basic_publish(amqp.Message(body, delivery_mode=2), routing_key="tasks")
    elif action == "stay":
        print("connected", flush=True)
        time.sleep(float(body))
    else:
        message = channel.basic_get("tasks", no_ack=True)
        print(message.body if message else "empty")
"""


@pytest.fixture(scope="module")
def client_file(host: Host) -> str:
    host.check_output("mkdir -p /opt/client && grep -q ' rabbitmq$' /etc/hosts || echo"
                      " \"$(hostname -I | cut -d' ' -f1) rabbitmq\" >> /etc/hosts")  # fmt: skip
    host.run(f"cat > /opt/client/client.py <<'END'\n{CLIENT}\nEND")
    return "/opt/client/client.py"


@pytest.fixture
def run(host: Host, client_file: str) -> Callable[..., str]:
    """Act as an app and return the answer, the last line of an error included."""

    def act(login: tuple[str, str, str], action: str, body: str = "x", *more: str) -> str:
        done = host.run(shlex.join(["python3", client_file, *login, action, body, *more]))
        return str(done.stdout + done.stderr.strip().rpartition("\n")[2]).strip()

    return act


def users(host: Host) -> set[str]:
    found = json.loads(host.check_output("rabbitmqctl -q list_users --formatter json"))
    return {row["user"] for row in found}


def as_users(*logins: tuple[str, str, str]) -> list[dict[str, str]]:
    return [dict(zip(("name", "password", "vhost"), login, strict=True)) for login in logins]


def test_app_sends_and_takes_messages(run: Callable[..., str]) -> None:
    assert run(SHOP, "send", "hello") == ""
    assert run(SHOP, "take") == "hello"
    assert run(SHOP, "take") == "empty"


def test_strangers_do_not_get_in(run: Callable[..., str]) -> None:
    assert "ACCESS_REFUSED" in run(("guest", "guest", "/"), "take")
    assert "ACCESS_REFUSED" in run((SHOP[0], "wrong", SHOP[2]), "take")
    # Another app's virtual host: its messages, its queues, its names.
    assert "NOT_ALLOWED" in run((*SHOP[:2], KORE[2]), "take")
    assert "NOT_ALLOWED" in run((*SHOP[:2], "/"), "take") or "not found" in run(
        (*SHOP[:2], "/"), "take"
    )


def test_only_declared_users_exist(host: Host) -> None:
    assert users(host) == {"shop-0001", "kore-0001"}


def test_it_listens_where_declared_and_nowhere_else(host: Host, address: str) -> None:
    listening = {line.split()[3] for line in host.check_output("ss -Hltn").splitlines()}
    own = {each for each in listening if each.rsplit(":")[-1] in {"5672", "5671", "4369", "25672"}}
    assert own == {
        "127.0.0.1:5672", f"{address}:5671", "127.0.0.1:4369", "127.0.0.1:25672",
    }  # fmt: skip
    assert not any(each.endswith(":15672") for each in listening)


def test_other_hosts_get_tls_alone(run: Callable[..., str], peer: Host, address: str) -> None:
    assert run(SHOP, "send", "encrypted", "tls") == ""
    assert run(SHOP, "take") == "encrypted"
    assert peer.run(f"timeout 3 bash -c '</dev/tcp/{address}/5672'").rc != 0
    old = peer.run(f"openssl s_client -tls1_1 -connect {address}:5671 </dev/null 2>&1")
    assert "alert" in old.stdout or "no protocols" in old.stdout
    assert old.rc != 0


def test_passwords_are_on_no_disk(host: Host) -> None:
    for _name, password, _vhost in (SHOP, KORE):
        found = host.run(f"grep -rl {password} /etc /var/lib/rabbitmq /var/log /usr/local")
        assert found.stdout == ""
    assert host.file("/etc/rabbitmq/definitions.json").mode == 0o640
    assert host.file("/var/lib/rabbitmq/.erlang.cookie").mode == 0o400


def test_limits_are_those_declared(host: Host) -> None:
    shown = host.check_output(
        "rabbitmqctl -q eval '{application:get_env(rabbit, consumer_timeout),"
        " vm_memory_monitor:get_memory_limit(), rabbit_disk_monitor:get_disk_free_limit()}.'"
    )
    assert f"{{ok,{60 * 60 * 1000}}}" in shown
    assert str(256 * 1024 * 1024) in shown


def test_messages_survive_a_crash(
    host: Host, run: Callable[..., str], wait_until: WaitUntil
) -> None:
    assert run(SHOP, "send", "kept") == ""
    pid = host.check_output("systemctl show --value -p MainPID rabbitmq-server").strip()
    host.check_output(f"kill -9 {pid}")
    taken: list[str] = []

    def is_taken() -> bool:
        taken.append(run(SHOP, "take"))
        return taken[-1] in {"kept", "empty"}

    wait_until(is_taken, seconds=120, what="the broker answers again")
    assert taken[-1] == "kept"


def test_previous_user_goes_on_until_no_connection_uses_it(
    host: Host,
    run: Callable[..., str],
    client_file: str,
    declared: Callable[..., Any],
    wait_until: WaitUntil,
) -> None:
    """As when the password was changed: the app's next release logs in with the next user."""
    command = shlex.join(["python3", client_file, *SHOP, "stay", "600"])
    host.check_output(f"systemd-run --quiet --unit=previous {command}")
    connections = "rabbitmqctl -q list_connections user"
    wait_until(
        lambda: SHOP[0] in host.check_output(connections), seconds=60, what="it is connected"
    )
    pid = host.check_output("systemctl show --value -p MainPID rabbitmq-server")

    declared(rabbitmq_users=as_users(NEXT, KORE))
    assert users(host) == {"shop-0001", "shop-0002", "kore-0001"}
    assert run(NEXT, "send", "from the next") == ""
    # A container of the release before reconnects, too.
    assert run(SHOP, "take") == "from the next"
    assert host.check_output("systemctl show --value -p MainPID rabbitmq-server") == pid

    host.check_output("systemctl stop previous")
    wait_until(lambda: SHOP[0] not in host.check_output(connections), seconds=60, what="it is gone")
    declared(rabbitmq_users=as_users(NEXT, KORE))
    assert users(host) == {"shop-0002", "kore-0001"}
    assert "ACCESS_REFUSED" in run(SHOP, "take")


def test_bad_users_are_refused(server_name: str) -> None:
    short = as_users(("shop", "short", "/shop"))
    assert "16 characters" in again.refused(server_name, rabbitmq_users=short)
    assert "twice" in again.refused(server_name, rabbitmq_users=as_users(SHOP, SHOP))


def test_absent_stops_it_and_keeps_messages(
    host: Host, run: Callable[..., str], declared: Callable[..., Any]
) -> None:
    assert run(SHOP, "send", "left") == ""
    declared(rabbitmq_state="absent")
    assert not host.service("rabbitmq-server").is_running
    assert not host.service("rabbitmq-server").is_enabled
    assert not host.file("/etc/rabbitmq/definitions.json").exists
    declared()
    assert run(SHOP, "take") == "left"
