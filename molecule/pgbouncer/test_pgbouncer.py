"""Many clients share few connections; each login has its own database; a change drops no one."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from typing import Any

import again
import pytest
from testinfra.host import Host

UNITS = ["bedstone-pool.service", "bedstone-pool.socket", "postgresql@17-main.service"]
PASSWORDS = {
    "shop_app_00000001": "first-of-shop-0123456789",
    "shop_app_00000002": "second-of-shop-0123456789",
    "desk_app_00000001": "first-of-desk-0123456789",
    "alone_app_00000001": "first-of-alone-0123456789",
    "shop_migrate": "migrate-of-shop-0123456789",
}
OLD, NEW = "shop_app_00000001", "shop_app_00000002"
CA = "/etc/bedstone/tls/ca.crt"
BENCH = "/usr/lib/postgresql/17/bin/pgbench"
Ask = Callable[..., str]
WaitUntil = Callable[..., None]


def target(**options: str) -> str:
    """Return libpq's connection string of an app: through the pool, verify-full."""
    values = {
        "host": "pgbouncer",
        "hostaddr": "127.0.0.1",
        "port": "6432",
        "dbname": "shop",
        "user": OLD,
        "sslmode": "verify-full",
        "sslrootcert": CA,
        "connect_timeout": "10",
        **options,
    }
    return " ".join(f"{name}={value}" for name, value in values.items() if value)


@pytest.fixture
def ask(host: Host) -> Ask:
    """A function that runs SQL as an app does and returns the answer, the error included."""

    def run(sql: str, *, password: str = "", **options: str) -> str:
        secret = password or PASSWORDS.get(options.get("user", OLD), "")
        done = host.run(
            f"PGPASSWORD={secret} psql -XAtqw {shlex.quote(target(**options))}"
            f" -c {shlex.quote(sql)}"
        )
        return str(done.stdout + done.stderr).strip()

    return run


@pytest.fixture
def superuser(host: Host) -> Ask:
    """A function that runs SQL as PostgreSQL's superuser, past the pool."""

    def run(sql: str) -> str:
        return str(host.check_output(f"runuser -u postgres -- psql -XAtq -c {shlex.quote(sql)}"))

    return run


@pytest.fixture
def console(host: Host) -> Ask:
    """A function that asks PgBouncer's console, as its own system user may."""

    def run(command: str) -> str:
        return str(
            host.check_output(
                "runuser -u bedstone-pool -- psql -XAtq -h /run/bedstone-pool -p 6432 -U pgbouncer"
                f" pgbouncer -c {shlex.quote(command)}"
            )
        )

    return run


def bench(host: Host, script: str, *options: str, user: str = OLD) -> str:
    """Run pgbench through the pool; it fails when one client of it does."""
    host.check_output(f"printf '%s\\n' {shlex.quote(script)} > /run/bench-{user}.sql")
    return str(
        host.check_output(
            f"PGPASSWORD={PASSWORDS[user]} {BENCH} --no-vacuum --file=/run/bench-{user}.sql"
            f" {' '.join(options)} {shlex.quote(target(user=user))} 2>&1"
        )
    )


class Load:
    """pgbench in the background, until it is stopped; a client that meets an error ends with it."""

    def __init__(self, host: Host, *options: str) -> None:
        host.check_output("echo 'BEGIN; SELECT pg_sleep(0.05); COMMIT;' > /run/load.sql")
        command = (
            f"echo $$ > /run/load.pid; export PGPASSWORD={PASSWORDS[OLD]};"
            f" exec {BENCH} --no-vacuum --file=/run/load.sql --time=600 --progress=1"
            f" {' '.join(options)} {shlex.quote(target())} > /run/load.log 2>&1"
        )
        self.host = host
        host.check_output("rm -f /run/load.pid /run/load.log")
        host.check_output(f"setsid bash -c {shlex.quote(command)} </dev/null >/dev/null 2>&1 &")

    def progress(self) -> int:
        """Return how many seconds it has reported."""
        return int(self.host.run("grep -c '^progress:' /run/load.log").stdout or 0)

    def stop(self) -> str:
        """End it, and return its output without the lines of seconds without an error."""
        self.host.check_output("kill $(cat /run/load.pid)")
        said = self.host.check_output("cat /run/load.log").splitlines()
        usual = re.compile(r"pgbench \(|progress: .* 0 failed$")
        return "\n".join(line for line in said if not usual.match(line))


@pytest.fixture
def load(host: Host, wait_until: WaitUntil) -> Iterator[Callable[..., Load]]:
    """Start clients through the pool, and stop them after the test."""
    started = []

    def start(*options: str) -> Load:
        started.append(Load(host, *options))
        wait_until(lambda: started[0].progress() >= 1, seconds=30, what="clients are served")
        return started[0]

    yield start
    host.run("kill $(cat /run/load.pid)")


def goes_on(load: Load, wait_until: WaitUntil) -> None:
    """Wait until the clients were served for two more seconds."""
    before = load.progress()
    wait_until(lambda: load.progress() >= before + 2, seconds=30, what="clients are served")


def test_200_clients_share_10_connections(host: Host, superuser: Ask) -> None:
    """Each is connected at the same time, and each transaction gets one of ten."""
    script = (
        "BEGIN;\nSELECT pg_sleep(0.005);\n"
        "SELECT count(*) FROM pg_stat_activity WHERE usename = session_user \\gset\n"
        "\\if :count > 10\nSELECT 1/0;\n\\endif\nCOMMIT;"
    )
    said = bench(host, script, "--client=200", "--jobs=2", "--transactions=10")
    assert "number of transactions actually processed: 2000/2000" in said
    assert "number of failed transactions: 0" in said
    most = superuser("SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'shop_app%'")
    assert 1 <= int(most) <= 10


def test_prepared_statements_follow_their_client(host: Host) -> None:
    """A driver prepares once, and each transaction runs on another connection."""
    said = bench(
        host, "SELECT pg_sleep(0.002), :client_id::int;", "--protocol=prepared", "--client=40",
        "--transactions=20",
    )  # fmt: skip
    assert "number of transactions actually processed: 800/800" in said


def test_settings_of_the_role_apply(ask: Ask) -> None:
    assert ask("SHOW statement_timeout") == "7s"
    assert ask("SELECT current_user") == "shop_app"


def test_options_of_a_client_are_refused_not_dropped(ask: Ask) -> None:
    answer = ask("SHOW statement_timeout", options="-cstatement_timeout=1s")
    assert "unsupported startup parameter in options" in answer


def test_wrong_password_is_refused(ask: Ask) -> None:
    assert "SASL authentication failed" in ask("SELECT 1", password="wrong")
    assert "FATAL" in ask("SELECT 1", user="unknown", password="wrong")


def test_plaintext_is_refused(ask: Ask) -> None:
    assert "SSL required" in ask("SELECT 1", sslmode="disable", sslrootcert="")


def test_client_verifies_the_server(ask: Ask) -> None:
    other = "/etc/ssl/certs/ssl-cert-snakeoil.pem"
    assert "certificate verify failed" in ask("SELECT 1", sslrootcert=other)
    assert "does not match host name" in ask("SELECT 1", host="elsewhere")


@pytest.mark.parametrize(
    ("user", "database"),
    [
        ("desk_app_00000001", "shop"),
        ("shop_app_00000001", "desk"),
        ("alone_app_00000001", "alone"),
        ("alone_app_00000001", "shop"),
        ("shop_migrate", "shop"),
        ("shop_app_00000001", "postgres"),
        ("shop_app_00000001", "bedstone_pool"),
        ("bedstone_pool", "bedstone_pool"),
    ],
)
def test_login_reaches_no_other_database(ask: Ask, user: str, database: str) -> None:
    """Also after that login was seen in its own database."""
    assert ask("SELECT 1") == "1"
    answer = ask("SELECT 'in'", user=user, dbname=database, password=PASSWORDS.get(user, "none"))
    assert answer != "in"
    assert "FATAL" in answer


def test_console_is_for_its_own_user_alone(host: Host, ask: Ask, console: Ask) -> None:
    assert "pgbouncer" in console("SHOW DATABASES")
    assert "FATAL" in ask("SHOW POOLS", dbname="pgbouncer")
    assert "FATAL" in ask("SHOW POOLS", dbname="pgbouncer", user="pgbouncer", password="pgbouncer")
    socket = "psql -XAtqw -h /run/bedstone-pool -p 6432 -U pgbouncer pgbouncer -c 'SHOW POOLS'"
    for user in ("root", "postgres", "daemon"):
        assert host.run(f"runuser -u {user} -- {socket}").rc != 0


def test_pool_may_ask_for_verifiers_of_its_apps_alone(host: Host) -> None:
    def verifier(login: str, database: str) -> str:
        query = f"SELECT verifier FROM bedstone_pool.verifier('{login}', '{database}')"
        return str(
            host.check_output(
                "runuser -u bedstone-pool -- psql -XAtq -h /run/postgresql -U bedstone_pool"
                f" postgres -c {shlex.quote(query)}"
            )
        )

    assert verifier(OLD, "shop").startswith("SCRAM-SHA-256$")
    for login, database in (
        (OLD, "desk"), ("shop_migrate", "shop"), ("postgres", "shop"),
        ("alone_app_00000001", "alone"), ("bedstone_pool", "shop"),
    ):  # fmt: skip
        assert verifier(login, database) == ""
    direct = "psql -XAtqw -h /run/postgresql"
    for user, database in (("shop_app", "shop"), ("postgres", "postgres"), (OLD, "shop")):
        refused = host.run(
            f"runuser -u bedstone-pool -- {direct} -U {user} {database} -c 'SELECT 1'"
        )
        assert refused.rc != 0


def test_no_password_is_stored(host: Host) -> None:
    patterns = " ".join(f"-e {password}" for password in PASSWORDS.values())
    assert (
        host.run(f"grep -rl {patterns} /etc /run/systemd /usr/local /var/lib/systemd").stdout == ""
    )
    assert not host.file("/etc/bedstone/pool/userlist.txt").exists
    assert "SCRAM-SHA-256" not in host.file("/etc/bedstone/pool/pgbouncer.ini").content_string


def test_nothing_listens_but_the_pool(host: Host, address: str) -> None:
    listening = host.check_output("ss -Hltn")
    assert "127.0.0.1:6432" in listening
    assert f"{address}:6432" not in listening
    assert host.file("/etc/systemd/system/pgbouncer.service").linked_to == "/dev/null"
    assert host.check_output("systemctl show -P User bedstone-pool.service") == "bedstone-pool"


def test_other_size_and_certificate_are_loaded_and_drop_no_one(
    host: Host, console: Ask, declared: Callable[..., Any], load: Any, wait_until: WaitUntil
) -> None:
    pid = host.check_output("systemctl show -P MainPID bedstone-pool.service")
    clients = load("--client=30")
    declared(pgbouncer_databases=[{"name": "shop", "size": 4}, {"name": "desk", "size": 2}])
    assert "|4|" in console("SHOW DATABASES")
    assert host.check_output("systemctl show -P MainPID bedstone-pool.service") == pid
    host.check_output(
        "cd /etc/bedstone/tls && cp -a pgbouncer.crt pgbouncer.key /run/ && openssl req -x509"
        " -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=renewed"
        " -addext subjectAltName=DNS:pgbouncer -keyout pgbouncer.key -out pgbouncer.crt"
        " 2>/dev/null && systemctl reload bedstone-pool.service"
    )
    try:
        shown = "openssl s_client -starttls postgres -connect 127.0.0.1:6432 </dev/null 2>/dev/null"
        assert "renewed" in host.check_output(f"{shown} | openssl x509 -noout -subject")
        goes_on(clients, wait_until)
        assert clients.stop() == ""
    finally:
        host.check_output(
            "cp -a /run/pgbouncer.crt /run/pgbouncer.key /etc/bedstone/tls/"
            " && systemctl reload bedstone-pool.service"
        )
    assert host.check_output("systemctl show -P MainPID bedstone-pool.service") == pid


def test_restart_lets_transactions_end(
    host: Host, console: Ask, ask: Ask, wait_until: WaitUntil
) -> None:
    """A client without one is disconnected: only an address, a port or a limit takes a restart."""
    host.check_output(
        f"PGPASSWORD={PASSWORDS[OLD]} setsid psql -XAtqw {shlex.quote(target())}"
        " -c \"SELECT pg_sleep(4), 'ended'\" >/run/long.txt 2>&1 </dev/null &"
    )
    wait_until(lambda: f"shop|{OLD}|1|" in console("SHOW POOLS"), seconds=10, what="it is served")
    host.check_output("systemctl restart bedstone-pool.service")
    assert "ended" in host.check_output("cat /run/long.txt")
    wait_until(lambda: ask("SELECT 1") == "1", seconds=10, what="the pool serves again")


def test_pool_outlives_a_restart_of_postgresql(host: Host, ask: Ask, wait_until: WaitUntil) -> None:
    assert ask("SELECT 1") == "1"
    host.check_output("systemctl restart postgresql@17-main.service")
    wait_until(lambda: ask("SELECT 1") == "1", seconds=10, what="the pool answers again")


def test_both_logins_work_while_a_password_is_replaced(superuser: Ask, ask: Ask) -> None:
    superuser(
        f"CREATE ROLE {NEW} LOGIN PASSWORD '{PASSWORDS[NEW]}' IN ROLE shop_app;"
        f" ALTER ROLE {NEW} SET role = shop_app"
    )
    try:
        assert ask("SELECT current_user", user=NEW) == "shop_app"
        assert ask("SELECT current_user", user=OLD) == "shop_app"
        superuser(f"ALTER ROLE {NEW} NOLOGIN")
        assert "FATAL" in ask("SELECT 1", user=NEW)
    finally:
        superuser(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            f" WHERE usename = '{NEW}'; DROP ROLE {NEW}"
        )


def test_clients_that_wait_are_seen(host: Host, console: Ask, wait_until: WaitUntil) -> None:
    for _ in range(3):
        host.check_output(
            f"PGPASSWORD={PASSWORDS['desk_app_00000001']} setsid psql -XAtqw"
            f" {shlex.quote(target(user='desk_app_00000001', dbname='desk'))}"
            " -c 'SELECT pg_sleep(6)' >/dev/null 2>&1 </dev/null &"
        )
    wait_until(
        lambda: "desk|desk_app_00000001|2|1|" in console("SHOW POOLS"),
        seconds=5, what="two are served and one waits",
    )  # fmt: skip


def test_bad_arguments_are_refused(server_name: str) -> None:
    bad = [{"name": "shop'; x", "size": 1}]
    assert "can't be the name" in again.refused(server_name, pgbouncer_databases=bad)
    none = [{"name": "shop", "size": 0}]
    assert "use 1 or more" in again.refused(server_name, pgbouncer_databases=none)


def test_absent_removes_it(host: Host, declared: Callable[..., Any]) -> None:
    declared(pgbouncer_state="absent")
    assert ":6432" not in host.check_output("ss -Hltn")
    assert not host.file("/etc/systemd/system/bedstone-pool.service").exists
    assert not host.file("/etc/bedstone/pool/pgbouncer.ini").exists
