"""The served certificate against the file's, on a server of our own that speaks the protocol."""

from __future__ import annotations

import datetime as dt
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bedstone_postgresql_tls import (
    SSL_REQUEST,
    ServerError,
    addresses,
    first_certificate,
    pair_problems,
    served_problems,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def make_pair(directory: Path, name: str) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    paths = directory / f"{name}.crt", directory / f"{name}.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


@contextmanager
def postgresql_like(answer: bytes, pair: tuple[Path, Path]) -> Iterator[int]:
    """Answer one SSLRequest on a free port of 127.0.0.1; give its number."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            plain, _ = listening.accept()
            with plain:
                assert plain.recv(8) == SSL_REQUEST
                plain.sendall(answer)
                if answer == b"S":
                    context.wrap_socket(plain, server_side=True).close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        thread.join(10)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return make_pair(tmp_path, "served")


def test_served_certificate_of_the_file_is_no_problem(pair: tuple[Path, Path]) -> None:
    with postgresql_like(b"S", pair) as port:
        assert served_problems("127.0.0.1", port, pair[0]) == []


def test_another_served_certificate_is_told(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    renewed, _ = make_pair(tmp_path, "renewed")
    with postgresql_like(b"S", pair) as port:
        (problem,) = served_problems("127.0.0.1", port, renewed)
    assert f"on 127.0.0.1 port {port} serves another certificate" in problem
    assert str(renewed) in problem


def test_server_without_tls_is_told(pair: tuple[Path, Path]) -> None:
    with postgresql_like(b"N", pair) as port:
        (problem,) = served_problems("127.0.0.1", port, pair[0])
    assert "answers without TLS" in problem


def test_address_that_is_not_listened_on_is_told(pair: tuple[Path, Path]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    (problem,) = served_problems("127.0.0.1", port, pair[0])
    assert f"doesn't answer on 127.0.0.1 port {port}" in problem
    assert "systemctl restart" in problem


def test_key_of_another_certificate_is_told(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    _, other_key = make_pair(tmp_path, "other")
    assert pair_problems(*pair) == []
    assert pair_problems(pair[0], other_key) == [
        f"The key {other_key} doesn't belong to the certificate {pair[0]}."
    ]


def test_missing_key_is_told_with_its_path(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    (problem,) = pair_problems(pair[0], tmp_path / "gone.key")
    assert "gone.key" in problem


def test_file_without_a_certificate_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty.crt").write_text("")
    with pytest.raises(ServerError, match=r"empty\.crt holds no certificate"):
        first_certificate(tmp_path / "empty.crt")


@pytest.mark.parametrize(
    ("setting", "asked"),
    [
        ("localhost, 172.17.0.1", ["localhost", "172.17.0.1"]),
        ("*", ["127.0.0.1"]),
        ("0.0.0.0,::", ["127.0.0.1", "::1"]),
        ("", []),
    ],
)
def test_every_listening_address_is_asked(setting: str, asked: list[str]) -> None:
    assert addresses(setting) == asked
