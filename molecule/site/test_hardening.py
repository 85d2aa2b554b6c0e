"""The yardsticks made by others, with a floor, and what no score tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testinfra.host import Host

UNITS = ["bedstone-payments-web@*", "ssh.service"]

# The highest exposure of `systemd-analyze security`, times ten; docs/security.md has the reasons.
EXPOSURE = {
    "bedstone-alarms.service": 84,
    "bedstone-backup.service": 25,
    "bedstone-certificates.service": 27,
    "bedstone-content.service": 37,
    "bedstone-copy.service": 26,
    "bedstone-destinations.service": 84,
    "bedstone-failed@.service": 84,
    "bedstone-firewall.service": 23,
    "bedstone-guestbook-web@.service": 26,
    "bedstone-library-web@.service": 26,
    "bedstone-metrics.service": 15,
    "bedstone-operation@.service": 84,
    "bedstone-payments-web@.service": 26,
    "bedstone-settle.service": 84,
    "bedstone-upgrade.service": 96,
    "bedstone-uploads.service": 22,
    "bedstone-verify.service": 33,
    "bedstone-wal-full.service": 28,
    "bedstone-wal-incremental.service": 28,
}
# Where Debian's files are, and the server's own data.
PLACES = "/etc /home /opt /root /run /srv /tmp /usr/local /var"


def test_every_unit_of_ours_has_a_bound(host: Host) -> None:
    listed = host.check_output(
        "systemctl list-unit-files --plain --no-legend --type=service 'bedstone-*'"
    )
    assert sorted(line.split()[0] for line in listed.splitlines()) == sorted(EXPOSURE)


@pytest.mark.parametrize("unit", EXPOSURE)
def test_unit_is_no_more_exposed_than_that(host: Host, unit: str) -> None:
    instance = unit.replace("@.", "@blue.")
    done = host.run(f"systemd-analyze security --threshold={EXPOSURE[unit]} {instance}")
    assert done.rc == 0, done.stdout.splitlines()[-1]


@pytest.fixture
def words(host: Host) -> Iterator[str]:
    """Return a file on the server that only root can read: the apps' secrets, and lines of keys."""
    path = "/root/molecule-secrets"
    host.check_output(
        "umask 077; { sed -nE 's/^[A-Z_]*(PASSWORD|SECRET|SECRET_KEY|APP_KEY)=(.{12,})/\\2/p'"
        " /etc/bedstone/apps/*/*.env; find /etc/bedstone -name '*.key'"
        " -exec grep --no-filename --invert-match -e ----- {} +; } | sort -u > %s",
        path,
    )
    assert int(host.check_output("wc -l < %s", path)) > 8
    yield path
    host.check_output("rm %s", path)


def readable(host: Host, words: str) -> list[str]:
    """Return the files that hold one of the secrets and that an account without rights can read."""
    # root opens the descriptor: grep, as an unprivileged user, gets the secrets through it alone.
    found = host.run(
        "setpriv --reuid=nobody --regid=nogroup --clear-groups"
        " grep --recursive --files-with-matches --no-messages --fixed-strings --file=-"
        f" {PLACES} < {words}"
    )
    assert found.rc in {0, 1, 2}, found.stderr
    return str(found.stdout).split()


def test_no_secret_is_readable_by_others(host: Host, words: str) -> None:
    assert readable(host, words) == []
    leak = "/var/tmp/molecule-leak"
    host.check_output(f"tail -n 1 {words} > {leak}; chmod 644 {leak}")
    try:
        assert readable(host, words) == [leak]
    finally:
        host.check_output(f"rm {leak}")


def test_containers_have_no_rights_to_lose(host: Host) -> None:
    containers = host.check_output("docker ps --quiet").split()
    assert len(containers) >= 3
    for container in containers:
        pid = host.check_output("docker inspect --format '{{.State.Pid}}' %s", container)
        status = host.check_output("cat /proc/%s/status", pid)
        fields = dict(line.split(":", 1) for line in status.splitlines())
        assert int(fields["CapBnd"], 16) == 0
        assert int(fields["CapEff"], 16) == 0
        assert fields["NoNewPrivs"].strip() == "1"
        assert fields["Seccomp"].strip() == "2"
        assert fields["Uid"].split()[0] != "0"
        root = host.check_output("grep ' / ' /proc/%s/mounts", pid)
        assert root.split()[3].split(",")[0] == "ro"


def test_no_compiler_is_on_the_server(host: Host) -> None:
    """Images are built in containers: what compiles is there."""
    assert host.run("command -v cc gcc clang make").stdout == ""
