"""Make throw-away authorities in the directory given: NAME.crt and NAME.key."""

from __future__ import annotations

import datetime as dt
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from bedstone_control.pki.authority import make_authority


def main() -> None:
    """Make two sound authorities, an expired one, and one that is none."""
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    two = make_authority("Molecule two", 400)
    made = {
        "expired": changed(*make_authority("Molecule expired", 400), expired=True),
        "leaf": changed(*make_authority("Molecule leaf", 400), expired=False),
        "two": two,
        # Last: that it is there says that all are.
        "one": make_authority("Molecule one", 400),
    }
    for name, (certificate, key) in made.items():
        (directory / f"{name}.crt").write_text(certificate)
        (directory / f"{name}.key").touch(mode=0o600)
        (directory / f"{name}.key").write_text(key)


def changed(certificate_pem: str, key_pem: str, *, expired: bool) -> tuple[str, str]:
    """Make an authority's certificate again, as one that has expired or one that may not sign."""
    old = x509.load_pem_x509_certificate(certificate_pem.encode())
    key = serialization.load_pem_private_key(key_pem.encode(), password=None)
    ends = dt.datetime.now(dt.UTC) + dt.timedelta(days=-1 if expired else 400)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(old.subject)
        .issuer_name(old.issuer)
        .public_key(old.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(ends - dt.timedelta(days=500))
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=expired, path_length=None), critical=True)
        .sign(key, hashes.SHA256())  # type: ignore[arg-type]
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), key_pem


main()
