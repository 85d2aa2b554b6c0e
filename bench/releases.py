"""Compare a release of new code with `docker compose up -d --build` of the same app.

One server, one nginx, one database, one load: first Bedstone releases and rolls back, then compose
brings the same change up. The app is tests/apps/ledger without its workers.
"""

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.load import load, on
from testbed.paths import ROOT
from testbed.servers import Server
from testbed.shell import say
from tests.apps.ledger import variant

CLIENT = ROOT / "molecule" / "release" / "client.py"
STATE = "/var/lib/bedstone/apps/ledger"
COMPOSE = "/root/compose"
UPSTREAMS = "/etc/nginx/bedstone/upstreams"
PORTS = {"web": (8000, 18000), "api": (8001, 18001)}
# How long the slow requests of the load take.
SLOW_SECONDS = 5
# As people write it; the services have no more to wait for than their own start.
COMPOSE_FILE = """\
services:
  web: &app
    build: {{context: source, args: {{BASE_IMAGE: "bedstone-python:trixie"}}}}
    command: {web}
    ports: ["127.0.0.1:18000:8000"]
    env_file: app.env
    extra_hosts: ["postgres:172.17.0.1"]
    volumes: ["/etc/bedstone/tls/ca.crt:/run/bedstone/ca.crt:ro"]
    restart: unless-stopped
    stop_grace_period: 45s
  api:
    <<: *app
    command: {api}
    ports: ["127.0.0.1:18001:8001"]
"""
COMMANDS = {
    "web": "gunicorn ledger.wsgi --bind 0.0.0.0:8000 --worker-class gthread --workers 2"
    " --threads 32 --graceful-timeout 40",
    "api": "gunicorn api.wsgi --bind 0.0.0.0:8001 --worker-class gthread --threads 8",
}


@dataclass
class Change:
    """One change of the version that serves, under load.

    Attributes:
        what: its name in the table.
        seconds: from the command's begin to its end.
        requests: how many were sent during it, and for a while before and after.
        failed: how many of them failed.
        dark: seconds from the first request that failed to the last one's.
        steps: name and seconds of each step, if it has any.

    """

    what: str
    seconds: float
    requests: int = 0
    failed: int = 0
    dark: float = 0.0
    steps: list[tuple[str, float]] = field(default_factory=list)


def settings() -> dict[str, Any]:
    """Return what an operator would write for the app."""
    services = {
        "web": {"command": COMMANDS["web"], "port": 8000, "route": "/", "health": "/health/"},
        "api": {"command": COMMANDS["api"], "port": 8001, "route": "/api/"},
    }
    for service in services.values():
        service["stop_seconds"] = 45
    return {
        "bedstone_apps": [
            {
                "name": "ledger",
                "domains": ["ledger.localhost"],
                "source": {"path": str(ROOT / "tests" / "apps" / "ledger")},
                "build": {"args": {"BASE_IMAGE": "bedstone-python:trixie"}},
                "services": services,
                "static": "/app/collected",
                # No Redis runs at this address: the workers are left out.
                "env": {"REDIS_URL": "redis://localhost/0"},
            }
        ],
        "docker_image_archives": ["/opt/testbed/bedstone-python.tar"],
    }


def measure(server: Server) -> list[Change]:
    """Measure on a server on which the app serves; return the changes in their order."""
    found = [released(server, "release"), released(server, "rollback")]
    bring_compose_up(server)
    found.append(composed(server))
    return found


def released(server: Server, operation: str) -> Change:
    """Release new code, or roll it back."""
    if operation == "release":
        send_source(server, f"{STATE}/source.tar.gz")
    with load(server, CLIENT, f"bench{time.time_ns()}", str(SLOW_SECONDS)) as result:
        began = time.monotonic()
        outcome = json.loads(on(server, f"bedstone {operation} ledger --json"))
        seconds = time.monotonic() - began
    steps = [(step["name"], float(step["seconds"])) for step in outcome["steps"]]
    name = "release of new code" if operation == "release" else "rollback"
    return counted(Change(f"bedstone: {name}", seconds, steps=steps), result)


def bring_compose_up(server: Server) -> None:
    """Make compose serve the app behind the same nginx, in place of Bedstone's containers."""
    say("   compose: installed, and its first containers")
    on(
        server,
        "export DEBIAN_FRONTEND=noninteractive; apt-get -qq update;"
        "apt-get -qq install -y --no-install-recommends curl docker-compose > /dev/null;"
        f"mkdir -p {COMPOSE}/source",
    )
    text = COMPOSE_FILE.format(**COMMANDS)
    on(server, f"cat > {COMPOSE}/docker-compose.yml", text.encode())
    on(server, f"cp $(ls -d {STATE}/releases/*/ | tail -n 1)app.env {COMPOSE}/app.env")
    compose_source(server)
    on(server, compose())
    for name, (_, port) in PORTS.items():
        on(server, f"timeout 60 sh -c 'until curl -s 127.0.0.1:{port}; do sleep 0.2; done'")
        path = f"{UPSTREAMS}/ledger-{name}.conf"
        on(server, rf"sed -i -E 's/server [^;]+;/server 127.0.0.1:{port};/' {path}")
    on(server, "nginx -t -q && systemctl reload nginx && systemctl stop 'bedstone-ledger-*'")


def composed(server: Server) -> Change:
    """Deploy new code with compose."""
    compose_source(server)
    with load(server, CLIENT, f"bench{time.time_ns()}", str(SLOW_SECONDS)) as result:
        began = time.monotonic()
        on(server, compose())
        seconds = time.monotonic() - began
        # It calls itself done before the app answers.
        on(server, "timeout 60 sh -c 'until curl -s 127.0.0.1:18000; do sleep 0.1; done'")
    return counted(Change("docker compose up -d --build", seconds), result)


def compose() -> str:
    """Return the command as people type it."""
    return f"cd {COMPOSE} && DOCKER_BUILDKIT=1 docker-compose up -d --build --quiet-pull 2>&1"


def compose_source(server: Server) -> None:
    """Give compose another version of the source."""
    send_source(server, f"{COMPOSE}/source.tar.gz")
    # With the time of now: BuildKit takes a file of the same size and time for unchanged.
    unpack = "find source -mindepth 1 -delete; tar --touch -xzf source.tar.gz -C source"
    on(server, f"cd {COMPOSE} && {unpack}")


def send_source(server: Server, path: str) -> None:
    """Copy a source to the server in which only code is new."""
    with tempfile.TemporaryDirectory() as directory:
        archive = variant.pack(Path(directory, "source.tar.gz"), f"bench-{time.time_ns()}")
        on(server, f"cat > {path}.new && mv {path}.new {path}", archive.read_bytes())


def counted(change: Change, result: dict[str, Any]) -> Change:
    """Add to a change what came of the requests."""
    failures: Sequence[str] = result["failures"]
    change.failed = len(failures)
    change.requests = len(failures) + len(result["answers"])
    change.dark = dark([moment(line) for line in failures])
    for line in failures[:3]:
        say(f"   {change.what}: {line}")
    return change


def moment(line: str) -> float:
    """Return when a failed request began, which the client says in its line."""
    return float(line.partition(", at ")[2].partition(":")[0])


def dark(moments: Sequence[float]) -> float:
    """Return the seconds between the first and the last request that failed."""
    return max(moments) - min(moments) if moments else 0.0


def rows(changes: Sequence[Change]) -> list[str]:
    """Return the table's lines in Markdown."""
    return [
        "| what | seconds | requests | failed | seconds dark |",
        "|---|---:|---:|---:|---:|",
        *(
            f"| {c.what} | {c.seconds:.1f} | {c.requests} | {c.failed} | {c.dark:.1f} |"
            for c in changes
        ),
    ]


def steps(changes: Sequence[Change]) -> list[str]:
    """Return a line for each change that has steps: where its time went."""
    return [
        f"{change.what}: " + ", ".join(f"{name} {seconds:.1f}" for name, seconds in change.steps)
        for change in changes
        if change.steps
    ]
