#!/usr/bin/python3
"""Reload nginx's configuration, and end when only its new workers accept requests.

    reload-nginx

`nginx -s reload` ends as soon as it has sent its signal. The master then reads the configuration,
starts new workers and tells the old ones to take nothing more: until then requests are answered by
the previous configuration. And when the master can't take the new one, for instance since another
program has one of its ports, only a log would say so.
"""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
PID_FILE = Path("/run/nginx.pid")
# A port that is taken is tried for by the master for two and a half seconds.
LIMIT_SECONDS = 20.0
POLL_SECONDS = 0.02
ENDING = b"shutting down"


def accepting(master: int) -> set[tuple[int, bytes]]:
    """Return the workers that take requests: each one's process id, and when it began.

    All processes are looked at: the kernel's own list of a process's children can leave one
    out while another one ends.
    """
    found = set()
    for directory in PROC.iterdir():
        if directory.name.isdigit():
            with suppress(OSError):
                fields = (directory / "stat").read_bytes().rpartition(b")")[2].split()
                title = (directory / "cmdline").read_bytes()
                if int(fields[1]) == master and b"worker process" in title and ENDING not in title:
                    found.add((int(directory.name), fields[19]))
    return found


def main() -> int:
    """Return 0 when the new workers have taken over; else say what to look at, and return 1."""
    master = int(PID_FILE.read_text())
    before = accepting(master)
    signalled = subprocess.run(["nginx", "-s", "reload"], check=False)
    if signalled.returncode != 0:
        return signalled.returncode
    deadline = time.monotonic() + LIMIT_SECONDS
    while True:
        now = accepting(master)
        if now and not now & before:
            return 0
        if time.monotonic() > deadline:
            sys.stderr.write(
                "nginx was told to reload, but the workers of before still take the requests:"
                " the configuration isn't in use. /var/log/nginx/error.log says why.\n"
            )
            return 1
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
