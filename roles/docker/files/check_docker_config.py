#!/usr/bin/python3
"""Ask dockerd whether it takes a configuration file, without starting it.

    check-docker-config /etc/docker/daemon.json

dockerd has `--validate` since 23. An older one (Debian 12 has 20.10) reads its configuration
first and only then asks whether it is root: started as nobody, it either names what is wrong in
the file or complains that it isn't root, which means that the file was fine.
"""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import tempfile
from pathlib import Path

LIMIT_SECONDS = 30
NOT_ROOT = "needs to be started with root"


def main(config: Path) -> int:
    """Return 0 for a good file; else print what is wrong and return 1."""
    usage = subprocess.run(
        ["dockerd", "--help"], capture_output=True, text=True, timeout=LIMIT_SECONDS, check=True
    )
    if "--validate" in usage.stdout:
        command = ["dockerd", "--validate", "--config-file", str(config)]
        return subprocess.run(command, timeout=LIMIT_SECONDS, check=False).returncode
    nobody = pwd.getpwnam("nobody")
    # The file may hold a proxy's password: a copy that is nobody's, not readable for all.
    with tempfile.NamedTemporaryFile(prefix="bedstone-") as copy:
        copy.write(config.read_bytes())
        copy.flush()
        os.fchown(copy.fileno(), nobody.pw_uid, nobody.pw_gid)
        started = subprocess.run(
            ["dockerd", "--config-file", copy.name],
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
            check=False,
            user=nobody.pw_uid,
            group=nobody.pw_gid,
            extra_groups=[],
        )
    if NOT_ROOT in started.stderr:
        return 0
    sys.stderr.write(started.stderr.replace(copy.name, str(config)))
    return 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
