"""Role host_program: each hour, alarms are reported once, shown and exported."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import units
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from testinfra.host import Host

from bedstone_control.pki.authority import make_authority
from bedstone_control.pki.issue import Wanted, issue, load_authority

UNITS = ["bedstone-alarms.service", "bedstone-metrics.service"]
METRICS = "/var/lib/prometheus/node-exporter/bedstone.prom"
CERTIFICATE = "/etc/bedstone/tls/web.crt"
LOOPS = "molecule-loops.service"
UNIT = f"/run/systemd/system/{LOOPS}"
CRASHES = """\
[Unit]
StartLimitIntervalSec=0
[Service]
ExecStart=/bin/false
Restart=always
RestartSec=100ms
"""

pytestmark = pytest.mark.usefixtures("without_timers", "_told_before")


@pytest.fixture(scope="module")
def _told_before(host: Host) -> Iterator[None]:
    """Earlier alarms of this server were reported before, and those of a test are over after it."""
    host.check_output("systemctl start bedstone-alarms.service")
    yield
    host.check_output("rm -f %s; systemctl start bedstone-alarms.service", CERTIFICATE)


def issued(days_ago: int) -> str:
    """Return a certificate of 90 days as the project issues it, so many days ago."""
    now = dt.datetime.now(dt.UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    signed = request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    authority = load_authority(*make_authority("Molecule", 3650), now)
    wanted = Wanted("web", "web.example.com", ("web.example.com",))
    return issue(signed.decode(), wanted, authority, now - dt.timedelta(days=days_ago))


def alarms(host: Host) -> dict[str, Any]:
    found = json.loads(host.run("bedstone alarms --json").stdout)["alarms"]
    return {alarm["name"]: alarm for alarm in found}


def test_timer_looks_each_hour(host: Host) -> None:
    assert host.service("bedstone-alarms.timer").is_enabled


def test_bare_server_has_nothing_red_and_nothing_that_cannot_be_judged(host: Host) -> None:
    """Its clock is the machine's, and it has neither Docker nor PostgreSQL."""
    found = alarms(host)
    # The disk's free space is the testing machine's.
    assert not [
        name
        for name, alarm in found.items()
        if alarm["check"] != "disks" and (alarm["severity"] == "red" or "unjudged" in name)
    ]


def test_certificate_near_its_end_is_told_once_and_so_is_its_renewal(
    host: Host, look: Callable[[], dict[str, Any] | None]
) -> None:
    host.check_output("install -d /etc/bedstone/tls")
    host.check_output("printf %%s %s > %s", issued(80), CERTIFICATE)
    told = look()
    assert told
    assert (told["event"], told["app"]) == ("failure", None)
    assert f"certificate {CERTIFICATE} ends in 9 days" in told["title"]
    assert "deploy.yml" in told["hint"]
    assert look() is None

    status = json.loads(host.run("bedstone status --json").stdout)
    assert [problem for problem in status["problems"] if CERTIFICATE in problem]
    units.settle(host)
    written = host.file(METRICS).content_string
    assert f'bedstone_alarm{{alarm="certificates/{CERTIFICATE}",severity="red"}} 1' in written
    labels = f'place="{CERTIFICATE}",subject="web.example.com"'
    assert f"bedstone_certificate_not_after_timestamp_seconds{{{labels}}}" in written

    host.check_output("printf %%s %s > %s", issued(0), CERTIFICATE)
    assert f"certificates/{CERTIFICATE}" not in alarms(host)
    # It may only have come and gone.
    assert look() is None
    told = look()
    assert told
    assert told["event"] == "recovered"
    assert CERTIFICATE in told["title"]
    assert look() is None


def test_service_that_crashes_again_and_again_is_told(
    host: Host, look: Callable[[], dict[str, Any] | None], wait_until: Callable[..., None]
) -> None:
    host.check_output("printf %%s %s > %s && systemctl daemon-reload", CRASHES, UNIT)
    try:
        host.run("systemctl start --no-block %s", LOOPS)
        restarts = f"systemctl show -P NRestarts {LOOPS}"
        wait_until(lambda: int(host.check_output(restarts)) > 3, what="it was restarted")
        told = look()
        assert told
        assert f"{LOOPS} crashes again and again" in told["title"].lower()
        assert f"journalctl -u {LOOPS}" in told["hint"]
        assert look() is None
    finally:
        host.check_output("systemctl stop %s; rm %s; systemctl daemon-reload", LOOPS, UNIT)
        host.run("systemctl reset-failed %s", LOOPS)
    assert look() is None
    told = look()
    assert told
    assert told["event"] == "recovered"


def test_check_that_fails_is_told_and_the_others_go_on(
    host: Host, look: Callable[[], dict[str, Any] | None]
) -> None:
    """A file that stands where a directory should be: the certificates can't be looked for."""
    host.check_output("mv /etc/nginx /etc/nginx.away 2>/dev/null; mkdir -p /etc/nginx/x.conf")
    try:
        told = look()
        assert told
        assert "certificates couldn't be judged" in told["title"].lower()
        assert "units" not in json.loads(host.run("bedstone alarms --json").stdout)["unjudged"]
    finally:
        host.check_output(
            "rm -r /etc/nginx; ! test -e /etc/nginx.away || mv /etc/nginx.away /etc/nginx"
        )
