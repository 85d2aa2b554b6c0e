"""Certificates: read without a library, judged by the fraction of their life, as served."""

from __future__ import annotations

import datetime as dt
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bedstone.core.x509 import Certificate, parse
from bedstone.watch import certificates
from bedstone.watch.certificates import Found
from bedstone_control.pki import authority
from bedstone_control.pki.issue import Wanted, issue, load_authority

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
DAY = dt.timedelta(days=1)
CA_PEM, CA_KEY = authority.make_authority("Bedstone test", 3650)


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BEDSTONE_ROOT", str(tmp_path))
    return tmp_path


def pair(age_days: float, days: int = 90) -> tuple[str, str]:
    """Return a certificate as the project issues it, so many days ago, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")]))
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    signer = load_authority(CA_PEM, CA_KEY, NOW)
    wanted = Wanted("postgresql", "postgres", ("postgres",), days=days)
    text = issue(request.decode(), wanted, signer, NOW - age_days * DAY)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return text, private.decode()


def put(root: Path, path: str, text: str) -> Path:
    place = root / path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    return place


def judged(entry: Found | Certificate, now: dt.datetime = NOW) -> list[tuple[str, str]]:
    if isinstance(entry, Certificate):
        entry = Found("/etc/x.crt", "the certificate", "renew", entry)
    return [(alarm.severity, alarm.words) for alarm in certificates.judge([entry], now)]


# --- reading ---------------------------------------------------------------------------------


@pytest.mark.parametrize("pem", [pair(0)[0], CA_PEM])
def test_what_openssl_reads_is_read(pem: str) -> None:
    found = parse(ssl.PEM_cert_to_DER_cert(pem))
    real = x509.load_pem_x509_certificate(pem.encode())
    common = real.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    assert (found.subject, found.start, found.end) == (
        common,
        real.not_valid_before_utc,
        real.not_valid_after_utc,
    )


@pytest.mark.parametrize("year", [1970, 2049, 2050, 2120])
def test_both_forms_of_time_are_read(year: int) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "No common name")])
    end = dt.datetime(year, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
    der = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(dt.datetime(1960, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(end)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )
    found = parse(der)
    assert (found.subject, found.start.year, found.end) == ("No common name", 1960, end)


@pytest.mark.parametrize("data", [b"", b"0", b"\x30\x03abc", b"\x30\x82\xff\xffx", bytes(40)])
def test_what_is_no_certificate_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="no certificate in DER"):
        parse(data)


def test_cut_off_certificate_is_refused_at_every_byte() -> None:
    der = ssl.PEM_cert_to_DER_cert(pair(0)[0])
    for length in range(len(der)):
        with pytest.raises(ValueError, match="no certificate in DER"):
            parse(der[:length])


# --- judging ---------------------------------------------------------------------------------


@pytest.mark.parametrize("life_days", [1 / 24, 90, 3650])
@pytest.mark.parametrize(
    ("used", "severity"),
    [(0.5, None), (0.74, None), (0.76, "warning"), (0.88, "red"), (1.5, "red")],
)
def test_fraction_of_its_life_decides_however_long_that_is(
    life_days: float, used: float, severity: str | None
) -> None:
    start = NOW - used * life_days * DAY
    found = Certificate("x", start, start + life_days * DAY, "")
    assert [said for said, _ in judged(found)] == ([severity] if severity else [])


def test_words_say_when_it_ends_and_that_it_has_ended() -> None:
    start = NOW - 80 * DAY
    [(_, words)] = judged(Certificate("x", start, start + 90 * DAY, ""))
    assert words == f"the certificate /etc/x.crt ends in 10 days, on {start + 90 * DAY:%Y-%m-%d}"
    [(_, words)] = judged(Certificate("x", start, start + 78 * DAY, ""))
    assert words.endswith(": it has been over for 2 days")


def test_certificate_of_the_future_is_red_but_not_for_a_clock_that_is_a_little_off() -> None:
    later = NOW + dt.timedelta(hours=3)
    [(severity, words)] = judged(Certificate("x", later, later + DAY, ""))
    assert severity == "red"
    assert "isn't valid before" in words
    soon = NOW + dt.timedelta(minutes=1)
    assert judged(Certificate("x", soon, soon + DAY, "")) == []


# --- finding ---------------------------------------------------------------------------------


def test_all_places_are_looked_at_once(root: Path) -> None:
    put(root, "/etc/bedstone/tls/postgresql.crt", pair(0)[0])
    put(root, "/etc/bedstone/tls/ca.crt", CA_PEM + CA_PEM)
    put(root, "/usr/local/share/ca-certificates/bedstone-ca-1.crt", CA_PEM)
    put(root, "/usr/local/share/ca-certificates/company.crt", CA_PEM)
    put(root, "/etc/nginx/bedstone/tls/shop.crt", pair(0)[0])
    put(root, "/etc/letsencrypt/live/x/fullchain.pem", pair(0)[0] + CA_PEM)
    put(
        root,
        "/etc/nginx/conf.d/x.conf",
        "server {\n  ssl_certificate /etc/letsencrypt/live/x/fullchain.pem;\n}\n"
        "server {\n  ssl_certificate /etc/bedstone/tls/postgresql.crt;\n}\n",
    )
    found = {entry.place: entry for entry in certificates.gather()}
    assert sorted(found) == [
        "/etc/bedstone/tls/ca.crt",
        "/etc/bedstone/tls/ca.crt#2",
        "/etc/bedstone/tls/postgresql.crt",
        "/etc/letsencrypt/live/x/fullchain.pem",
        "/etc/letsencrypt/live/x/fullchain.pem#2",
        "/etc/nginx/bedstone/tls/shop.crt",
        "/usr/local/share/ca-certificates/company.crt",
    ]
    assert "deploy.yml" in found["/etc/bedstone/tls/postgresql.crt"].command
    assert "certbot" in found["/etc/letsencrypt/live/x/fullchain.pem"].command
    assert list(certificates.judge(found.values(), NOW)) == []


@pytest.mark.parametrize("text", ["", "no certificate", pair(0)[0].replace("MII", "AAA", 1)])
def test_file_that_holds_none_is_red(root: Path, text: str) -> None:
    put(root, "/etc/bedstone/tls/web.crt", text)
    [entry] = certificates.gather()
    [(severity, words)] = judged(entry)
    assert severity == "red"
    assert "the certificate /etc/bedstone/tls/web.crt can't be read: " in words


def test_certificate_that_nginx_names_and_that_is_gone_is_red(root: Path) -> None:
    put(root, "/etc/nginx/conf.d/x.conf", "server {\n  ssl_certificate /etc/gone.pem;\n}\n")
    assert [severity for severity, _ in judged(certificates.gather()[0])] == ["red"]


@contextmanager
def serving(tmp_path: Path, both: tuple[str, str], *, postgresql: bool = False) -> Iterator[int]:
    """A TLS server on a free port, that speaks PostgreSQL's first bytes if asked to."""
    text, key = tmp_path / "served.crt", tmp_path / "served.key"
    text.write_text(both[0])
    key.write_text(both[1])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(text, key)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                plain, _ = listener.accept()
                with suppress(OSError), plain:
                    if postgresql:
                        assert plain.recv(8) == bytes.fromhex("00000008 04d2162f")
                        plain.sendall(b"S")
                    with context.wrap_socket(plain, server_side=True) as secure:
                        secure.recv(1)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


@pytest.mark.parametrize("reloaded", [True, False])
def test_nginx_that_serves_the_old_one_is_told(
    root: Path, tmp_path: Path, *, reloaded: bool
) -> None:
    old, new = pair(80), pair(0)
    put(root, "/etc/bedstone/tls/web.crt", new[0])
    with serving(tmp_path, new if reloaded else old) as port:
        put(
            root,
            "/etc/nginx/bedstone/sites/shop.conf",
            f"server {{\n  listen {port} ssl http2;\n  listen [::]:{port} ssl;\n"
            "  server_name shop.example.com www.example.com;\n"
            "  ssl_certificate /etc/bedstone/tls/web.crt;\n}\n",
        )
        found = list(certificates.judge(certificates.gather(), NOW))
    if reloaded:
        assert found == []
    else:
        [alarm] = found
        assert (alarm.name, alarm.severity, alarm.command) == (
            "certificates/nginx at shop.example.com",
            "red",
            "`systemctl reload nginx`",
        )


@pytest.mark.parametrize("age_days", [0, 70])
def test_postgresql_that_serves_another_one_is_told(
    root: Path, tmp_path: Path, age_days: int
) -> None:
    put(root, "/etc/bedstone/tls/postgresql.crt", pair(0)[0])
    put(
        root,
        "/etc/postgresql/17/main/conf.d/10-bedstone.conf",
        "ssl_cert_file = '/etc/bedstone/tls/postgresql.crt'\n",
    )
    with serving(tmp_path, pair(age_days), postgresql=True) as port:
        put(
            root,
            "/var/lib/postgresql/17/main/postmaster.pid",
            f"1\n/var/lib/postgresql/17/main\n1\n{port}\n/run/postgresql\n*\n 1 2\nready\n",
        )
        [alarm] = certificates.judge(certificates.gather(), NOW)
    assert (alarm.name, alarm.severity) == ("certificates/PostgreSQL 17", "warning")
    assert alarm.command == "`systemctl reload postgresql@17-main`"


def test_server_that_is_down_is_no_matter_of_certificates(root: Path) -> None:
    put(root, "/etc/bedstone/tls/web.crt", pair(0)[0])
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    put(
        root,
        "/etc/nginx/conf.d/x.conf",
        f"server {{\n listen {port} ssl;\n server_name a.b;\n"
        " ssl_certificate /etc/bedstone/tls/web.crt;\n}\n",
    )
    assert list(certificates.judge(certificates.gather(), NOW)) == []


def test_certificate_that_a_site_includes_is_found(root: Path) -> None:
    text, _ = pair(70)
    put(root, "/var/lib/bedstone/acme/certbot/archive/pay/fullchain1.pem", text)
    put(
        root,
        "/etc/nginx/bedstone/certificates/pay.conf",
        "ssl_certificate /var/lib/bedstone/acme/certbot/archive/pay/fullchain1.pem;\n",
    )
    put(
        root,
        "/etc/nginx/bedstone/sites/pay.conf",
        "server {\n  listen 443 ssl;\n  server_name pay.example.com;\n"
        "  include bedstone/certificates/pay.conf;\n}\n",
    )
    (site,) = {each for each in certificates._sites() if each.port}
    assert (site.port, site.name) == (443, "pay.example.com")
    (alarm,) = certificates.judge(certificates.gather(), NOW)
    assert alarm.severity == "warning"
    assert "bedstone certificates renew" in alarm.command
