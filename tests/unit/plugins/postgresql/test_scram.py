"""SCRAM verifiers, against the RFC's example and against PostgreSQL itself."""

from __future__ import annotations

import base64
import hmac

import pytest
from bedstone_postgresql_scram import hide_verifiers, make_verifier, matches
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.fixtures.cluster import Cluster

passwords = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=40)


def test_server_key_signs_the_example_of_rfc_7677() -> None:
    salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    message = (
        "n=user,r=rOprNGfwEbeRWgbNEkqO,"
        f"r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r={nonce}"
    )
    server_key = make_verifier("pencil", salt, 4096).rpartition(":")[2]
    signature = hmac.digest(base64.b64decode(server_key), message.encode(), "sha256")
    assert base64.b64encode(signature) == b"6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


@settings(deadline=None, max_examples=30)
@given(passwords, passwords)
def test_verifier_matches_its_own_password_only(password: str, other: str) -> None:
    verifier = make_verifier(password, iterations=2)
    assert matches(verifier, password)
    assert matches(verifier, other) is (password == other)


def test_verifier_that_postgresql_made_is_recognised(cluster: Cluster) -> None:
    stored = cluster.psql(
        "SET password_encryption = 'scram-sha-256';"
        "CREATE ROLE by_server LOGIN PASSWORD 'it''s \\a secret';"
        "SELECT rolpassword FROM pg_authid WHERE rolname = 'by_server';"
    ).strip()
    assert matches(stored, "it's \\a secret")
    assert not matches(stored, "its \\a secret")


@pytest.mark.parametrize(
    "stored", [None, "", "md5d41d8cd98f00b204e9800998ecf8427e", "SCRAM-SHA-256$4096:x$y", "secret"]
)
def test_anything_else_stored_does_not_match(stored: str | None) -> None:
    assert not matches(stored, "secret")


@pytest.mark.parametrize("password", ["", "grün", "tab\there", "line\nbreak"])
def test_password_that_would_need_saslprep_is_refused(password: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        make_verifier(password)


def test_verifiers_are_hidden_in_messages() -> None:
    verifier = make_verifier("secret", iterations=2)
    text = hide_verifiers(f"LINE 1: ALTER ROLE x PASSWORD '{verifier}' syntax error")
    assert "SCRAM" not in text
    assert text.endswith("' syntax error")
