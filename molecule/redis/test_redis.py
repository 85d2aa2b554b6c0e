"""Instances keep, evict and refuse as declared, and let no one in without a password."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import again
import pytest
from testinfra.host import Host

UNITS = ["redis-shop-cache.service", "redis-shop-store.service"]
PASSWORDS = {"cache": "cache-of-shop-0123456789", "store": "store-of-shop-0123456789"}
PORTS = {"cache": 16400, "store": 16401}
OTHER = "another-of-shop-0123456789"
WaitUntil = Callable[..., None]


@dataclass(frozen=True)
class Instance:
    """An instance, as the app reaches it."""

    host: Host
    kind: str
    password: str = ""
    user: str = "app"
    options: str = ""

    def run(self, *command: str) -> str:
        """Return the answer to a command, the error included."""
        login = f"--user {self.user}" if self.user else ""
        done = self.host.run(
            f"REDISCLI_AUTH={self.password or PASSWORDS[self.kind]} valkey-cli {self.options}"
            f" -p {PORTS[self.kind]} {login} {shlex.join(command)}"
        )
        return str(done.stdout + done.stderr).strip()


@pytest.fixture
def cache(host: Host) -> Instance:
    return Instance(host, "cache")


@pytest.fixture
def store(host: Host) -> Instance:
    return Instance(host, "store")


def answers(instance: Instance) -> bool:
    return instance.run("PING") == "PONG"


def main_pid(host: Host, kind: str) -> str:
    return host.check_output(f"systemctl show --value -p MainPID redis-shop-{kind}.service").strip()


def test_only_the_app_with_its_password_gets_in(cache: Instance, host: Host) -> None:
    assert cache.run("PING") == "PONG"
    assert "NOAUTH" in Instance(host, "cache", user="").run("PING") or "WRONGPASS" in Instance(
        host, "cache", user=""
    ).run("PING")
    assert "WRONGPASS" in Instance(host, "cache", PASSWORDS["store"]).run("PING")
    assert "NOAUTH" in host.run("valkey-cli -p 16400 PING").stdout


@pytest.mark.parametrize(
    "command",
    ["SHUTDOWN", "CONFIG SET maxmemory 0", "ACL LIST", "REPLICAOF 192.0.2.1 6379", "DEBUG SLEEP 0",
     "MODULE LOAD /tmp/x.so", "SAVE"],
)  # fmt: skip
def test_app_does_not_manage_the_server(cache: Instance, command: str) -> None:
    answer = cache.run(*command.split())
    assert "NOPERM" in answer or "not allowed" in answer
    assert cache.run("PING") == "PONG"


def test_libraries_may_ask_what_they_ask(store: Instance) -> None:
    assert "maxmemory_policy:noeviction" in store.run("INFO", "memory")
    assert "noeviction" in store.run("CONFIG", "GET", "maxmemory-policy")
    assert "user=app" in store.run("CLIENT", "LIST")
    assert store.run("EVAL", "return 1", "0") == "1"
    assert store.run("FLUSHALL") == "OK"


def test_nothing_listens_but_the_instances(host: Host, peer: Host, address: str) -> None:
    listening = host.check_output("ss -Hltn")
    assert ":6379 " not in listening
    assert "127.0.0.1:16400" in listening
    assert f"{address}:16400" not in listening
    assert host.file("/etc/systemd/system/valkey-server.service").linked_to == "/dev/null"
    assert peer.run(f"timeout 3 bash -c '</dev/tcp/{address}/16400'").rc != 0


def test_passwords_are_on_no_disk_and_in_no_list_of_processes(host: Host) -> None:
    for password in PASSWORDS.values():
        found = host.run(f"grep -rl {password} /etc /var/lib/valkey /run/systemd /usr/local")
        assert found.stdout == ""
        assert password not in host.check_output("ps axeww -o args= | grep -v 'bash\\|sh -c'")
    for path in ("shop-cache.conf", "shop-cache.acl"):
        assert host.file(f"/etc/bedstone/redis/{path}").mode == 0o640
    assert host.file("/etc/bedstone/redis/admin.password").mode == 0o600


def test_cache_evicts_and_store_refuses(cache: Instance, store: Instance) -> None:
    """16 MiB are written twice over."""
    fill = (
        "for i = 1, 320 do redis.call('SET', 'fill:' .. i, string.rep('x', 100000)) end return 'ok'"
    )
    # One script passes its limit only at its end: several.
    for number in range(2):
        cache.run("EVAL", fill.replace("fill:", f"fill{number}:"), "0")
    assert int(cache.run("DBSIZE")) < 320
    assert cache.run("SET", "last", "1") == "OK"
    refused = [store.run("SETRANGE", f"fill:{number}", "999999", "x") for number in range(24)]
    assert "OOM" in refused[-1]
    assert "OOM" not in refused[0]
    assert store.run("FLUSHALL") == "OK"
    assert cache.run("FLUSHALL") == "OK"


def test_store_survives_a_crash_and_cache_starts_empty(
    host: Host, cache: Instance, store: Instance, wait_until: WaitUntil
) -> None:
    for instance in (cache, store):
        assert instance.run("SET", "kept", "yes") == "OK"
        # The log is synced each second; this waits for it.
        instance.run("WAITAOF", "1" if instance.kind == "store" else "0", "0", "5000")
        pid = main_pid(host, instance.kind)
        host.check_output(f"kill -9 {pid}")
        wait_until(partial(answers, instance), seconds=60, what="it answers again")
    assert store.run("GET", "kept") == "yes"
    assert cache.run("GET", "kept") == ""


def test_another_password_counts_without_a_restart(
    host: Host, store: Instance, variables: dict[str, Any], declared: Callable[..., Any]
) -> None:
    """The previous one counts as well until it is forgotten: running containers have it."""

    def instances(**changes: str) -> list[dict[str, Any]]:
        return [
            {**each, **changes} if each["name"] == "shop-store" else each
            for each in variables["redis_instances"]
        ]

    before = main_pid(host, "store")
    declared(redis_instances=instances(password=OTHER, previous_password=PASSWORDS["store"]))
    assert store.run("PING") == "PONG"
    assert Instance(host, "store", OTHER).run("PING") == "PONG"
    declared(redis_instances=instances(password=OTHER))
    assert "WRONGPASS" in store.run("PING")
    assert Instance(host, "store", OTHER).run("PING") == "PONG"
    assert main_pid(host, "store") == before


def test_instance_that_is_no_longer_declared_stops_and_keeps_its_data(
    host: Host, store: Instance, variables: dict[str, Any], declared: Callable[..., Any]
) -> None:
    assert store.run("SET", "left", "1") == "OK"
    declared(redis_instances=variables["redis_instances"][:1])
    assert not host.service("redis-shop-store.service").is_running
    assert not host.file("/etc/systemd/system/redis-shop-store.service").exists
    assert host.file("/var/lib/valkey/shop-store/appendonlydir").is_directory


def test_tls_is_verified_and_plain_text_refused(host: Host, declared: Callable[..., Any]) -> None:
    declared(redis_tls=True)
    encrypted = Instance(
        host, "cache", options="--tls --cacert /etc/bedstone/tls/ca.crt --sni redis"
    )
    assert encrypted.run("PING") == "PONG"
    stranger = Instance(host, "cache", options="--tls --cacert /etc/ssl/certs/ca-certificates.crt")
    assert "certificate verify failed" in stranger.run("PING")
    assert Instance(host, "cache").run("PING") != "PONG"
    # As after a renewal: the new certificate counts without a restart.
    pid = main_pid(host, "cache")
    host.check_output(
        "cd /etc/bedstone/tls && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256"
        " -nodes -days 2 -subj /CN=renewed -addext subjectAltName=DNS:redis -keyout redis.key"
        " -out redis.crt 2>/dev/null && cp redis.crt ca.crt && systemctl reload redis-shop-cache"
    )
    shown = host.check_output(
        "openssl s_client -connect 127.0.0.1:16400 </dev/null 2>/dev/null | openssl x509 -subject"
    )
    assert "renewed" in shown
    assert main_pid(host, "cache") == pid


def test_bad_arguments_are_refused(server_name: str, variables: dict[str, Any]) -> None:
    first = variables["redis_instances"][0]
    twice = [first, {**first, "name": "other"}]
    assert "are both 16400" in again.refused(server_name, redis_instances=twice)
    short = [{**first, "password": "short"}]
    assert "16 characters" in again.refused(server_name, redis_instances=short)


def test_other_program_does_not_start_empty(host: Host, server_name: str) -> None:
    message = again.refused(server_name, redis_server="redis")
    assert "can't read" in message
    assert host.service("redis-shop-store.service").is_running


def test_redis_serves_alike(
    host: Host, variables: dict[str, Any], declared: Callable[..., Any]
) -> None:
    other = [{**each, "name": f"own-{each['name']}"} for each in variables["redis_instances"]]
    declared(redis_server="redis", redis_instances=other)
    answer = Instance(host, "store").run("INFO", "server")
    assert "redis_version:8" in answer
    assert host.file("/etc/systemd/system/redis-server.service").linked_to == "/dev/null"
    assert "valkey" not in host.check_output("ps axww -o args=")
