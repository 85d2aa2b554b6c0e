"""What the controller decides about certificates: input, when one is due, how it is signed."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.verification import PolicyBuilder, Store

from bedstone_control.pki.authority import make_authority
from bedstone_control.pki.issue import (
    KEYS,
    REPLACED,
    Authority,
    Wanted,
    is_name,
    issue,
    load_authority,
    load_trusted,
    parse_wanted,
    reasons_to_issue,
)
from bedstone_control.roles.ca import authority_files
from tests.unit.fixtures.checkout import ROOT

NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)
ONE, ONE_KEY = make_authority("Test one", 3650)
TWO, TWO_KEY = make_authority("Test two", 3650)
SITE = Wanted("site", "pay.example.com", ("pay.example.com", "192.0.2.1"))
CLIENT = Wanted("app", "payments_app", (), usage="client")


def request(key: Any = None) -> str:
    key = key or ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    signed = builder.sign(key, algorithm)
    return signed.public_bytes(serialization.Encoding.PEM).decode()


def pem_of(key: Any, password: bytes | None = None) -> str:
    encryption: Any = serialization.NoEncryption()
    if password:
        encryption = serialization.BestAvailableEncryption(password)
    text: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )
    return text.decode()


@pytest.fixture(scope="module")
def one() -> Authority:
    return load_authority(ONE, ONE_KEY, NOW)


# The authority


def test_made_authority_can_be_used(one: Authority) -> None:
    constraints = one.certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, 0)


@pytest.mark.parametrize(("name", "days"), [("", 10), ("x" * 65, 10), ("x", 0)])
def test_authority_without_name_or_days_is_refused(name: str, days: int) -> None:
    with pytest.raises(ValueError, match=r"authority"):
        make_authority(name, days)


@pytest.mark.parametrize(
    ("certificate", "key", "words"),
    [
        ("", ONE_KEY, "is no certificate in PEM format"),
        ("changeme", ONE_KEY, "is no certificate in PEM format"),
        (ONE + TWO, ONE_KEY, "holds 2 certificates"),
        (ONE, "changeme", "no private key in PEM format"),
        (ONE, TWO_KEY, "does not belong to its certificate"),
        (ONE, pem_of(ed25519.Ed25519PrivateKey.generate()), "neither an EC nor an RSA key"),
        (ONE, pem_of(ec.generate_private_key(ec.SECP256R1()), b"x"), "encrypted with a passphrase"),
    ],
)
def test_wrong_authority_is_explained(certificate: str, key: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        load_authority(certificate, key, NOW)
    lines = [line for line in key.splitlines() if line]
    assert not [line for line in lines if line in str(error.value) and line != "changeme"]


def test_authority_that_is_over_or_not_yet_valid() -> None:
    with pytest.raises(ValueError, match=r"expired on \d+-\d+-\d+. Make a new"):
        load_authority(ONE, ONE_KEY, NOW + 3651 * DAY)
    with pytest.raises(ValueError, match="Is this machine's clock right"):
        load_authority(ONE, ONE_KEY, NOW - 3 * DAY)


def test_servers_certificate_is_no_authority(one: Authority) -> None:
    with pytest.raises(ValueError, match="is not an authority's"):
        load_trusted(issue(request(), SITE, one, NOW), "It", NOW)


def test_authority_of_somebody_else_with_an_rsa_key_and_without_identifier_signs() -> None:
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Company")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, NOW - DAY, NOW + 99 * DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
    company = load_authority(pem, pem_of(key), NOW)
    issued = issue(request(), SITE, company, NOW)
    assert reasons_to_issue(issued, SITE, company, NOW) == []


# The wanted certificates


def test_common_name_is_the_first_name_and_names_are_lower_case() -> None:
    (wanted,) = parse_wanted([{"name": "a", "names": ["Pay.Example.com", "::1"], "days": None}])
    assert wanted.common_name == "pay.example.com"
    assert wanted.names == ("pay.example.com", "::1")
    assert (wanted.days, wanted.group) == (90, "ssl-cert")


def test_name_too_long_for_a_subject_is_an_alternative_name_alone(one: Authority) -> None:
    long = "a-very-long-branch-name-for-a-review-app-1234.preview.staging.intern.example.com"
    (wanted,) = parse_wanted([{"name": "a", "names": [long, "short.example.com"]}])
    pem = issue(request(), wanted, one, NOW)
    issued = x509.load_pem_x509_certificate(pem.encode())
    names = issued.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert list(issued.subject) == []
    assert names.critical
    assert names.value.get_values_for_type(x509.DNSName) == [long, "short.example.com"]
    assert reasons_to_issue(pem, wanted, one, NOW) == []


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({}, "name is a file name"),
        ({"name": "../x"}, "name is a file name"),
        ({"nmae": "x"}, "unknown key 'nmae'; known are common_name"),
        ({"name": "x"}, "needs names"),
        ({"name": "x", "usage": "both", "names": ["a"]}, "server or client"),
        ({"name": "x", "usage": "client"}, "common_name has 1 to 64"),
        ({"name": "x", "names": ["a"], "common_name": "c" * 65}, "common_name has 1 to 64"),
        ({"name": "x", "names": ["a_b c"]}, "neither a DNS name nor an IP"),
        ({"name": "x", "names": ["a"], "days": 398}, "from 1 to 397"),
        ({"name": "x", "usage": "client", "common_name": "c", "days": 826}, "from 1 to 825"),
        ({"name": "x", "names": ["a"], "days": "90"}, "days is a number"),
        ({"name": "x", "names": ["a"], "days": 30}, "renewed on every run"),
    ],
)
def test_wrong_entry(entry: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_wanted([entry])


def test_name_twice() -> None:
    with pytest.raises(ValueError, match="declared twice"):
        parse_wanted([{"name": "a", "names": ["a"]}, {"name": "a", "names": ["b"]}])


@pytest.mark.parametrize("name", ["localhost", "a.b-c.example", "*.example.com", "::1", "10.0.0.1"])
def test_names_that_can_be_certified(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize("name", ["", "a..b", "-a.b", "a.*.b", "300.1.1.1", "a b", "ä.de", "a/b"])
def test_names_that_can_not(name: str) -> None:
    assert not is_name(name)


def test_role_and_module_document_the_keys_that_are_known() -> None:
    spec = yaml.safe_load((ROOT / "roles/ca/meta/argument_specs.yml").read_text())
    option = spec["argument_specs"]["main"]["options"]["ca_certificates"]
    assert set(option["options"]) == KEYS
    text = (ROOT / "plugins/modules/certificates.py").read_text()
    options = yaml.safe_load(text.split('DOCUMENTATION = r"""')[1].split('"""')[0])["options"]
    assert set(options["certificates"]["suboptions"]) == KEYS


def test_trusted_authorities_are_a_bundle_and_a_file_each() -> None:
    files = authority_files(ONE.strip(), [TWO])
    assert [entry["path"].rpartition("/")[2] for entry in files] == [
        "ca.crt",
        "bedstone-ca-1.crt",
        "bedstone-ca-2.crt",
    ]
    first, second = sorted([ONE, TWO])
    assert [entry["content"] for entry in files] == [first + second, first, second]
    assert len(x509.load_pem_x509_certificates(files[0]["content"].encode())) == 2


def test_no_file_changes_when_another_trusted_authority_begins_to_sign() -> None:
    assert authority_files(ONE, [TWO]) == authority_files(TWO, [ONE])


# When one is due


def test_fresh_certificate_is_not_due(one: Authority) -> None:
    for wanted in (SITE, CLIENT):
        issued = issue(request(), wanted, one, NOW)
        assert reasons_to_issue(issued, wanted, one, NOW) == []
        assert reasons_to_issue(issued, wanted, one, NOW + 59 * DAY) == []


def test_order_of_the_names_does_not_matter(one: Authority) -> None:
    issued = issue(request(), SITE, one, NOW)
    turned = Wanted("site", "pay.example.com", ("192.0.2.1", "pay.example.com"))
    assert reasons_to_issue(issued, turned, one, NOW) == []


@pytest.mark.parametrize(
    ("wanted", "later", "reason"),
    [
        (SITE, 61 * DAY, "28 days are left"),
        (SITE, 91 * DAY, "it has expired"),
        (SITE, -2 * DAY, "it is not valid yet"),
        (Wanted("site", "pay.example.com", ("pay.example.com",)), DAY, "the names changed"),
        (Wanted("site", "other", SITE.names), DAY, "the common name changed"),
        (Wanted("site", SITE.common_name, SITE.names, usage="client"), DAY, "the usage changed"),
        (Wanted("site", SITE.common_name, SITE.names, renew_before_days=89), 2 * DAY, "87 days"),
    ],
)
def test_certificate_is_due(
    one: Authority, wanted: Wanted, later: dt.timedelta, reason: str
) -> None:
    issued = issue(request(), SITE, one, NOW)
    (found,) = reasons_to_issue(issued, wanted, one, NOW + later + dt.timedelta(hours=1))
    assert reason in found


def test_certificate_from_before_a_rotation_is_replaced_with_its_key(one: Authority) -> None:
    issued, second = issue(request(), SITE, one, NOW), dt.timedelta(seconds=1)
    assert reasons_to_issue(issued, SITE, one, NOW, NOW - second) == []
    assert reasons_to_issue(issued, SITE, one, NOW, NOW + second) == [REPLACED]


def test_missing_broken_and_foreign_certificates_are_due(one: Authority) -> None:
    assert reasons_to_issue(None, SITE, one, NOW) == ["there is none"]
    assert reasons_to_issue("x", SITE, one, NOW) == ["the file holds no certificate"]
    two = load_authority(TWO, TWO_KEY, NOW)
    issued = issue(request(), SITE, two, NOW)
    assert reasons_to_issue(issued, SITE, one, NOW) == ["another authority issued it"]


def test_new_authority_of_the_same_name_counts_as_another(one: Authority) -> None:
    again = load_authority(*make_authority("Test one", 3650), NOW)
    issued = issue(request(), SITE, again, NOW)
    assert reasons_to_issue(issued, SITE, one, NOW) == ["another authority issued it"]


def test_authority_near_its_end_does_not_renew_on_every_run() -> None:
    ending = load_authority(*make_authority("Ending", 20), NOW)
    issued = issue(request(), SITE, ending, NOW)
    loaded = x509.load_pem_x509_certificate(issued.encode())
    assert loaded.not_valid_after_utc == ending.certificate.not_valid_after_utc
    assert reasons_to_issue(issued, SITE, ending, NOW + DAY) == []


# How it is signed


def test_verifier_accepts_the_certificate_for_its_name_alone(one: Authority) -> None:
    issued = x509.load_pem_x509_certificate(issue(request(), SITE, one, NOW).encode())
    builder = PolicyBuilder().store(Store([one.certificate])).time(NOW)
    builder.build_server_verifier(x509.DNSName("pay.example.com")).verify(issued, [])
    with pytest.raises(x509.verification.VerificationError):
        builder.build_server_verifier(x509.DNSName("evil.example")).verify(issued, [])


def test_nothing_but_the_key_is_taken_from_the_request(one: Authority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "evil.example")])
    evil = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = evil.public_bytes(serialization.Encoding.PEM).decode()
    issued = x509.load_pem_x509_certificate(issue(pem, SITE, one, NOW).encode())
    assert issued.subject.rfc4514_string() == "CN=pay.example.com"
    assert not issued.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert issued.public_key() == key.public_key()


@pytest.mark.parametrize(
    "key",
    [ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate()],
    ids=["P-384", "Ed25519"],
)
def test_other_keys_are_not_signed(one: Authority, key: Any) -> None:
    with pytest.raises(ValueError, match="another key than a P-256 one"):
        issue(request(key), SITE, one, NOW)
