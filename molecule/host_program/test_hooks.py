"""Role host_program: the receivers of the program's reports, and their contents."""

from __future__ import annotations

import json
from collections.abc import Callable

from testinfra.host import Host

UNITS = ["bedstone-failed@molecule-fails.service.service"]
HOOKS = "/etc/bedstone/hooks.json"
TOLD = "/run/molecule-told.json"
# The journal can attribute lines only while the process lives, on a busy machine too.
FAILS = """\
[Unit]
OnFailure=bedstone-failed@%n.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'echo the disk is on fire; sleep 1; exit 7'
"""


def test_hooks_and_their_passwords_are_for_root_alone(host: Host) -> None:
    file = host.file(HOOKS)
    assert (file.user, file.group, file.mode) == ("root", "root", 0o600)
    written = json.loads(file.content_string)
    assert (written["schema"], written["hooks"][0]["events"]) == (1, ["failure"])
    assert written["mail"]["password"] == "s3cret-of-the-mail"


def test_unit_that_fails_has_its_failure_told(host: Host, wait_until: Callable[..., None]) -> None:
    host.run("rm -f %s", TOLD)
    host.check_output("printf %%s %s > /run/systemd/system/molecule-fails.service", FAILS)
    host.check_output("systemctl daemon-reload")
    try:
        assert host.run("systemctl start molecule-fails.service").rc != 0
        wait_until(lambda: host.file(TOLD).exists and host.file(TOLD).content_string.endswith("}"))
        told = json.loads(host.file(TOLD).content_string)
        assert told["event"] == "failure"
        assert "molecule-fails.service" in told["title"]
        assert "the disk is on fire" in told["details"]
    finally:
        host.run("systemctl reset-failed molecule-fails.service; rm -f %s", TOLD)
        host.run("rm /run/systemd/system/molecule-fails.service; systemctl daemon-reload")
