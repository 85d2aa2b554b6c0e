"""A minor version waits for the operator's command. It runs last: on the server of 17."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from testinfra.host import Host

    from molecule.upgrade.conftest import Server

UNITS = ["postgresql@17-main.service"]

# The package of today under tomorrow's number, in a repository of this server's own.
NEWER = r"""
set -e
rm -rf /opt/newer; mkdir -p /opt/newer/package; cd /opt/newer
apt-get install -y -qq --no-install-recommends dpkg-dev >/dev/null 2>&1
version=$(dpkg-query -W -f '${Version}' postgresql-17)
apt-get download -qq postgresql-17=$version
dpkg-deb -R postgresql-17_*.deb package
rm postgresql-17_*.deb
sed -i "s/^Version: .*/Version: $version+newer1/" package/DEBIAN/control
dpkg-deb -Znone -b package postgresql-17_newer_amd64.deb >/dev/null
rm -r package
dpkg-scanpackages . > Packages 2>/dev/null
echo 'deb [trusted=yes] file:/opt/newer ./' > /etc/apt/sources.list.d/newer.list
apt-get update -qq
"""


def test_apt_knows_a_newer_minor_version(host: Host) -> None:
    assert host.run(NEWER).rc == 0
    said = host.check_output("apt-cache policy postgresql-17")
    assert re.search(r"Candidate: \S+\+newer1", said)


def test_what_waits_is_seen_and_red_after_a_week(db: Server, host: Host) -> None:
    shown = db.status()["upgrades"]["waiting"]
    assert shown["package"] == "postgresql-17"
    assert shown["candidate"].endswith("+newer1")
    assert not shown["late"]
    assert not [problem for problem in db.problems() if "has waited" in problem]
    host.check_output(
        'sed -i \'s/"since": "[^"]*"/"since": "2026-01-01T00:00:00+00:00"/\''
        " /var/lib/bedstone/upgrade/waiting.json"
    )
    assert [problem for problem in db.problems() if "has waited for" in problem]


def test_it_is_installed_at_the_moment_that_was_chosen(db: Server, host: Host) -> None:
    started = db.admin("SELECT pg_postmaster_start_time()")
    assert "nobody is there to answer" in db.refused()
    said = db.played()
    assert re.search(r"The database was away for \d+\.\d s", said)
    assert host.package("postgresql-17").version.endswith("+newer1")
    assert db.admin("SELECT pg_postmaster_start_time()") != started
    assert db.payments() > 5000
    assert "is the newest that apt knows" in db.upgraded()
    assert not [problem for problem in db.problems() if "has waited" in problem]
