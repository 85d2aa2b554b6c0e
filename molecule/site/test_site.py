"""The whole server: three apps behind one proxy, their data backed up, restored, rebooted."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from html import unescape
from pathlib import Path

import psycopg
import pytest
from testinfra.host import Host

from tests.browser import Browser, log_in

ROOT = Path(__file__).resolve().parents[2]
SCENARIO = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
UNITS = ["bedstone-payments-web@*", "nginx.service", "bedstone-backup.service"]
APPS = {
    "payments": "payments.localhost",
    "guestbook": "guests.localhost",
    "library": "books.example.com",
}
ROOT_OUTSIDE = (SCENARIO / "production/files/authority-root.crt").read_text()
# What a server may answer on to the outside.
PUBLIC_PORTS = {22, 80, 443}


@pytest.fixture(scope="session")
def authority(server: Callable[[str], Host], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The servers' own authority and the one outside, as a client would import them."""
    path = tmp_path_factory.mktemp("authority") / "ca.crt"
    path.write_text(server("trixie").file("/etc/bedstone/tls/ca.crt").content_string + ROOT_OUTSIDE)
    return path


@pytest.fixture
def browse(address: str, authority: Path) -> Callable[[str], Browser]:
    """A function that opens a new browser for an app."""
    return lambda app: Browser(APPS[app], address, authority)


def make_logins(host: Host) -> dict[str, str]:
    """Return the demo users of a server's payments app, with fresh passwords."""
    said = host.check_output("bedstone run payments -- python manage.py demo_data 2>/dev/null")
    return dict(line.split() for line in said.splitlines() if len(line.split()) == 2)


def request_payment(browser: Browser, payee: str) -> str:
    """Ask for a payment; return the path of its page."""
    page = browser.submit(
        "/requests/new/", payee=payee, purpose="Test", amount="12.50", currency="EUR"
    )
    assert page.status == 200, page.text
    assert payee in unescape(page.text)
    return page.url.removeprefix(browser.origin)


@pytest.mark.parametrize("app", APPS)
def test_app_answers_over_verified_tls(browse: Callable[[str], Browser], app: str) -> None:
    assert browse(app).get("/").status == 200


def test_authority_outside_issues_and_renews_the_certificate(
    host: Host, browse: Callable[[str], Browser]
) -> None:
    """By site.yml alone; the first certificate of a server that no one has visited."""
    shown = "openssl s_client -connect 127.0.0.1:443 -servername books.example.com </dev/null"
    shown += " 2>/dev/null | openssl x509 -noout -issuer -serial"
    first = host.check_output(shown)
    assert "Pebble Intermediate" in first
    assert "strict-transport-security" in browse("library").get("/").headers
    host.check_output("bedstone certificates renew library --force")
    renewed = host.check_output(shown)
    assert "Pebble Intermediate" in renewed
    assert renewed != first
    assert browse("library").get("/").status == 200


def test_payment_is_requested_approved_by_somebody_else_and_paid(
    host: Host, browse: Callable[[str], Browser]
) -> None:
    logins = make_logins(host)
    rosa, arthur = browse("payments"), browse("payments")
    log_in(rosa, "rosa", logins["rosa"])
    log_in(arthur, "arthur", logins["arthur"])
    path = request_payment(rosa, "Paper & Sons")
    assert rosa.submit("/requests/new/", f"{path}approve/").status == 403
    assert "Approved" in arthur.submit(path, f"{path}approve/", note="fine").text
    page = arthur.submit(path, f"{path}paid/", note="2026-1")
    assert "Paid by" in page.text
    history = re.findall(r"<strong>(\w+)</strong> by (\w+)", page.text)
    assert sorted(history) == [("Approved", "arthur"), ("Paid", "arthur"), ("Requested", "rosa")]


def test_static_files_come_from_nginx_with_a_long_life(browse: Callable[[str], Browser]) -> None:
    browser = browse("payments")
    link = re.search(r'href="(/static/[^"]+\.css)"', browser.get("/login/").text)
    assert link
    page = browser.get(link[1])
    assert page.status == 200
    assert "immutable" in page.headers["cache-control"]


def test_second_app_keeps_what_is_written(browse: Callable[[str], Browser]) -> None:
    browser = browse("guestbook")
    stamp = re.search(r'name="stamp" value="([^"]+)"', browser.get("/").text)
    assert stamp
    page = browser.send("/", name="Ada", message="Lovely place", stamp=stamp[1])
    assert "Lovely place" in page.text
    assert "Welcome to our guest book" in page.text


def test_unknown_host_is_refused(address: str, authority: Path) -> None:
    with pytest.raises(OSError, match=r"(?i)alert|handshake|unrecognized|reset|eof"):
        Browser("stranger.localhost", address, authority).get("/")


def test_only_ssh_and_the_proxy_listen_to_the_outside(host: Host) -> None:
    listening = host.check_output("ss -Hltn | awk '{print $4}'").split()
    ports = {
        int(where.rpartition(":")[2])
        for where in listening
        if not where.startswith(("127.", "[::1]", "172.17.0.1:"))
    }
    assert ports == PUBLIC_PORTS


def test_outside_reaches_no_other_port_even_when_docker_publishes_one(
    host: Host, address: str
) -> None:
    serve = "python3 -m http.server 80"
    name = "molecule-published"
    host.check_output(
        f"docker run --detach --rm --name {name} --publish 8080:80 bedstone-python:trixie {serve}"
    )
    try:
        host.check_output(
            "timeout 60 bash -c 'until (exec 3<>/dev/tcp/127.0.0.1/8080) 2>&-; do sleep 0.2; done'"
        )
        scan = [sys.executable, ROOT / "molecule/firewall/scan.py", "tcp", address, "1-65535"]
        said = subprocess.run(scan, capture_output=True, text=True, check=True).stdout
    finally:
        host.check_output(f"docker rm --force {name}")
    assert sorted(said.splitlines()) == [f"open {port}" for port in (22, 443, 80)]


def test_rule_added_by_hand_is_an_alarm_and_is_removed(host: Host) -> None:
    host.check_output("nft insert rule inet bedstone input tcp dport 8080 accept")
    said = host.run("bedstone alarms")
    assert said.rc == 1
    assert "the firewall's rules are not the declared ones" in said.stdout
    assert "tcp dport 8080 accept" in said.stdout
    host.check_output("systemctl reload-or-restart bedstone-firewall")
    assert "firewall" not in host.run("bedstone alarms").stdout


def test_no_secret_is_in_a_process_list_or_the_journal(host: Host) -> None:
    secrets = host.check_output(
        "sed -nE 's/^(POSTGRES_PASSWORD|SECRET_KEY|DB_SECRET|APP_KEY)=//p'"
        " /etc/bedstone/apps/*/*.env"
    ).split()
    assert len(secrets) >= 6
    seen = host.check_output("ps -ww -eo args; journalctl --no-pager -o cat")
    assert not [secret for secret in secrets if secret in seen]


def test_apps_can_not_read_each_others_database(host: Host) -> None:
    tried = host.run(
        "bedstone run guestbook -- python -c %s",
        "import os, psycopg; psycopg.connect(os.environ['DB_DSN'].replace("
        "'dbname=guestbook', 'dbname=payments'), password=os.environ['DB_SECRET'])",
    )
    assert tried.rc != 0
    assert re.search(r"pg_hba\.conf rejects|permission denied", tried.stderr + tried.stdout)


def test_app_connects_only_to_what_its_list_has(host: Host, server: Callable[[str], Host]) -> None:
    """`library` has an empty one, `payments` none; both serve, so both reach their databases."""
    outside = server("authority").interface("eth0").addresses[0]
    connect = f"import socket; socket.create_connection(('{outside}', 14000), 5)"
    assert host.run("bedstone run payments -- python -c %s", connect).rc == 0
    refused = host.run("bedstone run library -- python -c %s", connect)
    assert refused.rc != 0
    assert "timed out" in refused.stderr + refused.stdout


def test_database_is_reached_through_a_tunnel(
    host: Host, server_name: str, authority: Path, wait_until: Callable[..., None]
) -> None:
    """By ssh to the server's localhost: with TLS and a password, as everywhere."""
    login = dict(
        line.split("=", 1)
        for line in host.check_output("cat /etc/bedstone/apps/payments/migrate.env").splitlines()
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["-F", str(SCENARIO / "ssh_config"), "-o", "ControlPath=none", "-N"]
    options += ["-o", "ExitOnForwardFailure=yes"]
    tunnel = subprocess.Popen(
        ["ssh", *options, "-L", f"127.0.0.1:{port}:localhost:5432", server_name],
        stdin=subprocess.DEVNULL,
    )

    def is_open() -> bool:
        assert tunnel.poll() is None
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_until(is_open, seconds=60, what="the tunnel is open")
        with psycopg.connect(
            host="localhost",
            port=port,
            dbname="payments",
            user=login["POSTGRES_USER"],
            password=login["POSTGRES_PASSWORD"],
            sslmode="verify-full",
            sslrootcert=str(authority),
        ) as connection:
            found = connection.execute("SELECT current_user, current_database()").fetchone()
        assert found == ("payments_owner", "payments")
    finally:
        tunnel.terminate()
        tunnel.wait()


def test_status_names_every_app(host: Host) -> None:
    shown = json.loads(host.check_output("bedstone status --json"))
    assert {app["app"] for app in shown["apps"]} == set(APPS)


def test_first_release_of_an_app_is_followed_by_its_first_backup(
    host: Host, wait_until: Callable[..., None]
) -> None:
    manifests = "/var/backups/bedstone/%s/backup_*/manifest.json"
    for app in APPS:
        wait_until(
            lambda app=app: host.run(f'grep -l \'"label": "first"\' {manifests % app}').rc == 0,
            seconds=120,
            what=f"the first backup of {app}",
        )


def test_backup_in_a_directory_is_restored_without_the_database(
    host: Host, address: str, authority: Path, wait_until: Callable[..., None]
) -> None:
    # A nightly run would hold what this one needs; the reboot below starts them again.
    host.check_output("systemctl stop 'bedstone-*.timer'")
    rosa = Browser(APPS["payments"], address, authority)
    log_in(rosa, "rosa", make_logins(host)["rosa"])
    number = request_payment(rosa, "Carried Over Ltd").strip("/").rpartition("/")[2]

    host.check_output("systemctl start bedstone-backup.service")
    listed = host.check_output("ls /var/backups/bedstone/payments").split()
    assert [name for name in listed if re.fullmatch(r"backup_\d{8}_\d{6}", name)]
    # The nightly one's uploads are in the server's own repository; this one holds them itself.
    made = json.loads(host.check_output("bedstone backup payments --directory /root/away --json"))
    path = made["backups"][0]["path"]

    host.check_output("runuser -u postgres -- dropdb --force payments")
    host.check_output("bedstone restore payments %s --yes", path)
    found = host.check_output(
        "runuser -u postgres -- psql -At -d payments -c %s",
        f"SELECT payee FROM payments_paymentrequest WHERE id = {int(number)}",
    )
    assert found == "Carried Over Ltd"
    visitor = Browser(APPS["payments"], address, authority)
    wait_until(
        lambda: visitor.get("/health/").status == 200, seconds=180, what="the app is healthy"
    )


def test_everything_serves_again_after_a_reboot(
    server_name: str,
    browse: Callable[[str], Browser],
    wait_until: Callable[..., None],
) -> None:
    subprocess.run(["python3", "-m", "testbed", "restart", server_name], cwd=ROOT, check=True)

    def serves(app: str) -> bool:
        try:
            return browse(app).get("/").status == 200
        except OSError:
            return False

    for app in APPS:
        wait_until(lambda app=app: serves(app), seconds=300, what=f"{app} serves after a reboot")
