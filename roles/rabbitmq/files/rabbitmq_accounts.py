#!/usr/bin/python3
"""Bring RabbitMQ's users, virtual hosts and rights into line with definitions.json.

    rabbitmq-accounts

A user that is not declared is removed as soon as no connection uses it: containers of the release
that serves log in with the previous user until the next one. When all is as declared, a file below
/var/lib/bedstone/rabbitmq says so.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path

DEFINITIONS = Path("/etc/rabbitmq/definitions.json")
STATE = Path("/var/lib/bedstone/rabbitmq")
WAIT_SECONDS = 60.0


def rabbitmqctl(*arguments: str) -> str:
    """Run rabbitmqctl and return its output.

    Raises:
        subprocess.CalledProcessError: it failed.

    """
    command = ["rabbitmqctl", "--quiet", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def listed(what: str, column: str) -> set[str]:
    """Return a column of a list of RabbitMQ's."""
    arguments = [] if what == "list_users" else [column]
    return {row[column] for row in json.loads(rabbitmqctl(what, *arguments, "--formatter=json"))}


def settle() -> str:
    """Import the declared users, remove others, and return what was done.

    Raises:
        subprocess.CalledProcessError: rabbitmqctl failed.
        TimeoutError: RabbitMQ has not imported the users.

    """
    content = DEFINITIONS.read_bytes()
    declared = {user["name"] for user in json.loads(content)["users"]}
    rabbitmqctl("import_definitions", str(DEFINITIONS))
    # The import goes on after the command has ended.
    limit = time.monotonic() + WAIT_SECONDS
    while not declared <= (found := listed("list_users", "user")):
        if time.monotonic() > limit:
            raise TimeoutError(
                f"RabbitMQ has not imported {', '.join(sorted(declared - found))}: see "
                "`journalctl -u rabbitmq-server`"
            )
        time.sleep(0.5)
    connected = listed("list_connections", "user")
    said = []
    for user in sorted(found - declared - connected):
        rabbitmqctl("delete_user", user)
        said.append(f"removed {user}\n")
    STATE.mkdir(mode=0o755, parents=True, exist_ok=True)
    for path in STATE.glob("settled-*"):
        path.unlink()
    if left := (found - declared) & connected:
        said.append(f"kept {', '.join(sorted(left))}, still in use\n")
    else:
        (STATE / f"settled-{hashlib.sha256(content).hexdigest()[:16]}").touch()
    return "".join(said)


def main() -> int:
    """Settle, say what was done, and return the exit code."""
    try:
        sys.stdout.write(settle())
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip() or error.stdout.strip()
        sys.stderr.write(f"{' '.join(error.cmd)}: {said}\n")
        return 1
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
