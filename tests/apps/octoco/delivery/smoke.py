"""Check an environment from outside: health, and with --write the way of a deposit.

    python3 delivery/smoke.py production
    python3 delivery/smoke.py staging --write

The site's address is in delivery/ENVIRONMENT.env; URL in the environment replaces it. Standard
library only. Exit code 1 says which check failed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from pathlib import Path
from typing import Any

# Within it a web server that has just started answers, and a worker takes a task.
LIMIT_SECONDS = float(os.environ.get("SMOKE_SECONDS", "60"))
ANSWER_SECONDS = 20
DEPOSITS = 3


def address(environment: str) -> str:
    """Return the site's address."""
    if given := os.environ.get("URL"):
        return given.rstrip("/")
    lines = Path(__file__).with_name(f"{environment}.env").read_text().splitlines()
    (found,) = [line.removeprefix("URL=") for line in lines if line.startswith("URL=")]
    return found.rstrip("/")


def ask(url: str, data: dict[str, str] | None = None) -> dict[str, Any]:
    """Return the JSON of an answer.

    Raises:
        OSError: no answer, or one with an error's status.
        ValueError: no JSON.

    """
    body = urllib.parse.urlencode(data).encode() if data else None
    request = urllib.request.Request(url, body)  # noqa: S310 - the address is the team's own
    with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:  # noqa: S310
        found: dict[str, Any] = json.load(answer)
        return found


def wait(what: str, url: str, wanted: dict[str, Any]) -> None:
    """Ask until an answer has what is wanted.

    Raises:
        SystemExit: it never did.

    """
    deadline = time.monotonic() + LIMIT_SECONDS
    while True:
        try:
            last = str(found := ask(url))
            if wanted.items() <= found.items():
                sys.stdout.write(f"ok  {what}: {url}\n")
                return
        except urllib.error.HTTPError as error:
            last = f"{error} {error.read().decode(errors='replace')[:500]}"
        except (OSError, ValueError) as error:
            last = str(error)
        if time.monotonic() > deadline:
            sys.exit(f"error: {what}: {url} has no {wanted} after {LIMIT_SECONDS:g} s: {last}")
        time.sleep(1)


def write(site: str) -> None:
    """Queue deposits, and wait until a worker has written each once."""
    batch = f"smoke-{uuid.uuid4()}"
    url = f"{site}/api/v1/deposits/"
    try:
        ask(url, {"batch": batch, "count": str(DEPOSITS)})
    except (OSError, ValueError) as error:
        sys.exit(f"error: deposits: {url}: {error}")
    query = urllib.parse.urlencode({"batch": batch})
    wait("deposits", f"{url}?{query}", {"rows": DEPOSITS, "numbers": DEPOSITS})


def main() -> None:
    """Run the checks."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("environment")
    parser.add_argument("--write", action="store_true", help="write deposits: not in production")
    arguments = parser.parse_args()
    site = address(arguments.environment)
    try:
        wait("health", f"{site}/health", {"status": "healthy"})
        if arguments.write:
            write(site)
    except SystemExit:
        back = f"delivery/bedstone.sh {arguments.environment} rollback octoco"
        sys.stderr.write(f"hint: the previous release: {back}, or the workflow Roll back\n")
        raise


if __name__ == "__main__":
    main()
