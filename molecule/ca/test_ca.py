"""What certificates prove, which accounts can read their keys, and when they are issued again."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from again import applied, apply, refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testinfra.host import Host

UNITS = ["reader.service"]
TLS = "/etc/bedstone/tls"
# Without the system's trust store, which holds the authority too.
ONLY = "openssl verify -no-CApath -no-CAstore -x509_strict -CAfile"
VERIFY = f"{ONLY} {TLS}/ca.crt"


def authority(name: str) -> dict[str, str]:
    """Return an authority of this scenario as the role's arguments."""
    directory = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "authorities"
    return {
        "ca_certificate": (directory / f"{name}.crt").read_text(),
        "ca_key": (directory / f"{name}.key").read_text(),
    }


def fingerprint(host: Host, name: str = "site") -> str:
    return str(host.check_output(f"openssl x509 -in {TLS}/{name}.crt -noout -fingerprint -sha256"))


def key_of(host: Host, name: str = "site") -> str:
    return str(host.check_output(f"sha256sum < {TLS}/{name}.key"))


@pytest.fixture(scope="module", autouse=True)
def _put_back(host: Host) -> Iterator[None]:
    """Let the server be as the scenario says again, so that verify can run twice."""
    yield
    applied(host.backend.get_hostname())


@pytest.fixture
def certificates(variables: dict[str, Any]) -> list[dict[str, Any]]:
    """The scenario's certificates, to change."""
    return copy.deepcopy(variables["ca_certificates"])


# Their proof


@pytest.mark.parametrize("name", ["pay.example.com", "api.pay.example.com"])
def test_certificate_proves_its_names(host: Host, name: str) -> None:
    ended = host.run(f"{VERIFY} -purpose sslserver -verify_hostname {name} {TLS}/site.crt")
    assert ended.rc == 0, ended.stderr


def test_certificate_proves_its_address(host: Host) -> None:
    assert host.run(f"{VERIFY} -verify_ip 192.0.2.7 {TLS}/site.crt").rc == 0


@pytest.mark.parametrize("name", ["evil.example", "example.com", "a.b.pay.example.com"])
def test_another_name_is_refused(host: Host, name: str) -> None:
    ended = host.run(f"{VERIFY} -verify_hostname {name} {TLS}/site.crt")
    assert ended.rc != 0
    assert "hostname mismatch" in ended.stderr.lower()


def test_another_authority_is_refused(host: Host) -> None:
    host.check_output(
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout /dev/null -out /tmp/o.crt"
        " -subj /CN=other 2>/dev/null"
    )
    assert host.run(f"{ONLY} /tmp/o.crt {TLS}/site.crt").rc != 0


def test_client_certificate_is_for_clients_only(host: Host) -> None:
    assert host.run(f"{VERIFY} -purpose sslclient {TLS}/payments.crt").rc == 0
    assert host.run(f"{VERIFY} -purpose sslserver {TLS}/payments.crt").rc != 0
    assert host.run(f"{VERIFY} -purpose sslclient {TLS}/site.crt").rc != 0
    subject = host.check_output(f"openssl x509 -in {TLS}/payments.crt -noout -subject")
    assert subject.replace(" ", "") == "subject=CN=payments_app"


def test_certificate_can_not_sign_another(host: Host) -> None:
    text = host.check_output(f"openssl x509 -in {TLS}/site.crt -noout -text")
    assert "CA:FALSE" in text
    assert "Certificate Sign" not in text


def test_system_trusts_the_authority(host: Host) -> None:
    store = "/etc/ssl/certs/ca-certificates.crt"
    assert host.run(f"{ONLY} {store} {TLS}/site.crt").rc == 0


def test_tls_server_with_the_pair_is_accepted_by_a_client(host: Host) -> None:
    ended = host.run(
        f"openssl s_server -accept 4433 -cert {TLS}/site.crt -key {TLS}/site.key -naccept 2 -www "
        ">/dev/null 2>&1 & "
        "for i in $(seq 600); do ss -ltn | grep -q :4433 && break; sleep 0.1; done; "
        "client='openssl s_client -connect 127.0.0.1:4433 -brief -verify_return_error"
        f" -CAfile {TLS}/ca.crt';"
        "$client -verify_hostname pay.example.com </dev/null && "
        "! $client -verify_hostname evil.example </dev/null"
    )
    assert ended.rc == 0, ended.stderr
    assert "Verification: OK" in ended.stderr


# Who can read what


def test_key_is_readable_for_root_and_its_group_alone(host: Host) -> None:
    key = host.file(f"{TLS}/site.key")
    assert (key.user, key.group, key.mode) == ("root", "ssl-cert", 0o640)
    assert host.run(f"setpriv --reuid=nobody --regid=nogroup --clear-groups cat {key.path}").rc != 0
    assert (
        host.run(f"setpriv --reuid=nobody --regid=ssl-cert --clear-groups cat {key.path}").rc == 0
    )


def test_certificate_has_the_owner_that_was_asked_for(host: Host) -> None:
    for path in (f"{TLS}/payments.key", f"{TLS}/payments.crt"):
        assert (host.file(path).user, host.file(path).group) == ("daemon", "daemon")


def test_authoritys_key_is_nowhere_on_the_server(host: Host) -> None:
    # One line from the middle of the key's PEM text.
    line = authority("one")["ca_key"].splitlines()[1]
    searched = "/etc /var /usr/local /root /home /tmp /run /opt /srv"
    ended = host.run(f"grep -rlF --devices=skip -e '{line}' {searched}")
    assert ended.stdout == ""
    assert host.run("grep -rlF --devices=skip -e 'BEGIN CERTIFICATE' /etc/bedstone").stdout


def test_authoritys_key_appears_in_no_output(server_name: str) -> None:
    run = apply(server_name, "-vvvv", "--diff")
    said = run.stdout + run.stderr
    assert "SSH: EXEC" in said
    for line in authority("one")["ca_key"].splitlines():
        assert line not in said


def test_keys_never_reach_the_controller(host: Host) -> None:
    line = host.check_output(f"sed -n 2p {TLS}/site.key")
    directory = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
    texts = [path.read_bytes() for path in directory.rglob("*") if path.is_file()]
    assert texts
    assert not [text for text in texts if line.encode() in text]


# When they are issued


def test_reader_was_told(host: Host) -> None:
    assert host.file("/run/reader-has-read").content_string == (
        host.check_output(f"sha256sum {TLS}/site.crt") + "\n"
    )


def test_certificate_close_to_its_end_is_renewed_on_its_key(
    host: Host, server_name: str, certificates: list[dict[str, Any]]
) -> None:
    short = [{**certificates[0], "names": ["pay.example.com"], "days": 20, "renew_before_days": 10}]
    applied(server_name, ca_certificates=[*short, certificates[1]])
    issued, key, other = fingerprint(host), key_of(host), fingerprint(host, "payments")
    assert host.run(f"openssl x509 -in {TLS}/site.crt -noout -checkend {21 * 86400}").rc != 0
    short[0] |= {"days": 90, "renew_before_days": 30}
    said = applied(server_name, "--diff", ca_certificates=[*short, certificates[1]])
    assert "certificate site is issued: 19 days are left" in said
    assert fingerprint(host) != issued
    assert key_of(host) == key
    assert fingerprint(host, "payments") == other
    assert host.run(f"openssl x509 -in {TLS}/site.crt -noout -checkend {89 * 86400}").rc == 0
    test_reader_was_told(host)


def test_new_name_is_issued_and_check_mode_says_so_first(
    host: Host, server_name: str, certificates: list[dict[str, Any]]
) -> None:
    before = fingerprint(host)
    certificates[0]["names"].append("new.example.com")
    said = applied(server_name, "--check", "--diff", ca_certificates=certificates)
    assert "certificate site is issued: the names changed" in said
    assert fingerprint(host) == before
    applied(server_name, ca_certificates=certificates)
    assert host.run(f"{VERIFY} -verify_hostname new.example.com {TLS}/site.crt").rc == 0


def test_lost_key_is_replaced_with_its_certificate(host: Host, server_name: str) -> None:
    key = key_of(host)
    host.check_output(f"rm {TLS}/site.key")
    applied(server_name)
    assert key_of(host) != key
    assert host.run(f"{VERIFY} {TLS}/site.crt").rc == 0
    public = "openssl x509 -in {0}.crt -noout -pubkey; openssl pkey -in {0}.key -pubout"
    lines = host.check_output(public.format(f"{TLS}/site")).splitlines()
    assert lines[: len(lines) // 2] == lines[len(lines) // 2 :]


def test_key_that_others_could_read_is_closed_again(host: Host, server_name: str) -> None:
    host.check_output(f"chmod 0644 {TLS}/site.key")
    applied(server_name)
    assert host.file(f"{TLS}/site.key").mode == 0o640


def test_both_authorities_are_trusted_while_one_replaces_the_other(
    host: Host, server_name: str
) -> None:
    old = f"{TLS}/old.pem"
    host.check_output(f"cp {TLS}/site.crt {old}")
    also = {"ca_also_trusted": [authority("one")["ca_certificate"]]}
    said = applied(server_name, "--diff", **authority("two"), **also)
    assert "certificate site is issued: another authority issued it" in said
    store = "/etc/ssl/certs/ca-certificates.crt"
    for trusted in (f"{TLS}/ca.crt", store):
        for certificate in (old, f"{TLS}/site.crt"):
            assert host.run(f"{ONLY} {trusted} {certificate}").rc == 0
    applied(server_name, **authority("two"))
    assert host.run(f"{ONLY} {store} {old}").rc != 0
    host.check_output(f"rm {old}")


def test_certificate_that_is_no_longer_listed_is_removed_with_its_key(
    host: Host, server_name: str, certificates: list[dict[str, Any]]
) -> None:
    applied(server_name, ca_certificates=certificates[:1])
    assert not host.file(f"{TLS}/payments.key").exists
    assert not host.file(f"{TLS}/payments.crt").exists
    assert host.file(f"{TLS}/site.crt").exists


# What is refused


# The unit tests have all kinds of wrong input; here it is that nothing changes.
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: authority("expired"), "expired on"),
        (lambda: authority("leaf") | {"ca_key": "changeme"}, "is not an authority's"),
        (lambda: {"ca_certificates": [{"name": "x"}]}, "needs names"),
    ],
    ids=["expired", "no authority", "no name"],
)
def test_wrong_input_is_refused_before_anything_changes(
    host: Host, server_name: str, wrong: Any, words: str
) -> None:
    everything = f"find {TLS} /usr/local/share/ca-certificates -type f -exec sha256sum {{}} +"
    before = host.check_output(everything)
    said = refused(server_name, **wrong())
    assert words in said
    assert "PRIVATE KEY-----" not in said
    assert host.check_output(everything) == before
