"""`make demo` and `make demo-down`: the whole of Bedstone on a server on this machine.

The server is made by the testbed and provisioned by the same playbooks/site.yml that a user
runs, over ssh. Run again it changes nothing; after a failure it goes on from there.
"""

import argparse
import http.client
import json
import os
import queue
import re
import shlex
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from testbed import images, servers
from testbed.cli import inventory
from testbed.errors import TestbedError
from testbed.paths import CACHE, ROOT, write
from testbed.servers import Server, Spec
from testbed.shell import run, say

NAME = "demo"
DOMAIN = "payments.localhost"
APP = "payments"
INVENTORY = ROOT / "inventories" / NAME
HOSTS = INVENTORY / "hosts.yml"
VAULT = INVENTORY / "group_vars" / "all" / "vault.yml"
PASSWORD = INVENTORY / ".vault-password"
AUTHORITY = CACHE / "demo-ca.crt"
PORTS = range(8443, 8543)
# A task may take a while without a word; after this long the demo says that it still runs.
QUIET_SECONDS = 10
GROUPS = ("proxy", "app", "postgresql")


def step(number: int, text: str) -> None:
    """Announce one of the steps."""
    bold, plain = ("\033[1m", "\033[0m") if sys.stderr.isatty() else ("", "")
    say(f"{bold}==> {number}/4 {text}{plain}")


def port_is_free(port: int) -> bool:
    """Return whether a port of the machine's loopback can be had."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def choose_port(present: Sequence[str], free: Callable[[int], bool] = port_is_free) -> int:
    """Return the https port: the one that the server has already, or the first free one.

    Args:
        present: what an existing server publishes (HOSTPORT:PORT), empty for none.
        free: returns whether a port is free.

    Raises:
        TestbedError: all candidates are taken.

    """
    if present:
        return int(present[0].partition(":")[0])
    for port in PORTS:
        if free(port):
            return port
    raise TestbedError(
        f"No port from {PORTS.start} to {PORTS.stop - 1} is free on this machine.",
        "Stop what listens there (ss -tlnp), then run make demo again.",
    )


def boot() -> tuple[Server, int]:
    """Make the images, start the server, and return it with its https port."""
    with ThreadPoolExecutor() as pool:
        base = pool.submit(images.python_image, images.DEFAULT_SUITE)
        pool.submit(images.server_image, images.DEFAULT_SUITE).result()
        base.result()
    found = [json.loads(servers.labels_of(c)["spec"]) for c in servers.containers(name=NAME)]
    port = choose_port(found[0]["publish"] if found else [])
    spec = Spec(name=NAME, group=NAME, publish=(f"{port}:443",), member_of=GROUPS)
    server, changed = servers.up(spec)
    say(f"    {'a bare Debian 13 is up' if changed else 'the server was up already'}")
    return server, port


def write_inventory(server: Server) -> None:
    """Write hosts.yml, and the secrets that the vault lacks."""
    text = inventory([server])
    if not HOSTS.exists() or HOSTS.read_text() != text:
        write(HOSTS, text)
    python = str(ROOT / ".venv" / "bin" / "python")
    made = run([python, "-m", "bedstone_control", "secrets", str(INVENTORY)], check=False)
    if made.returncode:
        raise TestbedError(
            f"The secrets of the demo could not be made.\n{made.stdout}{made.stderr}".strip()
        )
    say(f"    {made.stdout.strip().splitlines()[0]}")


def site_command() -> list[str]:
    """Return the command by which a user provisions the demo's server."""
    return [
        ".venv/bin/ansible-playbook",
        "playbooks/site.yml",
        "-i",
        str(INVENTORY.relative_to(ROOT)),
        "--vault-password-file",
        str(PASSWORD.relative_to(ROOT)),
    ]


def follow(command: Sequence[str]) -> tuple[int, str]:
    """Run a command from the project's directory and show what it says as it comes.

    Returns:
        its exit code and its whole output.

    """
    env = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "PYTHONUNBUFFERED": "1"}
    if sys.stdout.isatty():
        env["ANSIBLE_FORCE_COLOR"] = "1"
    process = subprocess.Popen(
        list(command),
        cwd=ROOT,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in process.stdout or ():
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    output: list[str] = []
    since = time.monotonic()
    while True:
        try:
            line = lines.get(timeout=QUIET_SECONDS)
        except queue.Empty:
            say(f"    ... still at it, {time.monotonic() - since:.0f} s")
            continue
        if line is None:
            return process.wait(), "".join(output)
        since = time.monotonic()
        output.append(line)
        sys.stdout.write(line)
        sys.stdout.flush()


def changes(output: str) -> int:
    """Return how many tasks changed something, from the recap at the end of Ansible's output.

    Raises:
        ValueError: there is no recap.

    """
    recap = re.sub(r"\x1b\[[0-9;]*m", "", output).rpartition("PLAY RECAP")
    counts = re.findall(r"\bchanged=(\d+)", recap[2])
    if not recap[1] or not counts:
        raise ValueError("Ansible's output has no recap.")
    return sum(int(count) for count in counts)


def provision() -> int:
    """Run site.yml and return how many tasks changed something."""
    command = site_command()
    say(f"    {shlex.join(command)}")
    code, output = follow(command)
    if code:
        raise TestbedError(
            "site.yml stopped; the reason is in the lines above.",
            "`make demo` goes on from here. To look around: python3 -m testbed ssh demo. "
            "To begin anew: make demo-down, then make demo.",
        )
    return changes(output)


def fetch_authority(server: Server) -> None:
    """Take the certificate of the demo's authority from the server."""
    shown = run(server.ssh("cat", "/etc/bedstone/tls/ca.crt"))
    write(AUTHORITY, shown.stdout)


def status_of(port: int, path: str) -> int:
    """Return the HTTP status of a page, asked over verified TLS through the published port."""
    context = ssl.create_default_context(cafile=str(AUTHORITY))
    connection = http.client.HTTPSConnection(DOMAIN, port, timeout=20, context=context)
    # The name leads to this machine in browsers and curl; Python's resolver may not.
    plain = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.sock = context.wrap_socket(plain, server_hostname=DOMAIN)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def check(port: int) -> None:
    """Check that the app answers, as a browser would.

    Raises:
        TestbedError: it does not.

    """
    for path in ("/health/", "/"):
        try:
            status = status_of(port, path)
        except OSError as error:
            raise TestbedError(
                f"https://{DOMAIN}:{port}{path} does not answer: {error}",
                "What the app says: python3 -m testbed ssh demo bedstone logs payments",
            ) from error
        # The start page redirects a visitor who is not logged in to the login.
        if status not in {200, 302}:
            raise TestbedError(
                f"https://{DOMAIN}:{port}{path} answers {status}.",
                "What the app says: python3 -m testbed ssh demo bedstone logs payments",
            )


def logins(server: Server) -> list[tuple[str, str]]:
    """Make the demo's users and return the new ones' names and passwords; none the next time."""
    command = f"bedstone run {APP} -- python manage.py demo_data --keep-passwords"
    made = run(server.ssh(command), timeout_seconds=120)
    words = [line.split() for line in made.stdout.splitlines()]
    return [(name, password) for name, password in (w for w in words if len(w) == 2)]  # noqa: PLR2004


def farewell(port: int, made: Sequence[tuple[str, str]], changed: int, seconds: float) -> str:
    """Return the text for the user at the end."""
    authority = AUTHORITY.relative_to(ROOT)
    if made:
        people = [f"  {name:8} {password}" for name, password in made]
        people.append("  (shown this once; rosa asks for payments, arthur decides)")
    else:
        people = [
            "  shown by the first run; new passwords:",
            f"  python3 -m testbed ssh demo bedstone run {APP} -- python manage.py demo_data",
        ]
    result = f"{changed} tasks changed something" if changed else "nothing had to be changed"
    return "\n".join(
        [
            "",
            f"Done in {seconds:.0f} s: {result}.",
            "",
            f"  https://{DOMAIN}:{port}/",
            "",
            "Logins:",
            *people,
            "",
            "The certificate comes from the demo's own authority. A browser warns until it trusts",
            f"{authority}; curl takes it so:",
            f"  curl --cacert {authority} https://{DOMAIN}:{port}/health/",
            "",
            "Next:",
            "  make demo                                          # again: changes nothing",
            "  python3 -m testbed ssh demo bedstone status        # what runs on the server",
            "  python3 -m testbed ssh demo bedstone backup        # back up the app's data now",
            "  edit app/, then make demo                          # release your change",
            "  make demo-down                                     # remove all of it",
        ]
    )


def up() -> None:
    """Start the demo."""
    started = time.monotonic()
    step(1, "Boot a bare Debian server on this machine")
    server, port = boot()
    step(2, "Write its inventory and secrets (inventories/demo)")
    write_inventory(server)
    step(3, "Provision it and release the app, as for any server")
    changed = provision()
    step(4, "Look at it through its front door")
    fetch_authority(server)
    check(port)
    made = logins(server)
    print(farewell(port, made, changed, time.monotonic() - started), flush=True)


def down() -> None:
    """Remove the demo, and nothing else."""
    removed = servers.down(servers.containers(group=NAME))
    servers.remove_network(NAME)
    files = [path for path in (HOSTS, VAULT, PASSWORD, AUTHORITY) if path.exists()]
    for path in files:
        path.unlink()
    if not removed and not files:
        say("There is no demo to remove.")
        return
    say("Removed: the demo's server with its data and network, its inventory and its secrets.")
    if (CACHE / "images").is_dir():
        say("Kept for the next time: .cache (images) and .venv. To remove the images as well:")
        say("  python3 -m testbed prune --all")


def main() -> int:
    """Run `up` or `down`; return the exit code."""
    parser = argparse.ArgumentParser(prog="python3 -m testbed.demo", description=__doc__)
    parser.add_argument("what", choices=["up", "down"])
    what = parser.parse_args().what
    try:
        (up if what == "up" else down)()
    except TestbedError as error:
        say(f"\nerror: {error.message}")
        if error.hint:
            say(f"hint: {error.hint}")
        return 1
    except KeyboardInterrupt:
        say(f"\ninterrupted; `make demo{'' if what == 'up' else '-down'}` goes on from here")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
