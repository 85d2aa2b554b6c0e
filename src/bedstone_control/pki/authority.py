"""Make Bedstone's own certificate authority."""

from __future__ import annotations

import datetime as dt

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

# A certificate counts from a little earlier: a server whose clock is behind accepts it at once.
CLOCK_TOLERANCE = dt.timedelta(hours=1)


def make_authority(common_name: str, days: int) -> tuple[str, str]:
    """Make a certificate authority: a self-signed certificate and its P-256 key.

    The authority may sign servers and clients but no further authority (path length 0).

    Args:
        common_name: the name people see in the certificate, 1 to 64 characters.
        days: how long it is valid from now, in days.

    Returns:
        The certificate and the unencrypted PKCS#8 key, both as PEM text.

    Raises:
        ValueError: the name or the number of days can't be used.

    """
    if not 1 <= len(common_name) <= 64:  # noqa: PLR2004 - RFC 5280, ub-common-name
        raise ValueError(
            f"An authority's name has 1 to 64 characters, this one has {len(common_name)}: "
            f"{common_name!r}. For example: 'Bedstone CA production'."
        )
    if days < 1:
        raise ValueError(f"An authority is valid for at least one day, not {days}. Usual: 3650.")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_TOLERANCE)
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=False,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=True,
                crl_sign=True,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    key_pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), key_pem.decode()
