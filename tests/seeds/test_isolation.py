"""Two teams' apps on one server: neither reaches anything of the other from its containers.

Each probe goes to something of the attacker's own as well, where it succeeds: a probe that can't
succeed would show nothing.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from bedstone_control.roles import redis
from testbed.shell import run
from tests.seeds import intruder
from tests.seeds.conftest import System, waited_for

pytestmark = [
    pytest.mark.parametrize("system", ["piggy-bank-and-coffee"], indirect=True),
    pytest.mark.parametrize("attacker", ["octoco", "coffee-payments"]),
]

SOURCE = Path(intruder.__file__).read_text()
WEB_PORT = 8000
PORTS = (22, 80, 443, 5432, 6379, WEB_PORT)
# The address of docker0, which containers know as `postgres` and `redis`.
BRIDGE = "172.17.0.1"
STORES = {"octoco": ("cache", "store"), "coffee-payments": ("store",)}
# Of secrets, by the names of their variables.
SECRET_WORDS = ("KEY", "PASSWORD", "SECRET", "TOKEN", "URL", "DSN")
ABSENT = "No such file or directory"


@dataclass(frozen=True)
class Facts:
    """What the server knows of an app, and an attacker may know.

    Attributes:
        addresses: of its containers, by their names.
        gateway: the server's address in its network.
        login: its name in PostgreSQL.
        secrets: those in the environment of its web server, by variable.

    """

    app: str
    addresses: dict[str, str]
    gateway: str
    login: str
    secrets: dict[str, str]

    @property
    def database(self) -> str:
        """Return the name of its database."""
        return self.app.replace("-", "_")


def victim_of(attacker: str) -> str:
    """Return the other app."""
    (other,) = STORES.keys() - {attacker}
    return other


def facts(system: System, app: str) -> Facts:
    """Ask the server's Docker about an app."""
    ids = f"docker ps --quiet --filter label=bedstone.app={app}"
    told = json.loads(system.on_server(f"docker inspect $({ids})"))
    attached = {
        each["Name"].lstrip("/"): next(iter(each["NetworkSettings"]["Networks"].values()))
        for each in told
    }
    (gateway,) = {network["Gateway"] for network in attached.values()}
    web = next(each for each in told if "-web-" in each["Name"])
    environment = dict(entry.split("=", 1) for entry in web["Config"]["Env"])
    return Facts(
        app,
        {name: network["IPAddress"] for name, network in attached.items()},
        gateway,
        environment.get("DB_USER") or str(urlsplit(environment["DATABASE_URL"]).username),
        {
            name: value
            for name, value in environment.items()
            if any(word in name for word in SECRET_WORDS) and value.strip()
        },
    )


@pytest.fixture(scope="module")
def apps(system: System) -> dict[str, Facts]:
    """What the server knows of both apps."""
    return {app: facts(system, app) for app in STORES}


def inside(system: System, app: str, *probes: tuple[str, dict[str, Any]], verb: str = "") -> Any:
    """Run probes of the intruder in an app's web server, or by `bedstone run`; return the results.

    Of one probe its result alone.
    """
    where = ["run", app] if verb == "run" else ["exec", app, "web"]
    command = shlex.join(["bedstone", *where, "--", "python", "-c", SOURCE])
    ended = run(system.server.ssh(command), input_text=json.dumps(probes), timeout_seconds=300)
    results = json.loads(ended.stdout)
    return results if len(probes) > 1 else results[0]


# --- Network ---


def test_containers_of_the_other_do_not_answer(
    system: System, apps: dict[str, Facts], attacker: str
) -> None:
    own, other = apps[attacker], apps[victim_of(attacker)]
    assert other.addresses.keys() & own.addresses.keys() == set()
    theirs = [(address, port) for address in other.addresses.values() for port in PORTS]
    ours = [(address, port) for address in own.addresses.values() for port in PORTS]
    reached, control = inside(
        system, attacker, ("connect", {"targets": theirs}), ("connect", {"targets": ours})
    )
    assert dict.fromkeys(reached) == {"timed out": None}
    # A packet that arrives is answered, where nothing listens as well.
    answers = dict(zip(ours, control, strict=True))
    for name, address in own.addresses.items():
        expected = "reached" if "-web" in name else "Connection refused"
        assert answers[address, WEB_PORT] == expected
        assert answers[address, 5432] == "Connection refused"


def test_names_of_the_other_are_unknown(
    system: System, apps: dict[str, Facts], attacker: str
) -> None:
    own, other = apps[attacker], apps[victim_of(attacker)]
    # `web` and `worker` are names in both networks.
    theirs, ours, common = inside(
        system,
        attacker,
        ("resolve", {"names": list(other.addresses)}),
        ("resolve", {"names": list(own.addresses)}),
        ("resolve", {"names": ["web", "worker"]}),
    )
    assert not set(theirs) & set(other.addresses.values())
    assert len(set(theirs)) == 1, theirs
    assert ours == list(own.addresses.values())
    assert set(common) <= set(own.addresses.values()), common


def test_server_answers_on_declared_ports_alone(
    system: System, apps: dict[str, Facts], attacker: str
) -> None:
    own, other = apps[attacker], apps[victim_of(attacker)]
    listed = system.on_server("ss --tcp --listening --numeric --no-header").splitlines()
    listens = {int(line.split()[3].rpartition(":")[2]) for line in listed}
    stores = {redis.port(app, kind) for app, kinds in STORES.items() for kind in kinds}
    declared = {80, 443, 5432} | stores
    assert declared | {22} <= listens
    ports = sorted(listens | {2375, 6379, 9100})
    addresses = (own.gateway, other.gateway, BRIDGE, system.server.address)
    targets = [(address, port) for address in addresses for port in ports]
    answers = dict(
        zip(targets, inside(system, attacker, ("connect", {"targets": targets})), strict=True)
    )
    undeclared = {target: said for target, said in answers.items() if target[1] not in declared}
    assert undeclared == dict.fromkeys(undeclared, "timed out")
    assert (BRIDGE, 22) in undeclared
    # The services for apps listen there.
    assert {answers[BRIDGE, port] for port in declared} == {"reached"}, answers


def test_packets_of_the_network_can_not_be_read_or_forged(system: System, attacker: str) -> None:
    assert inside(system, attacker, ("raw_socket", {})) == "Operation not permitted"


# --- Database ---


def test_database_of_the_other_is_closed(
    system: System, apps: dict[str, Facts], attacker: str
) -> None:
    own, other = apps[attacker], apps[victim_of(attacker)]
    one = ["SELECT current_database()"]
    control, theirs, as_them, at_home, superuser = inside(
        system,
        attacker,
        ("database", {"statements": one}),
        ("database", {"statements": one, "dbname": other.database}),
        ("database", {"statements": one, "dbname": other.database, "user": other.login}),
        ("database", {"statements": one, "user": other.login}),
        ("database", {"statements": one, "user": "postgres"}),
    )
    assert control == [own.database]
    for (refused,) in (theirs, at_home, superuser):
        assert "pg_hba.conf rejects connection for host" in refused
    (refused,) = as_them
    # With its password, which is not the other role's, and without that one's certificate.
    assert (
        "requires a valid client certificate" in refused
        if other.app == "coffee-payments"
        else f'password authentication failed for user "{other.login}"' in refused
    )


@contextmanager
def session_of(system: System, app: Facts) -> Iterator[None]:
    """Keep a session of an app's role open, from its own container."""
    wait = "SELECT pg_sleep(300)"
    command = shlex.join(["bedstone", "exec", app.app, "web", "--", "python", "-c", SOURCE])
    probe = json.dumps([("database", {"statements": [wait]})])
    waiting = f"FROM pg_stat_activity WHERE usename = '{app.login}' AND query = '{wait}'"

    def as_superuser(sql: str) -> str:
        return system.on_server(f"runuser -u postgres -- psql -XAtqc {shlex.quote(sql)}").strip()

    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(run, system.server.ssh(command), input_text=probe, timeout_seconds=330)
        try:
            waited_for("its session", lambda: as_superuser(f"SELECT count(*) {waiting}") == "1")
            yield
            assert as_superuser(f"SELECT count(*) {waiting}") == "1"
        finally:
            as_superuser(f"SELECT pg_terminate_backend(pid) {waiting}")
        ended.result()


def test_own_session_opens_no_way_to_the_other(
    system: System, apps: dict[str, Facts], attacker: str
) -> None:
    other = apps[victim_of(attacker)]
    # Not as the role which a session becomes: a login can go back to itself.
    as_login = "-c role=none"
    sessions = f"FROM pg_stat_activity WHERE usename = '{other.login}' LIMIT 1"
    attempts = {
        f"SET ROLE {other.database}_app": "permission denied to set role",
        f"SET ROLE {other.database}_migrate": "permission denied to set role",
        "SELECT pg_read_file('/etc/passwd')": "permission denied for function pg_read_file",
        "COPY (SELECT 1) TO PROGRAM 'id'": "permission denied to COPY to or from an external",
        "COPY (SELECT 1) TO '/tmp/copied'": "permission denied to COPY to a file",
        "CREATE EXTENSION dblink": "permission denied to create extension",
        f"SELECT pg_terminate_backend((SELECT pid {sessions}))": (
            "permission denied to terminate process"
        ),
        f"SELECT query {sessions}": "<insufficient privilege>",
    }
    controls = {
        f"SELECT rolname FROM pg_roles WHERE rolname = '{other.login}'": other.login,
        f"SELECT pid {sessions}": "",
        "SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid()": "SELECT query",
        "SELECT pg_terminate_backend(pg_backend_pid())": "57P01",
    }
    with session_of(system, other):
        refused, told = inside(
            system,
            attacker,
            ("database", {"statements": list(attempts), "options": as_login}),
            ("database", {"statements": list(controls), "options": as_login}),
        )
    wrong = [
        (statement, said)
        for (statement, expected), said in zip(attempts.items(), refused, strict=True)
        if expected not in said
    ]
    assert wrong == []
    for expected, said in zip(controls.values(), told, strict=True):
        assert expected in said
    # There was a session of the other to end and to look at.
    assert told[1].isdigit()


# --- Valkey ---


def test_valkey_of_the_other_takes_neither_key_nor_word(system: System, attacker: str) -> None:
    commands = ["PING", "KEYS *", "SET intruder yes", "GET intruder", "FLUSHALL", "ACL LIST"]
    at_home = ["PING", "SET intruder yes EX 60", "GET intruder", "ACL LIST"]
    victim = victim_of(attacker)
    control, *refused = inside(
        system,
        attacker,
        ("valkey", {"port": None, "login": "own", "commands": at_home}),
        *(
            ("valkey", {"port": redis.port(victim, kind), "login": login, "commands": commands})
            for kind in STORES[victim]
            for login in ("own", "none")
        ),
    )
    assert control[:3] == ["True", "True", "yes"]
    assert "no permissions to run the 'acl|list' command" in control[3]
    for with_own, without in zip(refused[::2], refused[1::2], strict=True):
        assert set(with_own) == {
            "AuthenticationError: invalid username-password pair or user is disabled."
        }
        assert set(without) == {"AuthenticationError: Authentication required."}


# --- Files and secrets ---


@pytest.mark.parametrize("verb", ["exec", "run"])
def test_files_of_the_other_and_of_the_server_are_not_there(
    system: System, attacker: str, verb: str
) -> None:
    victim = victim_of(attacker)
    paths = [
        "/srv/bedstone",
        f"/srv/bedstone/{victim}",
        f"/etc/bedstone/apps/{victim}/app.env",
        "/etc/bedstone/tls",
        "/etc/bedstone/redis",
        "/var/lib/bedstone",
        "/var/backups/bedstone",
        "/var/lib/docker",
        "/var/run/docker.sock",
        f"/run/redis-{victim}-store",
        "/var/lib/postgresql",
    ]
    there = "for path in $PATHS; do test -e $path || echo $path; done"
    assert system.on_server(f"PATHS={shlex.quote(' '.join(paths))}; {there}") == ""
    own = ["/app/manage.py", "/run/bedstone/ca.crt", "/app"]
    control, found, mounted = inside(
        system,
        attacker,
        ("look", {"paths": own}),
        ("look", {"paths": paths}),
        ("mounts", {}),
        verb=verb,
    )
    assert control == ["file", "file", "directory"]
    assert dict(zip(paths, found, strict=True)) == dict.fromkeys(paths, ABSENT)
    assert victim not in mounted
    assert "/run/bedstone/ca.crt" in mounted


def test_secrets_of_the_other_are_nowhere(
    system: System, apps: dict[str, Facts], attacker: str
) -> None:
    other = apps[victim_of(attacker)]
    secrets = list(other.secrets.values())
    assert len(secrets) >= 5
    assert inside(system, attacker, ("search", {"texts": secrets})) == [[] for _ in secrets]
    control = inside(system, other.app, ("search", {"texts": secrets}))
    assert [name for name, found in zip(other.secrets, control, strict=True) if not found] == []


def test_processes_of_the_other_are_not_in_sight(system: System, attacker: str) -> None:
    theirs = {"octoco": "-A octoco worker", "coffee-payments": "-A coffee_payment worker"}
    web = {"octoco": "octoco.wsgi", "coffee-payments": "coffee_payment.wsgi"}
    victim = victim_of(attacker)
    seen = "\n".join(inside(system, attacker, ("processes", {})))
    assert web[attacker] in seen
    assert web[victim] not in seen
    assert theirs[victim] not in seen
    on_server = system.on_server("ps -eo args")
    assert web[victim] in on_server
    assert theirs[victim] in on_server
