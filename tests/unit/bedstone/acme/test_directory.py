from __future__ import annotations

import base64
import datetime as dt
from typing import Any

import pytest
from cryptography import x509

from bedstone.acme import directory
from bedstone.acme.directory import Directory
from bedstone.acme.record import Advice
from bedstone.core.errors import BedstoneError
from bedstone.core.x509 import Certificate, first
from tests.unit.fixtures.issued import CA_PEM, NOW, pair

URL = "https://ca.example.com/ari"


def test_parts_of_a_directory_that_are_used() -> None:
    meta = {"profiles": {"shortlived": "160 h"}, "externalAccountRequired": True}
    full = {"newOrder": "x", "renewalInfo": URL, "meta": meta}
    found = directory.fetch("https://x", lambda _: full)
    assert found == Directory(URL, frozenset({"shortlived"}), external_account=True)
    assert directory.fetch("https://x", lambda _: {"newOrder": "x"}) == Directory(None, frozenset())


def test_other_documents_are_no_directory() -> None:
    with pytest.raises(BedstoneError, match="is no directory of an ACME authority"):
        directory.fetch("https://x", lambda _: {"hello": 1})


def test_identifier_is_that_of_the_standards_example() -> None:
    # RFC 9773, 4.1: the serial number's first byte keeps it positive
    key = bytes.fromhex("69885B6B87464041E1B37B847BA0AE2CDE01C8D4")
    certificate = Certificate("", NOW, NOW, "", bytes.fromhex("0087654321"), key)
    assert directory.identifier(certificate) == "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"


def test_identifier_holds_the_key_of_the_authority_and_the_serial_number() -> None:
    pem, _ = pair()
    real = x509.load_pem_x509_certificates(pem.encode())[0]
    key = x509.load_pem_x509_certificate(CA_PEM.encode()).extensions
    wanted = key.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    head, serial = directory.identifier(first(pem)).split(".")
    assert base64.urlsafe_b64decode(head + "==") == wanted
    number = base64.urlsafe_b64decode(serial + "==")
    assert int.from_bytes(number, "big", signed=True) == real.serial_number


def advice(answer: dict[str, Any]) -> Advice:
    certificate = Certificate("", NOW, NOW, "digest", b"\x01", b"\x02")
    return directory.advice(Directory(URL, frozenset()), certificate, NOW, lambda _: answer)


def test_moment_of_renewal_is_within_the_window() -> None:
    window = {"start": "2027-01-27T23:30:35Z", "end": "2027-01-29T23:30:35.25Z"}
    found = {advice({"suggestedWindow": window, "explanationURL": "https://why"}) for _ in range(9)}
    moments = {each.renew_at for each in found if each.renew_at}
    assert len(moments) > 1, "all servers at one moment"
    low, high = (dt.datetime.fromisoformat(window[key]) for key in ("start", "end"))
    assert all(low <= moment <= high for moment in moments)
    assert {each.explanation for each in found} == {"https://why"}


@pytest.mark.parametrize("answer", [{}, {"suggestedWindow": {"start": "x", "end": "y"}}])
def test_answer_without_a_window_is_an_error(answer: dict[str, Any]) -> None:
    with pytest.raises(BedstoneError, match="holds no suggested window"):
        advice(answer)


def test_window_that_ends_before_it_begins_is_no_advice() -> None:
    window = {"start": "2027-01-29T23:30:35Z", "end": "2027-01-27T23:30:35Z"}
    assert advice({"suggestedWindow": window}).renew_at is None


def test_authority_without_advice_is_not_asked() -> None:
    certificate = Certificate("", NOW, NOW, "digest", b"\x01", b"\x02")
    found = directory.advice(Directory(None, frozenset()), certificate, NOW, lambda _: 1 / 0)  # type: ignore[arg-type,return-value]
    assert found.renew_at is None


def test_only_https_is_asked() -> None:
    with pytest.raises(BedstoneError, match="begin with https"):
        directory.get_json("file:///etc/shadow")
