"""SRQ HPN as its document describes it, then with a second team's system on the same server."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import yaml
from psycopg.conninfo import conninfo_to_dict

from testbed.paths import ROOT
from testbed.shell import run
from tests.seeds.conftest import System
from tests.seeds.visitors import Seen, Visit, ask, visitors

pytestmark = pytest.mark.parametrize("system", ["srq-hpn"], indirect=True)

APP, DOMAIN = "srq-hpn", "hpn.example.com"
OTHER, OTHER_DOMAIN, OTHER_HEALTH = "kore", "kore.example.com", "/api/v1/health/"
SOURCE = ROOT / "tests/apps/srq-hpn"
CHUNK = re.compile(r"/_next/static/[^\"'\\]+?\.(?:js|css)")
TUNNEL_SECONDS = 30
NEW_TABLE = '''"""A second table."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make it."""
    op.create_table("venue", sa.Column("name", sa.String(200), primary_key=True))


def downgrade() -> None:
    """Remove it."""
    op.drop_table("venue")
'''


def get(system: System, path: str, accept: str = "") -> tuple[int, dict[str, str], bytes]:
    """Ask SRQ HPN: the status, the headers with names in lower case, the body."""
    return send(system, Visit(path), accept)


def send(system: System, visit: Visit, accept: str = "") -> tuple[int, dict[str, str], bytes]:
    """Send a request: the status, the headers with names in lower case, the body."""
    answer, body = ask(DOMAIN, system.server.address, system.authority, visit, accept)
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, body


def chunks(system: System) -> list[str]:
    """Return the paths of the scripts and styles that the page asks for."""
    status, _, page = get(system, "/")
    assert status == 200, page
    found = sorted(set(CHUNK.findall(page.decode())))
    assert found, page
    return found


def script_with(system: System, text: str) -> str:
    """Return the one script of the page that has a text."""
    (found,) = [path for path in chunks(system) if text.encode() in get(system, path)[2]]
    return found


def curl(system: System, url: str, *options: str) -> str:
    """Ask by curl as the README does, and return what it prints."""
    command = ["curl", "--silent", "--show-error", "--max-time", "30"]
    command += ["--cacert", str(system.authority)]
    for name in (DOMAIN, f"www.{DOMAIN}"):
        for port in (80, 443):
            command += ["--resolve", f"{name}:{port}:{system.server.address}"]
    return run([*command, *options, url], timeout_seconds=60).stdout


def container(system: System, app: str, service: str) -> str:
    """Return a running container of a service."""
    names = system.on_server("docker ps --format '{{.Names}}'").split()
    return next(name for name in names if name.startswith(f"bedstone-{app}-{service}"))


def inside(system: System, app: str, service: str, script: str, **variables: str) -> str:
    """Run Python in a container, as its user, and return what it prints."""
    given = " ".join(shlex.quote(f"--env={name}={value}") for name, value in variables.items())
    command = f"docker exec -i {given} {container(system, app, service)} python -"
    return run(system.server.ssh(command), input_text=script, timeout_seconds=120).stdout


def environment(system: System, app: str, kind: str = "app") -> dict[str, str]:
    """Return the variables that an app's containers get on the server."""
    text = system.on_server(f"cat /etc/bedstone/apps/{app}/{kind}.env")
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def as_app(system: System, statement: str) -> str:
    """Run SQL as the running API's login; return "ok" or the server's words."""
    return inside(
        system,
        APP,
        "api",
        "import os, psycopg\n"
        "with psycopg.connect(os.environ['DATABASE_URL']) as connection:\n"
        "    try:\n"
        "        connection.execute(os.environ['STATEMENT'])\n"
        "        print('ok')\n"
        "    except psycopg.Error as error:\n"
        "        print(error)\n",
        STATEMENT=statement,
    ).strip()


def as_administrator(system: System, query: str) -> str:
    """Run SQL as PostgreSQL's own administrator and return what it prints."""
    command = f"runuser -u postgres -- psql -qAtX srq_hpn -c {shlex.quote(query)}"
    return system.on_server(command).strip()


# --- The document, point by point ---


def test_outside_reaches_ssh_and_the_web_alone(system: System) -> None:
    scan = [sys.executable, str(ROOT / "molecule/firewall/scan.py"), "tcp"]
    scan += [system.server.address, "1-65535"]
    said = subprocess.run(scan, capture_output=True, text=True, check=True).stdout
    assert sorted(said.splitlines()) == ["open 22", "open 443", "open 80"]


def test_api_and_front_end_share_the_domain(system: System) -> None:
    status, _, body = get(system, "/api/health")
    assert (status, json.loads(body)) == (200, {"ok": True, "service": "api"})
    status, _, body = get(system, "/api/db-health")
    answer = json.loads(body)
    assert (status, answer["db_ok"], list(answer)) == (200, True, ["db_ok", "now"])
    status, headers, page = get(system, "/")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert b"<h1>SRQ HPN</h1>" in page
    # What neither knows is each one's own 404.
    status, _, body = get(system, "/api/nowhere")
    assert (status, json.loads(body)) == (404, {"detail": "Not Found"})
    status, headers, body = get(system, "/nowhere")
    assert (status, headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert get(system, "/robots.txt")[0] == 200


def test_page_is_rendered_for_each_request(system: System) -> None:
    first, second = (
        re.search(rb"Rendered at (?:<!-- -->)?([^<]+)", get(system, "/")[2]) for _ in "12"
    )
    assert first
    assert second
    assert first[1] < second[1]


def test_all_scripts_of_the_page_come_from_nginx_for_good(system: System) -> None:
    for path in chunks(system):
        status, headers, body = get(system, path)
        assert (status, bool(body)) == (200, True), path
        assert "immutable" in headers["cache-control"]
    # The page asks the API below its own domain: the base was empty when it was built.
    assert script_with(system, "/api/events")


def test_connections_are_http_2(system: System) -> None:
    printed = curl(
        system, f"https://{DOMAIN}/api/health", "--http2", "-o/dev/null", "-w%{http_version}"
    )
    assert printed == "2"


def test_page_api_and_scripts_are_compressed(system: System) -> None:
    title = "a title of some length, " * 8
    for _ in range(12):
        assert send(system, Visit("/api/events", body={"title": title}))[0] == 201
    for path in ("/", "/api/events", chunks(system)[0]):
        _, headers, body = get(system, path, accept="gzip")
        assert headers.get("content-encoding") == "gzip", path
        assert len(body) < len(get(system, path)[2]), path


def test_security_headers_are_on_page_api_and_scripts(system: System) -> None:
    for path in ("/", "/api/health", chunks(system)[0], "/nowhere"):
        _, headers, _ = get(system, path)
        assert headers["x-frame-options"] == "DENY", path
        assert headers["x-content-type-options"] == "nosniff", path
        assert headers["referrer-policy"] == "strict-origin-when-cross-origin", path
        assert headers["server"] == "nginx", path
        assert "x-powered-by" not in headers, path


@pytest.mark.parametrize("url", [f"http://{DOMAIN}", f"https://www.{DOMAIN}"])
def test_plain_http_and_www_lead_to_the_domain(system: System, url: str) -> None:
    printed = curl(system, f"{url}/events?page=2", "-o/dev/null", "-w%{http_code} %{redirect_url}")
    assert printed == f"308 https://{DOMAIN}/events?page=2"


def test_rows_are_written_and_read(system: System) -> None:
    status, _, body = send(system, Visit("/api/events", body={"title": "Regatta"}))
    assert status == 201
    assert json.loads(body) in json.loads(get(system, "/api/events")[2])["events"]


def test_migrations_run_as_the_owner_and_the_api_as_the_limited_login(system: System) -> None:
    owner = as_administrator(system, "SELECT tableowner FROM pg_tables WHERE tablename = 'event'")
    login = as_administrator(
        system,
        "SELECT DISTINCT usename FROM pg_stat_activity WHERE datname = 'srq_hpn'"
        " AND usename <> 'postgres'",
    )
    assert owner
    assert login
    assert owner not in login.split()
    superusers = as_administrator(system, "SELECT rolname FROM pg_roles WHERE rolsuper")
    assert superusers == "postgres"
    assert "permission denied" in as_app(system, "CREATE TABLE intruder (id int)")
    assert "must be owner" in as_app(system, "DROP TABLE event")
    assert "must be owner" in as_app(system, "ALTER TABLE event ADD COLUMN more text")


def test_no_answer_shows_what_is_inside(system: System) -> None:
    # PostgreSQL takes no NUL in a text: an error that the API does not expect.
    status, _, body = send(system, Visit("/api/events", body={"title": "a\0b"}))
    assert (status, body) == (500, b"Internal Server Error")
    system.on_server("systemctl stop postgresql@17-main")
    try:
        status, _, body = get(system, "/api/db-health")
        assert (status, json.loads(body)) == (503, {"db_ok": False})
        assert get(system, "/api/events")[2] == b"Internal Server Error"
        assert get(system, "/api/health")[0] == get(system, "/")[0] == 200
    finally:
        system.on_server("systemctl start postgresql@17-main")
    assert get(system, "/api/db-health")[0] == 200


def test_database_is_reached_through_the_operators_tunnel(system: System) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # The README's command, with the testbed's key.
    command = ["ssh", "-F", str(system.server.ssh_config), "-o", "ControlPath=none", "-N"]
    command += ["-l", "operator", "-o", "ExitOnForwardFailure=yes"]
    command += ["-L", f"127.0.0.1:{port}:localhost:5432", system.server.name]
    login = conninfo_to_dict(environment(system, APP, "migrate")["DATABASE_URL"])
    tunnel = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        wait_for_port(port, tunnel)
        with psycopg.connect(
            host="localhost",
            port=port,
            dbname="srq_hpn",
            user=login["user"],
            password=login["password"],
            sslmode="verify-full",
            sslrootcert=str(system.authority),
        ) as connection:
            row = connection.execute("SELECT session_user, current_database()").fetchone()
    finally:
        tunnel.terminate()
        tunnel.wait()
    assert row == ("srq_hpn_migrate", "srq_hpn")


def wait_for_port(port: int, tunnel: subprocess.Popen[bytes]) -> None:
    """Wait until a tunnel is open."""
    limit = time.monotonic() + TUNNEL_SECONDS
    while time.monotonic() < limit:
        assert tunnel.poll() is None, "the tunnel has ended"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise AssertionError(f"no tunnel within {TUNNEL_SECONDS} s")


# --- A release ---


@contextmanager
def visited(system: System, *more: Visit) -> Iterator[Seen]:
    """Visit page, API and database for as long as the block takes."""
    visits = (Visit("/"), Visit("/api/health"), Visit("/api/db-health"), *more)
    with visitors(DOMAIN, system.server.address, system.authority, *visits) as seen:
        yield seen
    assert seen.failures == []
    # Each path was asked, and answered, all the time.
    assert all(seen.good[visit.path] >= 5 for visit in visits), seen.good


def test_second_version_fails_no_request_and_keeps_the_first_ones_scripts(
    system: System, tmp_path: Path
) -> None:
    old = script_with(system, "first edition")
    text = get(system, old)[2]
    source = tmp_path / "source"
    shutil.copytree(SOURCE, source, ignore=shutil.ignore_patterns("node_modules", ".next"))
    page = source / "apps/web/app/events.jsx"
    page.write_text(page.read_text().replace("first edition", "second edition"))
    (source / "apps/api/alembic/versions/0002_venue.py").write_text(NEW_TABLE)
    settings = system.directory / "group_vars/all/settings.yml"
    declared = yaml.safe_load(settings.read_text())
    declared["bedstone_apps"][0]["source"] = {"path": str(source)}
    settings.write_text(yaml.safe_dump(declared, sort_keys=False))
    written = Visit("/api/events", 201, {"title": "written during the release"})
    with visited(system, Visit(old), written) as seen:
        system.play("deploy")
    kept = json.loads(get(system, "/api/events")[2])["events"]
    assert seen.bodies
    assert all(row in kept for row in seen.bodies)
    assert script_with(system, "second edition") != old
    # A page of the first version that is open in a browser asks for it still.
    assert old not in chunks(system)
    assert get(system, old)[::2] == (200, text)
    # The table of the new migration belongs to the owner, and the API's login uses it at once.
    assert as_app(system, "INSERT INTO venue VALUES ('Nathan Benderson Park')") == "ok"
    assert "must be owner" in as_app(system, "DROP TABLE venue")
