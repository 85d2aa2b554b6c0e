"""Guards PostgreSQL's configuration: before it counts, and around every reload.

    guard rehearse 17-main         the configuration starts a (throwaway) server
    guard before-reload 17-main    the running server can take its files
    guard after-reload 17-main     every address serves the certificate of the file

Exit code 0 when all is well, 1 with the problems on standard error, 2 for a wrong use. On the
server this is /usr/local/lib/bedstone/postgresql/; standard library only.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable

from bedstone_postgresql_instance import Instance
from bedstone_postgresql_rehearsal import rehearse
from bedstone_postgresql_reload import after_reload, before_reload
from bedstone_postgresql_tls import ServerError

CHECKS: dict[str, Callable[[Instance], list[str]]] = {
    "rehearse": rehearse,
    "before-reload": before_reload,
    "after-reload": after_reload,
}


def main(arguments: list[str] | None = None) -> int:
    """Run one check and return the exit code; the problems go to standard error."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("check", choices=CHECKS)
    parser.add_argument("instance", help="the cluster, like 17-main")
    given = parser.parse_args(arguments)
    try:
        problems = CHECKS[given.check](Instance.parse(given.instance))
    except (ServerError, OSError, subprocess.TimeoutExpired) as error:
        problems = [str(error)]
    for problem in problems:
        print(problem, file=sys.stderr)  # noqa: T201 - this is what it is for
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
