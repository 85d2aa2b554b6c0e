"""Sign certificates with Bedstone's own authority, and decide when one is due.

Profile: RFC 5280 end-entity certificates on P-256 keys, names only in the subject alternative
name, at most 397 days for servers (what browsers accept).
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import ipaddress
import re
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bedstone_control.pki.authority import CLOCK_TOLERANCE

LONGEST_SERVER_DAYS = 397
LONGEST_CLIENT_DAYS = 825
LONGEST_COMMON_NAME = 64
# The reason for which a new key is made, too.
REPLACED = "it is to be replaced with its key"
USAGES = {
    "server": ExtendedKeyUsageOID.SERVER_AUTH,
    "client": ExtendedKeyUsageOID.CLIENT_AUTH,
}
KEYS = {
    "name",
    "common_name",
    "names",
    "usage",
    "days",
    "renew_before_days",
    "owner",
    "group",
    "reload",
}
_NAME = r"[a-z0-9][a-z0-9._-]{0,62}"
AUTHORITY_HELP = (
    "`bedstone_secrets.ca` in the inventory's vault.yml holds the authority's certificate and key "
    "as PEM text; the command that makes a new inventory makes both."
)


@dataclasses.dataclass(frozen=True)
class Authority:
    """An authority that has been checked: certificate and key belong together and can sign."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A certificate as it should be."""

    name: str
    common_name: str | None
    names: tuple[str, ...]
    usage: str = "server"
    days: int = 90
    renew_before_days: int = 30
    owner: str = "root"
    group: str = "ssl-cert"
    reload: tuple[str, ...] = ()


def load_authority(certificate_pem: str, key_pem: str, now: dt.datetime) -> Authority:
    """Read and check an authority.

    Args:
        certificate_pem: its certificate.
        key_pem: its unencrypted private key.
        now: the time to judge by, with a time zone.

    Raises:
        ValueError: it can't sign; the text says why and where it comes from.

    """
    certificate = load_trusted(certificate_pem, "The authority's certificate", now)
    try:
        key = serialization.load_pem_private_key(key_pem.encode(), password=None)
    except TypeError:
        raise ValueError(
            f"The authority's key is encrypted with a passphrase. {AUTHORITY_HELP}"
        ) from None
    except ValueError:
        # The library's own text could hold pieces of the key.
        raise ValueError(
            f"The authority's key is no private key in PEM format. {AUTHORITY_HELP}"
        ) from None
    if not isinstance(key, (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey)):
        raise ValueError(  # noqa: TRY004 - the text is at fault, not its type
            f"The authority's key is neither an EC nor an RSA key. {AUTHORITY_HELP}"
        )
    if _spki(key.public_key()) != _spki(certificate.public_key()):
        raise ValueError(
            f"The authority's key does not belong to its certificate. {AUTHORITY_HELP}"
        )
    return Authority(certificate, key)


def load_trusted(pem: str, what: str, now: dt.datetime) -> x509.Certificate:
    """Read one certificate of an authority and check that it can be trusted as one.

    Args:
        pem: the certificate.
        what: names it in messages, like "The authority's certificate".
        now: the time to judge by, with a time zone.

    Raises:
        ValueError: it is no certificate, no authority's, or not valid now.

    """
    try:
        certificates = x509.load_pem_x509_certificates(pem.encode())
    except ValueError as error:
        raise ValueError(
            f"{what} is no certificate in PEM format ({error}). {AUTHORITY_HELP}"
        ) from error
    if len(certificates) != 1:
        raise ValueError(f"{what} holds {len(certificates)} certificates instead of one.")
    certificate = certificates[0]
    subject = certificate.subject.rfc4514_string()
    try:
        is_authority = certificate.extensions.get_extension_for_class(
            x509.BasicConstraints
        ).value.ca
    except x509.ExtensionNotFound:
        is_authority = False
    if not is_authority:
        raise ValueError(
            f"{what} ({subject}) is not an authority's: it says nothing of CA:TRUE. "
            f"{AUTHORITY_HELP}"
        )
    if certificate.not_valid_after_utc <= now:
        raise ValueError(
            f"{what} ({subject}) expired on {certificate.not_valid_after_utc:%Y-%m-%d}. Make a new "
            "authority, trust both for a while (ca_also_trusted), then issue with the new one."
        )
    if certificate.not_valid_before_utc > now + dt.timedelta(days=1):
        raise ValueError(
            f"{what} ({subject}) is valid only from {certificate.not_valid_before_utc:%Y-%m-%d}. "
            "Is this machine's clock right?"
        )
    return certificate


def parse_wanted(entries: list[dict[str, Any]]) -> list[Wanted]:
    """Check the list of wanted certificates.

    Raises:
        ValueError: all problems, each with the entry it is in.

    """
    problems: list[str] = []
    wanted: list[Wanted] = []
    for number, given in enumerate(entries):
        entry = {key: value for key, value in given.items() if value is not None}
        where = f"certificate {entry.get('name', number + 1)!r}"
        found = _problems_of(entry, where)
        problems.extend(found)
        if not found:
            names = tuple(str(name).lower() for name in entry.get("names", []))
            common_name = entry.get("common_name") or _fitting(names)
            reload = tuple(entry.get("reload", ()))
            more = {"names": names, "common_name": common_name, "reload": reload}
            wanted.append(Wanted(**{**entry, **more}))
    seen = [certificate.name for certificate in wanted]
    problems.extend(
        f"certificate {name!r} is declared twice."
        for name in sorted({n for n in seen if seen.count(n) > 1})
    )
    if problems:
        raise ValueError("\n".join(problems))
    return wanted


def _problems_of(entry: dict[str, Any], where: str) -> list[str]:
    problems = [
        f"{where}: unknown key {key!r}; known are {', '.join(sorted(KEYS))}."
        for key in sorted(set(entry) - KEYS)
    ]
    usage, days = entry.get("usage", "server"), entry.get("days", 90)
    before = entry.get("renew_before_days", 30)
    names = entry.get("names") or []
    if not re.fullmatch(rf"({_NAME}/)?{_NAME}", str(entry.get("name", ""))):
        problems.append(
            f"{where}: name is a file name like 'postgresql' (a-z, 0-9, . _ -), or one in a "
            "directory of its own like 'pay_app/postgresql'."
        )
    if usage not in USAGES:
        problems.append(f"{where}: usage is server or client, not {usage!r}.")
    if usage == "server" and not names:
        problems.append(f"{where}: a server's certificate needs names, like [pay.example.com].")
    problems.extend(
        f"{where}: {name!r} is neither a DNS name nor an IP address."
        for name in names
        if not is_name(str(name))
    )
    common_name = str(entry.get("common_name", ""))
    if len(common_name) > LONGEST_COMMON_NAME or not (common_name or names):
        problems.append(f"{where}: common_name has 1 to {LONGEST_COMMON_NAME} characters.")
    longest = LONGEST_SERVER_DAYS if usage == "server" else LONGEST_CLIENT_DAYS
    if not isinstance(days, int) or not 1 <= days <= longest:
        problems.append(f"{where}: days is a number from 1 to {longest}, not {days!r}.")
    elif not isinstance(before, int) or not 0 <= before < days:
        problems.append(
            f"{where}: renew_before_days ({before!r}) is smaller than days ({days}), or the "
            "certificate would be renewed on every run."
        )
    return problems


def _fitting(names: tuple[str, ...]) -> str | None:
    """Return the name that is the subject as well, None when it is too long for one.

    Clients read the alternative names alone (RFC 9525, section 2); RFC 5280 ends a common name at
    64 characters, and a domain at 253.
    """
    return names[0] if len(names[0]) <= LONGEST_COMMON_NAME else None


def is_name(name: str) -> bool:
    """Return whether a certificate can be made out for this: a DNS name, `*.` too, or an IP."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        label = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?"
        longest = 253
        return (
            len(name) <= longest
            and re.fullmatch(rf"(\*\.)?{label}(\.{label})*", name.lower()) is not None
            and not re.fullmatch(r"[0-9.]+", name)
        )
    return True


def reasons_to_issue(
    present_pem: str | None,
    wanted: Wanted,
    authority: Authority,
    now: dt.datetime,
    issued_after: dt.datetime | None = None,
) -> list[str]:
    """Return why a certificate has to be issued; nothing when the present one will do.

    Args:
        present_pem: the certificate on the server, or None.
        wanted: the certificate as it should be.
        authority: the one that has to have issued it.
        now: the time to judge by, with a time zone.
        issued_after: an earlier certificate won't do.

    """
    if present_pem is None:
        return ["there is none"]
    try:
        present = x509.load_pem_x509_certificate(present_pem.encode())
    except ValueError:
        return ["the file holds no certificate"]
    reasons = []
    try:
        present.verify_directly_issued_by(authority.certificate)
    except (ValueError, TypeError, InvalidSignature):
        reasons.append("another authority issued it")
    if _common_name(present) != wanted.common_name:
        reasons.append("the common name changed")
    if _names(present) != set(_general_names(wanted.names)):
        reasons.append("the names changed")
    if _usages(present) != [USAGES[wanted.usage]]:
        reasons.append("the usage changed")
    if is_before(present, issued_after):
        reasons.append(REPLACED)
    left = present.not_valid_after_utc - now
    # An authority near its own end can't give more: then a new certificate would be no better.
    gained = _not_after(wanted, authority, now) - present.not_valid_after_utc
    if left < dt.timedelta(days=wanted.renew_before_days) and gained > dt.timedelta(days=1):
        reasons.append("it has expired" if left < dt.timedelta(0) else f"{left.days} days are left")
    if present.not_valid_before_utc > now + CLOCK_TOLERANCE:
        reasons.append("it is not valid yet")
    return reasons


def is_before(certificate: x509.Certificate, moment: dt.datetime | None) -> bool:
    """Return whether a certificate of ours was issued before a moment, False without one."""
    return moment is not None and certificate.not_valid_before_utc + CLOCK_TOLERANCE < moment


def issue(request_pem: str, wanted: Wanted, authority: Authority, now: dt.datetime) -> str:
    """Sign a server's request; only its public key is taken from it.

    Args:
        request_pem: the certificate signing request.
        wanted: the certificate as it should be.
        authority: signs.
        now: the time it counts from, with a time zone.

    Raises:
        ValueError: the request isn't signed by its own key, or that is no P-256 key.

    """
    request = x509.load_pem_x509_csr(request_pem.encode())
    key = request.public_key()
    if not request.is_signature_valid:
        raise ValueError(f"The request for {wanted.name} is not signed by its own key.")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError(  # noqa: TRY004 - the request is at fault, not its type
            f"The request for {wanted.name} is for another key than a P-256 one."
        )
    now = now.replace(microsecond=0)
    subject = (
        [x509.NameAttribute(NameOID.COMMON_NAME, wanted.common_name)] if wanted.common_name else []
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(subject))
        .issuer_name(authority.certificate.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_TOLERANCE)
        .not_valid_after(_not_after(wanted, authority, now))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_signature_only(), critical=True)
        .add_extension(x509.ExtendedKeyUsage([USAGES[wanted.usage]]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(_authority_key_identifier(authority.certificate), critical=False)
    )
    if wanted.names:
        names = x509.SubjectAlternativeName(_general_names(wanted.names))
        # RFC 5280, section 4.1.2.6: critical where the subject is empty.
        builder = builder.add_extension(names, critical=not subject)
    certificate = builder.sign(authority.key, hashes.SHA256())
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _not_after(wanted: Wanted, authority: Authority, now: dt.datetime) -> dt.datetime:
    own = now.replace(microsecond=0) + dt.timedelta(days=wanted.days)
    return min(own, authority.certificate.not_valid_after_utc)


def _signature_only() -> x509.KeyUsage:
    """Return what TLS 1.2 and 1.3 ask of an EC key: signatures, and nothing else."""
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _authority_key_identifier(certificate: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    try:
        own = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        key = certificate.public_key()
        if not isinstance(key, (ec.EllipticCurvePublicKey, rsa.RSAPublicKey)):
            raise
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(key)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _general_names(names: tuple[str, ...]) -> list[x509.GeneralName]:
    general: list[x509.GeneralName] = []
    for name in names:
        try:
            general.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            general.append(x509.DNSName(name))
    return general


def _common_name(certificate: x509.Certificate) -> str | None:
    attributes = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(attributes[0].value) if attributes else None


def _names(certificate: x509.Certificate) -> set[x509.GeneralName]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return set()
    return set(extension.value)


def _usages(certificate: x509.Certificate) -> list[x509.ObjectIdentifier]:
    try:
        return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return []


def _spki(key: Any) -> bytes:
    der: bytes = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return der
