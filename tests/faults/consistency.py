"""Runs on the server: does everything agree on what serves? Prints what doesn't, as JSON.

    python3 consistency.py

The ledger's release is compared with slot files, units (running, enabled), nginx's upstreams, the
link to the static files, the containers, and with what the app answers on every path.
"""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

APP = "hello"
DOMAIN = "hello.example.com"
STATE = Path("/var/lib/bedstone/apps") / APP
WANTS = Path("/etc/systemd/system/multi-user.target.wants")
UPSTREAMS = Path("/etc/nginx/bedstone/upstreams")
HTTP = ("web", "api")
WORKERS = ("mailer@1", "worker@1", "worker@2")


def said(*argv: str) -> str:
    """Return what a program prints, whatever its exit code."""
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout


def fetch(path: str) -> str:
    """Return what a path answers through nginx, over TLS."""
    return said(
        *("curl", "-sS", "-f", "-m", "20", "--cacert", "/etc/bedstone/tls/ca.crt"),
        *("--resolve", f"{DOMAIN}:443:127.0.0.1", f"https://{DOMAIN}{path}"),
    )


def problems() -> Iterator[str]:
    """Say what doesn't agree with the ledger."""
    ledger = sqlite3.connect("/var/lib/bedstone/ledger.sqlite")
    serving = ledger.execute("SELECT release, slot FROM apps WHERE app = ?", (APP,)).fetchone()
    if serving is None:
        yield "the ledger knows of no release"
        return
    release, slot = serving
    keys = {*(f"{service}@{slot}" for service in HTTP), *WORKERS}
    yield from still_running(ledger)
    yield from differs("slot files", {p.stem for p in (STATE / "slots").glob("*@*.json")}, keys)
    for path in sorted((STATE / "slots").glob("*@*.json")):
        if (found := json.loads(path.read_text())["release"]) != release:
            yield f"slot file {path.stem}: {found}"
    units = {f"bedstone-{APP}-{key}.service" for key in keys}
    listed = said(
        *("systemctl", "list-units", "--plain", "--no-legend", "--all", f"bedstone-{APP}-*@*")
    )
    states = {line.split()[0]: line.split()[2] for line in listed.splitlines()}
    running = {name for name, state in states.items() if state != "inactive"}
    yield from differs("units", running, units)
    yield from (f"{name} is {states[name]}" for name in running & units if states[name] != "active")
    enabled = {path.name for path in WANTS.glob(f"bedstone-{APP}-*@*.service")}
    yield from differs("enabled units", enabled, units)
    yield from nginx(slot)
    if (link := STATE_STATIC.readlink().name if STATE_STATIC.is_symlink() else None) != release:
        yield f"static/current: {link}"
    yield from containers(release, keys)
    yield from answers(release)


STATE_STATIC = Path("/srv/bedstone") / APP / "static" / "current"


def differs(what: str, found: set[str], wanted: set[str]) -> Iterator[str]:
    """Say what is missing and what is too much."""
    if missing := sorted(wanted - found):
        yield f"{what} missing: {', '.join(missing)}"
    if surplus := sorted(found - wanted):
        yield f"{what} too many: {', '.join(surplus)}"


def still_running(ledger: sqlite3.Connection) -> Iterator[str]:
    """Say which operations and steps the ledger takes for running."""
    for table in ("releases", "operations", "operation_steps"):
        known = ledger.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone()
        columns = {row[1] for row in ledger.execute(f"PRAGMA table_info({table})")}
        if known and "state" in columns:
            count = ledger.execute(f"SELECT count(*) FROM {table} WHERE state = 'running'")
            if number := count.fetchone()[0]:
                yield f"{number} of {table} are running"


def nginx(slot: str) -> Iterator[str]:
    """Say which service's requests go elsewhere."""
    kept = json.loads((STATE / "network.json").read_text())
    link = Path("/etc/nginx/bedstone/serving") / APP
    linked = link.readlink().name if link.is_symlink() else "none"
    for service in HTTP:
        text = (UPSTREAMS / f"{APP}-{service}.conf").read_text()
        found = re.search(rf"upstream {APP}-{service}-{linked} {{\s+server (\S+):\d+;", text)
        number = kept["addresses"][f"{service}@{slot}"]
        # Fixed addresses are of the subnet's upper half: 172.20.0.128 + number.
        wanted = f"{kept['subnet'].rpartition('.')[0]}.{128 + number}"
        if not found or found[1] != wanted:
            yield f"nginx sends {service} to {found[1] if found else 'nobody'}, not to {wanted}"


def containers(release: str, keys: set[str]) -> Iterator[str]:
    """Say which containers are missing, left over, or of another release."""
    listed = said(
        *("docker", "ps", "--all", "--filter", f"label=bedstone.app={APP}", "--format"),
        '{{.Names}} {{.State}} {{.Label "bedstone.release"}}',
    )
    rows = [line.split() for line in listed.splitlines()]
    wanted = {f"bedstone-{APP}-{key.replace('@', '-')}" for key in keys}
    yield from differs("containers", {row[0] for row in rows}, wanted)
    for row in rows:
        if row[1:] != ["running", release]:
            yield f"container {' '.join(row)}"


def answers(release: str) -> Iterator[str]:
    """Say which path answers for another release."""
    environment = (STATE / "releases" / release / "app.env").read_text()
    version = re.search(r'^GREETING="?(\S+?)"?$', environment, re.MULTILINE)
    wanted = version[1] if version else "?"
    for path in ("/", "/api/"):
        body = fetch(path)
        if not body or json.loads(body)["greeting"] != wanted:
            yield f"{path} answers {body!r}, not {wanted}"
    if wanted not in (body := fetch("/static/site.css")):
        yield f"/static/site.css is {body!r}, not of {wanted}"


def litter() -> list[str]:
    """Return what a killed operation may have left and no process needs."""
    found = [
        *Path("/run/bedstone").glob("environment-*"),
        *Path("/run/bedstone").glob("registry-*"),
    ]
    found += [*Path("/srv/bedstone").glob(f"{APP}/static/.*.partial")]
    return sorted(str(path) for path in found)


if __name__ == "__main__":
    print(json.dumps({"problems": list(problems()), "litter": litter()}))
    sys.exit(0)
