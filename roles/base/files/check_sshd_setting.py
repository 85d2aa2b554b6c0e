#!/usr/bin/python3
"""Check that sshd, with all of its configuration files, comes to given settings.

    check-sshd-setting passwordauthentication=no permitrootlogin=no

A line in a file that sshd doesn't include, or that another file comes before, is no setting.
"""

from __future__ import annotations

import subprocess
import sys

# sshd's own name for what is usually written as prohibit-password.
SAME = {"prohibit-password": "without-password"}


def main(wanted: list[str]) -> int:
    """Return 0 when every setting holds; else print which doesn't and return 1."""
    asked = subprocess.run(["/usr/sbin/sshd", "-T"], capture_output=True, text=True, check=False)
    if asked.returncode != 0:
        sys.stderr.write(asked.stderr)
        return 1
    actual = dict(line.partition(" ")[::2] for line in asked.stdout.splitlines())
    wrong = []
    for word in wanted:
        name, _, value = word.partition("=")
        if actual.get(name) != SAME.get(value, value):
            wrong.append(f"{name} would be {actual.get(name)}, not {value}")
    if wrong:
        sys.stderr.write(
            f"sshd reads other files before ours: {'; '.join(wrong)}. Look for these names in "
            "/etc/ssh/sshd_config and /etc/ssh/sshd_config.d, and whether the former includes "
            "the latter in its first lines.\n"
        )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
