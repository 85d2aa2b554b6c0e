"""Requests to the app on a server while something is measured there, and what came of them."""

import json
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from testbed.errors import TestbedError
from testbed.servers import Server
from testbed.shell import failure

LIMIT_SECONDS = 300


@contextmanager
def load(server: Server, client: Path, *arguments: str) -> Iterator[dict[str, Any]]:
    """Send requests during a block; the dict gets what came of them.

    Args:
        server: where.
        client: a program that writes `started` into the directory that is its first argument, and
            `result.json` when `stop` appears there.
        arguments: its further ones.

    """
    directory = on(server, "mktemp -d").strip()
    on(server, f"cat > {directory}/client.py", client.read_bytes())
    words = shlex.join(["python3", f"{directory}/client.py", directory, *arguments])
    on(server, f"systemd-run --quiet --collect {words}")
    on(server, f"timeout 60 sh -c 'until test -e {directory}/started; do sleep 0.1; done'")
    result: dict[str, Any] = {}
    try:
        yield result
    finally:
        wait = f"until test -e {directory}/result.json; do sleep 0.2; done"
        on(server, f"touch {directory}/stop; timeout 120 sh -c '{wait}'")
    result.update(json.loads(on(server, f"cat {directory}/result.json")))


def on(server: Server, command: str, data: bytes = b"") -> str:
    """Run a shell command on a server and return what it printed.

    Raises:
        TestbedError: it failed.

    """
    done = subprocess.run(
        server.ssh(command), input=data, capture_output=True, check=False, timeout=LIMIT_SECONDS
    )
    if done.returncode:
        text = subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )
        raise TestbedError(failure(["ssh", command], text))
    return done.stdout.decode()
