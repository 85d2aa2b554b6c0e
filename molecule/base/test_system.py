"""Time, packages, trust, logs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from again import applied, refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from testinfra.host import Host

UNITS = ["systemd-journald.service", "apt-daily-upgrade.timer"]
VERIFY = "openssl verify -CApath /etc/ssl/certs /root/leaf.crt"


def test_clock_shows_the_zones_time(host: Host) -> None:
    assert host.check_output("date +%Z") in ("CET", "CEST")


def test_unknown_zone_is_refused(host: Host, server_name: str) -> None:
    said = refused(server_name, base_timezone="Mars/Olympus")
    assert "/usr/share/zoneinfo/Mars/Olympus" in said
    assert host.check_output("date +%Z") in ("CET", "CEST")


def test_clock_is_kept_by_a_service_that_leaves_a_containers_alone(host: Host) -> None:
    unit = "systemd-timesyncd.service"
    assert host.service(unit).is_enabled
    host.check_output(f"systemctl start {unit}")
    shown = host.check_output(f"systemctl show --property=ConditionResult,ActiveState {unit}")
    assert sorted(shown.splitlines()) == ["ActiveState=inactive", "ConditionResult=no"]


def test_time_servers_are_known_to_the_service(host: Host) -> None:
    settings = host.check_output("systemd-analyze cat-config systemd/timesyncd.conf")
    assert "NTP=ntp.example.com" in settings.splitlines()


def test_session_has_the_locale(host: Host) -> None:
    assert host.check_output("su - olivia -c 'echo $LANG'") == "C.UTF-8"


@pytest.fixture(scope="module")
def dry_run(host: Host, wait_until: Callable[..., None]) -> list[str]:
    """What unattended-upgrade says that it would do; it says nothing while apt is at work."""
    said: list[str] = []

    def says() -> bool:
        run = host.run("unattended-upgrade --dry-run --debug 2>&1")
        said[:] = run.stdout.splitlines()
        return any(line.startswith("Allowed origins") for line in said)

    wait_until(says, seconds=300, what="unattended-upgrade has its turn")
    return said


def test_security_upgrades_and_nothing_else_install_themselves(
    dry_run: list[str], suite: str
) -> None:
    allowed = next(line for line in dry_run if line.startswith("Allowed origins"))
    assert allowed.count("origin=") == 2
    assert allowed.count("label=Debian-Security") == 2
    assert f"codename={suite}-security" in allowed


def test_postgresql_waits_for_a_moment_that_somebody_chooses(dry_run: list[str]) -> None:
    assert "postgresql-(client-)?[0-9]+$" in next(
        line for line in dry_run if "blacklist" in line.lower()
    )


def test_upgrades_have_an_hour(host: Host) -> None:
    shown = host.check_output("systemctl show --property=TimersCalendar apt-daily-upgrade.timer")
    assert shown.count("OnCalendar") == 1
    assert "*-*-* 05:00:00" in shown
    assert host.service("apt-daily-upgrade.timer").is_running


def test_changed_configuration_files_do_not_hold_up_upgrades(host: Host) -> None:
    options = host.check_output("apt-config shell OPTIONS Dpkg::Options/f")
    dumped = host.check_output("apt-config dump Dpkg::Options")
    assert "--force-confold" in dumped, options


def test_journal_is_kept_on_disk_within_its_limit(host: Host) -> None:
    said = host.check_output("journalctl --sync; journalctl --unit=systemd-journald --output=cat")
    assert "System Journal (/var/log/journal/" in said
    last = [line for line in said.splitlines() if line.startswith("System Journal")][-1]
    assert "max 64M" in last.replace("64.0M", "64M")


def test_certificate_of_a_company_is_trusted_until_it_is_taken_away(
    host: Host, server_name: str
) -> None:
    assert host.run(VERIFY).rc == 0
    applied(server_name, base_extra_ca_certificates=[])
    assert host.run(VERIFY).rc != 0
    assert "Second authority" not in host.check_output(
        "openssl storeutl -noout -text -certs /etc/ssl/certs/ca-certificates.crt"
    )
    applied(server_name)
    assert host.run(VERIFY).rc == 0


def test_name_locale_and_proxy_change_and_change_back(host: Host, server_name: str) -> None:
    name = host.check_output("hostname")
    applied(server_name, base_hostname="web1", base_locale="de_DE.UTF-8")
    assert host.check_output("hostname") == "web1"
    assert host.check_output("cat /etc/hostname") == "web1"
    assert host.run("getent hosts web1").rc == 0
    assert "unable to resolve" not in host.run("sudo -n true").stderr
    assert host.check_output("su - olivia -c 'date -d 2026-03-01 +%B'") == "März"

    proxy = "http://proxy.example.com:3128"
    applied(server_name, base_hostname=name, base_apt_proxy=proxy)
    assert host.check_output("hostname") == name
    assert host.check_output("su - olivia -c 'echo $LANG'") == "C.UTF-8"
    shown = host.check_output("apt-config dump Acquire::http::Proxy")
    assert shown == f'Acquire::http::Proxy "{proxy}";'

    applied(server_name)
    assert proxy not in host.check_output("apt-config dump")
