"""Who gets a connection, and which."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from testinfra.host import Host
    from web_client import Client

UNITS = ["nginx.service"]
OLD = {"ciphers": "ALL:@SECLEVEL=0"}


def test_plain_http_redirects_with_host_path_query_and_method_kept(client: Client) -> None:
    answer = client.plain("/a/b?c=d", "www.pay.example.com", method="POST")
    assert answer is not None
    assert answer.status == 308
    assert answer.header("Location") == "https://www.pay.example.com/a/b?c=d"


def test_unknown_host_gets_no_answer_on_plain_http(client: Client) -> None:
    assert client.plain("/", "evil.example") is None


def test_address_as_host_gets_no_answer_on_plain_http(client: Client, address: str) -> None:
    assert client.plain("/", address) is None


@pytest.mark.parametrize("name", ["evil.example", ""], ids=["unknown name", "no name"])
def test_unknown_name_gets_no_handshake(client: Client, name: str) -> None:
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        client.tls(name)


def test_unknown_host_inside_a_known_handshake_is_refused(client: Client) -> None:
    answer = client.get("/", {"Host": "evil.example"})
    assert answer.status == 421


def test_acme_challenge_is_answered_on_plain_http(host: Host, client: Client) -> None:
    folder = "/var/www/bedstone-acme/.well-known/acme-challenge"
    host.check_output(f"mkdir -p {folder} && echo the-proof > {folder}/token")
    answer = client.plain("/.well-known/acme-challenge/token", "shop.example.com")
    host.check_output(f"rm -r {folder}")
    assert answer is not None
    assert (answer.status, answer.body) == (200, b"the-proof\n")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_current_protocols_are_spoken(client: Client, version: ssl.TLSVersion) -> None:
    with client.tls(minimum_version=version, maximum_version=version) as connection:
        assert connection.version() == version.name.replace("_", ".")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_protocols_are_refused(client: Client, version: ssl.TLSVersion) -> None:
    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        client.tls(minimum_version=version, maximum_version=version, **OLD)


@pytest.mark.parametrize("cipher", ["ECDHE-ECDSA-AES128-SHA", "AES128-GCM-SHA256"])
def test_ciphers_without_forward_secrecy_or_authentication_are_refused(
    client: Client, cipher: str
) -> None:
    with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
        client.tls(ciphers=f"{cipher}:@SECLEVEL=0", maximum_version=ssl.TLSVersion.TLSv1_2)


def test_no_session_tickets_are_given_out_for_tls_1_2(client: Client) -> None:
    with client.tls(maximum_version=ssl.TLSVersion.TLSv1_2) as connection:
        session = connection.session
        assert session is not None
        assert not session.has_ticket


def test_http_2_is_offered_and_works(host: Host, client: Client) -> None:
    with client.tls(alpn=["h2", "http/1.1"]) as connection:
        assert connection.selected_alpn_protocol() == "h2"
    printed = host.check_output(
        "curl --silent --http2 --cacert /etc/bedstone/tls/pay.crt --output /dev/null "
        "--resolve pay.example.com:443:127.0.0.1 --write-out '%{http_version} %{http_code}' "
        "https://pay.example.com/"
    )
    assert printed == "2 200"


def test_each_site_has_its_own_certificate(client: Client) -> None:
    for name in ("pay.example.com", "shop.example.com"):
        with client.tls(name) as connection:  # its name is verified
            assert connection.version() == "TLSv1.3"


def test_configuration_is_accepted_without_warnings(host: Host) -> None:
    tested = host.run("nginx -t")
    assert tested.rc == 0
    assert "warn" not in tested.stderr


def test_error_log_holds_no_warning_about_the_configuration(host: Host) -> None:
    log = host.file("/var/log/nginx/error.log").content_string
    # An nginx that was killed may hold its ports for a moment longer; the next one waits for them,
    # or systemd starts another one.
    held = ("Address already in use", "still could not bind()")
    lines = [line for line in log.splitlines() if not any(words in line for words in held)]
    assert not [line for line in lines if "[emerg]" in line or "deprecated" in line]
