"""Certificates of Debian's `pebble`, an authority for tests, on a server next to the site's."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import again
import pytest
from web_client import Client

if TYPE_CHECKING:
    from testinfra.host import Host

UNITS = ["bedstone-certificates.service", "nginx.service"]
RECORD = "/var/lib/bedstone/acme/pay.json"
RENEW = "/usr/local/bin/bedstone certificates renew"
CERTBOT = (
    "certbot {verb} --non-interactive --server https://authority:14000/dir --config-dir"
    " /var/lib/bedstone/acme/certbot --work-dir /tmp/acme --logs-dir /tmp/acme {more}"
)
# Another directory and other domains make the certificate due.
BY_DNS = {
    "acme_directory": "https://authority:14001/dir",
    "acme_certificates": [{"name": "pay", "domains": ["example.com", "*.example.com"]}],
}
pytestmark = pytest.mark.usefixtures("without_timers")


@pytest.fixture
def authority(server: Callable[[str], Host]) -> Iterator[Host]:
    """The authority's server; it runs again after a test."""
    there = server("authority")
    yield there
    start(there)


def start(authority: Host) -> None:
    authority.check_output("systemctl start pebble")
    answers = "curl -sk https://localhost:14000/dir >/dev/null"
    authority.check_output(f"timeout 30 sh -c 'until {answers}; do sleep 0.2; done'")


def client(authority: Host, address: str) -> Client:
    """A client that trusts what the authority issues."""
    return Client(address, authority.check_output("curl -sk https://localhost:15000/roots/0"))


def served(host: Host, name: str = "pay.example.com") -> dict[str, str]:
    """Return what nginx shows for a name."""
    asked = f"openssl s_client -connect 127.0.0.1:443 -servername {name} </dev/null 2>/dev/null"
    shown = "openssl x509 -noout -issuer -serial -ext subjectAltName -text"
    text = host.check_output(f"{asked} | {shown}")
    return {
        "issuer": text.splitlines()[0],
        "serial": text.splitlines()[1],
        "names": next(line for line in text.splitlines() if "DNS:" in line),
        "text": text,
    }


def record(host: Host) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(host.check_output(f"cat {RECORD}"))
    return found


def aged(host: Host) -> None:
    """Make what is known of the certificate two days old: authorities are asked once a day."""
    change = "import json,sys,datetime as d; p=sys.argv[1]; r=json.load(open(p)); r['issued']['at']"
    change += "=(d.datetime.now(d.UTC)-d.timedelta(days=2)).isoformat(); r['advice']=None;"
    change += " json.dump(r,open(p,'w'))"
    host.check_output(f'python3 -c "{change}" {RECORD}')


def orders(authority: Host) -> int:
    """Return how many orders the authority has got."""
    return int(authority.check_output("journalctl -u pebble | grep -c 'POST /order-plz' || true"))


def test_site_serves_a_certificate_of_the_authority_for_all_domains(host: Host) -> None:
    found = served(host)
    assert "Pebble Intermediate" in found["issuer"]
    assert {"DNS:pay.example.com", "DNS:www.example.com"} <= set(found["names"].split(", ")) | {
        name.strip() for name in found["names"].split(",")
    }
    assert "id-ecPublicKey" in found["text"]


def test_keys_are_read_by_root_alone(host: Host) -> None:
    assert host.file("/var/lib/bedstone/acme").mode == 0o700
    keys = host.check_output("find /var/lib/bedstone/acme -name 'privkey*.pem' -type f -perm /077")
    assert keys == ""
    assert not host.run("runuser -u www-data -- cat /etc/bedstone/tls/pay.key").succeeded


def test_hsts_is_sent_once_clients_trust_the_certificate(
    host: Host, authority: Host, address: str
) -> None:
    browser = client(authority, address)
    assert browser.get("/static/app.css").header("Strict-Transport-Security") is None
    root = "/usr/local/share/ca-certificates/pebble-root.crt"
    curl = "curl -sk https://authority:15000/roots/0"
    try:
        host.check_output(f"{curl} > {root} && update-ca-certificates")
        host.check_output(RENEW)
        answer = browser.get("/static/app.css")
        assert answer.header("Strict-Transport-Security") == "max-age=31536000"
    finally:
        host.check_output(f"rm {root} && update-ca-certificates --fresh && {RENEW}")


def test_requests_during_a_renewal_are_all_answered(
    host: Host, authority: Host, address: str
) -> None:
    before, browser = served(host)["serial"], client(authority, address)
    failures: list[str] = []
    answered = 0
    over = threading.Event()

    def visit() -> None:
        nonlocal answered
        while not over.is_set():
            try:
                status = browser.get("/static/app.css").status
                answered += 1
                if status != 200:
                    failures.append(str(status))
            except OSError as error:
                failures.append(repr(error))

    visitor = threading.Thread(target=visit)
    visitor.start()
    try:
        host.check_output(f"{RENEW} pay --force")
    finally:
        over.set()
        visitor.join()
    assert failures == []
    assert answered > 10
    assert served(host)["serial"] != before


def test_revoked_certificate_is_renewed_by_the_timers_service(host: Host, authority: Host) -> None:
    before, asked = served(host)["serial"], orders(authority)
    more = "--no-delete-after-revoke --cert-name pay"
    host.check_output(CERTBOT.format(verb="revoke", more=more))
    aged(host)
    host.check_output("systemctl start bedstone-certificates.service")
    assert served(host)["serial"] != before
    assert record(host)["failure"] is None
    host.check_output("systemctl start bedstone-certificates.service")
    assert orders(authority) == asked + 1, "renewed once"


def test_site_serves_on_while_the_authority_is_down_and_heals(
    host: Host, authority: Host, look: Callable[[], dict[str, Any] | None]
) -> None:
    before = served(host)["serial"]
    authority.check_output("systemctl stop pebble")
    failed = host.run(f"{RENEW} pay --force")
    assert failed.rc == 1
    assert "https://authority:14000/dir can't be reached" in failed.stdout
    assert served(host)["serial"] == before
    look()
    alarms = json.loads(host.run("bedstone alarms --json").stdout)["alarms"]
    (alarm,) = [each for each in alarms if each["name"] == "acme/pay"]
    assert "the certificate of pay can't be renewed" in alarm["words"]
    assert "can't be reached" in host.run("bedstone status").stdout
    start(authority)
    host.check_output(RENEW)
    assert record(host)["failure"] is None


@pytest.mark.parametrize("how", ["forgotten", "deactivated"])
def test_account_that_is_gone_is_registered_again(host: Host, authority: Host, how: str) -> None:
    before = served(host)["serial"]
    if how == "forgotten":
        authority.check_output("systemctl restart pebble")
        start(authority)
    else:
        accounts = "/var/lib/bedstone/acme/certbot/accounts"
        host.check_output(f"cp -a {accounts} /tmp/accounts")
        host.check_output(CERTBOT.format(verb="unregister", more=""))
        host.check_output(f"rm -r {accounts} && mv /tmp/accounts {accounts}")
    host.check_output(f"{RENEW} pay --force")
    assert served(host)["serial"] != before


def test_domain_that_leads_elsewhere_is_said_before_the_authority_is_asked(
    host: Host, authority: Host, server_name: str
) -> None:
    before, asked = served(host)["serial"], orders(authority)
    domains = ["pay.example.com", "www.example.com", "wrong.example.com"]
    said = again.applied(server_name, acme_certificates=[{"name": "pay", "domains": domains}])
    said = " ".join(said.split())
    assert "wrong.example.com resolves to " in said
    # Ansible doubles the apostrophe of the sentence.
    assert "http://wrong.example.com/.well-known/acme-challenge/ can" in said
    assert "Connection refused" in said
    assert orders(authority) == asked
    assert served(host)["serial"] == before


def test_added_domain_gets_into_the_certificate(host: Host, server_name: str) -> None:
    domains = ["pay.example.com", "www.example.com", "later.example.com"]
    again.applied(server_name, acme_certificates=[{"name": "pay", "domains": domains}])
    assert "DNS:later.example.com" in served(host, "later.example.com")["names"]


def test_site_without_acme_serves_its_own_certificate_and_gets_the_other_back(
    host: Host, authority: Host, server_name: str, variables: dict[str, Any]
) -> None:
    before, asked = served(host)["serial"], orders(authority)
    declared = json.loads(host.check_output("cat /etc/bedstone/acme.json"))["certificates"]
    sites = [{**variables["nginx_sites"][0], "acme": False, "trusted": False}]
    again.applied(server_name, nginx_sites=sites, acme_state="absent", acme_certificates=[])
    assert "CN = own" in served(host)["issuer"].replace("CN=own", "CN = own")
    assert not host.file("/etc/systemd/system/bedstone-certificates.timer").exists
    again.applied(server_name, acme_certificates=declared)
    assert served(host)["serial"] == before
    assert orders(authority) == asked


def in_zone(authority: Host) -> str:
    """Return the records that prove a name; none once an order is over."""
    return authority.check_output("dig +short @127.0.0.1 TXT _acme-challenge.example.com")


def test_wildcard_is_proved_by_certbots_plugin_for_dns(
    host: Host, authority: Host, server_name: str
) -> None:
    secret = authority.check_output("sed -n 's/.*secret \"\\(.*\\)\".*/\\1/p' /etc/bind/acme.key")
    credentials = {
        "server": authority.check_output("hostname -I").split()[0],
        "name": "acme",
        "secret": secret,
        "algorithm": "HMAC-SHA256",
    }
    said = again.applied(
        server_name,
        "--diff",
        **BY_DNS,
        acme_dns_plugin="rfc2136",
        acme_dns_propagation_seconds=1,
        acme_dns_credentials="".join(
            f"dns_rfc2136_{name} = {value}\n" for name, value in credentials.items()
        ),
    )
    assert "DNS:*.example.com" in served(host)["names"]
    assert in_zone(authority) == ""
    assert secret not in said
    assert secret not in host.check_output("journalctl --no-pager -o cat; ps -ww -eo args")


def test_wildcard_is_proved_by_a_program_of_the_operators(
    host: Host, authority: Host, server_name: str, tmp_path: Path
) -> None:
    key = authority.check_output("cat /etc/bind/acme.key")
    host.check_output("umask 077; printf %%s %s > /etc/acme-dns.key", key)
    hook = tmp_path / "dns-hook"
    hook.write_text(
        "#!/bin/sh -eu\n"
        "[ $1 = create ] && verb=add || verb=delete\n"
        "printf 'server authority\\nupdate %s _acme-challenge.%s 1 TXT %s\\nsend\\n'"
        ' $verb "$CERTBOT_DOMAIN" "$CERTBOT_VALIDATION" | nsupdate -k /etc/acme-dns.key\n'
    )
    before = served(host)["serial"]
    again.applied(server_name, **BY_DNS, acme_dns_hook=str(hook))
    host.check_output(f"{RENEW} pay --force")
    assert served(host)["serial"] != before
    assert "DNS:*.example.com" in served(host)["names"]
    assert in_zone(authority) == ""


def test_handshake_without_the_authority_is_refused(address: str) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        Client(address).tls("pay.example.com")
