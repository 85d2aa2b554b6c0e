"""Check the certificates that the operator brings along, and the settings of those by ACME."""

from __future__ import annotations

import datetime as dt
import re
import ssl
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization

from bedstone_control.checks.apps import located
from bedstone_control.checks.context import VAULT
from bedstone_control.roles import acme as role
from bedstone_control.settings.acme import LETS_ENCRYPT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from bedstone_control.checks.context import Context, Place
    from bedstone_control.checks.problems import Problem
    from bedstone_control.settings.acme import Dns
    from bedstone_control.settings.app import App
    from bedstone_control.settings.root import Settings

# What Let's Encrypt puts into one certificate, as other authorities do.
MOST_DOMAINS = 100
_EMAIL = re.compile(r"[^@\s<>,;]+@[^@\s<>,;]+\.[^@\s<>,;]+")
# RFC 6761, RFC 6762, RFC 8375 and ICANN's `internal`: no public authority issues for them.
_PRIVATE = ("local", "localhost", "internal", "test", "example", "invalid", "home.arpa", "lan")
_EDIT = "ansible-vault edit {vault}\n# then, under bedstone_secrets:\nacme:\n  {name}: …"
_CLOCK_TOLERANCE = dt.timedelta(days=1)


def check(context: Context, settings: Settings) -> Iterator[Problem]:
    """Check the certificate of each app with domains, given or asked for."""
    for place, app in located(context, settings):
        if app.tls is not None:
            yield from _given(context, settings, place, app)
        yield from _choice(context, settings, place, app)
    yield from _acme(context, settings)


# --- Given certificates --------------------------------------------------------------------------


def _given(context: Context, settings: Settings, place: Place, app: App) -> Iterator[Problem]:
    """Check the two files of a given certificate, and that they belong together."""
    assert app.tls is not None
    files = {"certificate": app.tls.certificate, "key": app.tls.key}
    for name, text in files.items():
        if not context.path(text).is_file():
            ending = "crt" if name == "certificate" else "key"
            message = f"There is no file {context.path(text)}."
            example = {name: f"files/pay.example.com.{ending}"}
            yield context.problem((*place, "tls", name), message, example)
    certificate, key = (context.path(text) for text in files.values())
    if key.is_file():
        yield from check_encrypted(context, (*place, "tls", "key"), key)
    if certificate.is_file():
        yield from _certificate(context, settings, place, app, certificate, key)


def check_encrypted(context: Context, place: Place, path: Path) -> Iterator[Problem]:
    """Check that a private key within the inventory, which operators share, is encrypted."""
    inside = path.is_relative_to(context.inventory_directory.resolve())
    if inside and not path.read_bytes().startswith(VAULT):
        message = "The private key lies in the inventory in plain text."
        yield context.problem(place, message, f"ansible-vault encrypt {path}")


def _certificate(
    context: Context, settings: Settings, place: Place, app: App, path: Path, key: Path
) -> Iterator[Problem]:
    """Check that a certificate is valid, names the app's domains and comes with its chain."""
    where = (*place, "tls", "certificate")
    example: Any = {"certificate": f"files/{(app.domains or ['pay.example.com'])[0]}.crt"}
    try:
        chain = x509.load_pem_x509_certificates(context.decrypted(path) or b"")
    except ValueError:
        yield context.problem(where, f"{path} holds no certificate in PEM form.", example)
        return
    leaf, now = chain[0], dt.datetime.now(dt.UTC)
    order = f"cat {path.name} intermediate.crt > {path.with_suffix('.chain.crt').name}"
    if len(chain) > 1 and _is_authority(leaf) and not _is_authority(chain[-1]):
        message = f"The first certificate in {path} is an authority's. The server's own comes first"
        yield context.problem(where, f"{message}, then the one that issued it, and so on.", order)
        return
    if leaf.not_valid_after_utc < now:
        message = f"The certificate ended on {leaf.not_valid_after_utc:%Y-%m-%d}."
        yield context.problem(where, message, example)
    elif leaf.not_valid_before_utc > now + _CLOCK_TOLERANCE:
        message = f"The certificate is valid only from {leaf.not_valid_before_utc:%Y-%m-%d}."
        yield context.problem(where, message, example)
    named = _names(leaf)
    lacking = [
        domain
        for domain in app.all_domains
        if domain not in named and f"*.{domain.partition('.')[2]}" not in named
    ]
    if lacking:
        message = f"The certificate does not name {', '.join(lacking)}."
        yield context.problem(where, message, example)
    if fault := _chain_fault(chain, _known(context, settings)):
        yield context.problem(where, fault, order)
    yield from check_key(context, (*place, "tls", "key"), leaf, key)


def _chain_fault(chain: Sequence[x509.Certificate], known: Sequence[bytes]) -> str | None:
    """Return what is wrong with the order of a chain, or where it ends too early.

    Args:
        chain: the server's certificate first.
        known: the authorities known on this machine, in DER; none when that is unknown.

    """
    for number, (one, by) in enumerate(pairwise(chain), start=1):
        try:
            one.verify_directly_issued_by(by)
        except (ValueError, TypeError, InvalidSignature):
            return (
                f"Certificate {number} of the file was issued by {_said(one.issuer)}, and the next "
                f"one is {_said(by.subject)}: each is followed by the one that issued it."
            )
    last = chain[-1]
    # By the name's bytes: some authorities' certificates are too odd to be parsed.
    name = last.issuer.public_bytes()
    if last.issuer == last.subject or not known or any(name in each for each in known):
        return None
    return (
        f"The certificate of {_said(last.issuer)}, which issued the last one in the file, is "
        "neither in it nor among the authorities known on this machine: an intermediate "
        "certificate is missing, without which many clients refuse. A private authority belongs in "
        "`bedstone_extra_ca_certificates`."
    )


def _known(context: Context, settings: Settings) -> list[bytes]:
    """Return the authorities that this machine or the settings trust, in DER."""
    known = ssl.create_default_context().get_ca_certs(binary_form=True)
    for text in settings.extra_ca_certificates if known else ():
        try:
            extra = x509.load_pem_x509_certificates(context.path(text).read_bytes())
        except (OSError, ValueError):
            continue  # checks/operators.py says so
        known += [each.public_bytes(serialization.Encoding.DER) for each in extra]
    return known


def check_key(
    context: Context, place: Place, leaf: x509.Certificate, path: Path
) -> Iterator[Problem]:
    """Check that a private key is one, and that of the certificate."""
    if not path.is_file() or (text := context.decrypted(path)) is None:
        return
    example = "openssl pkey -in FILE.key -pubout; openssl x509 -in FILE.crt -pubkey -noout"
    form, kind = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    try:
        key = serialization.load_pem_private_key(text, password=None)
    except TypeError:
        message = "The private key has a passphrase, which nginx could not ask for: encrypt it with"
        yield context.problem(place, f"{message} the vault instead.", "openssl pkey -in FILE.key")
    except ValueError:
        yield context.problem(place, f"{path} holds no private key in PEM form.", example)
    else:
        if key.public_key().public_bytes(form, kind) != leaf.public_key().public_bytes(form, kind):
            message = "The private key is not the one of the certificate."
            yield context.problem(place, message, example)


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return found.value.get_values_for_type(x509.DNSName)


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        found = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound:
        return False
    return found.value.ca


def _said(name: x509.Name) -> str:
    return name.rfc4514_string() or "an authority without a name"


# --- Certificates by ACME ------------------------------------------------------------------------


def _choice(context: Context, settings: Settings, place: Place, app: App) -> Iterator[Problem]:
    """Check that what an app says of ACME can be done."""
    where = (*place, "acme")
    if app.acme and app.tls is not None:
        message = "The app has certificate files of its own (`tls`) as well: leave one of them out."
        yield context.problem(where, message, {"acme": False})
    elif app.acme and not app.domains:
        message = "A certificate needs a domain that it is for."
        yield context.problem(where, message, {"domains": ["pay.example.com"]})
    elif app.acme and settings.acme is None:
        message = "There is no authority to ask: `bedstone_acme` names it."
        example = {"bedstone_acme": {"email": "ops@example.com"}}
        yield context.problem(where, message, example)
    if settings.acme is None or app.tls is not None or app.acme is False:
        return
    if len(app.all_domains) > MOST_DOMAINS:
        message = f"One certificate names at most {MOST_DOMAINS} domains: these are more."
        yield context.problem((*place, "domains"), message, {"acme": False})
    domains = [("domains", *each) for each in enumerate(app.domains)]
    redirects = [("redirects", *each) for each in enumerate(app.redirects)]
    for key, index, domain in (*domains, *redirects):
        ending = next((end for end in _PRIVATE if f".{domain}".endswith(f".{end}")), None)
        if ending and settings.acme.directory == LETS_ENCRYPT:
            message = f"No public authority issues a certificate for {domain}: .{ending} is private"
            right = {"name": app.name, "acme": False}
            yield context.problem((*place, key, index), f"{message}.", right)


def _acme(context: Context, settings: Settings) -> Iterator[Problem]:
    """Check the authority's address, the account's, and how domains are proved by DNS."""
    acme = settings.acme
    if acme is None:
        return
    url = urlsplit(acme.directory)
    if url.scheme != "https" or not url.hostname or re.search(r"\s", acme.directory):
        message = f"{acme.directory!r} is no URL of a directory: it begins with https://."
        yield context.problem(("bedstone_acme", "directory"), message, {"directory": LETS_ENCRYPT})
    if acme.email is not None and not _EMAIL.fullmatch(acme.email):
        message = f"{acme.email!r} is no mail address."
        yield context.problem(("bedstone_acme", "email"), message, {"email": "ops@example.com"})
    if acme.dns is not None:
        yield from _dns(context, acme.dns)
    yield from _secrets(context, settings)


def _dns(context: Context, dns: Dns) -> Iterator[Problem]:
    """Check that there is one way to make DNS records."""
    where = ("bedstone_acme", "dns")
    if (dns.plugin is None) == (dns.hook is None):
        message = "Records are made either by certbot's `plugin` or by a `hook` of your own."
        yield context.problem(where, message, {"dns": {"plugin": "rfc2136"}})
    elif dns.hook is not None and not context.path(dns.hook).is_file():
        message = f"There is no file {context.path(dns.hook)}."
        yield context.problem((*where, "hook"), message, {"hook": "files/dns-hook"})


def _secrets(context: Context, settings: Settings) -> Iterator[Problem]:
    """Check that the vault has what only the operator can know of the authority and of DNS."""
    given = context.secrets.get("acme")
    vault = context.locator.file(("bedstone_secrets",)).split(", line")[0]
    for secret in role.ROLE.secrets(settings):
        name = secret.place[-1]
        value = given.get(name) if isinstance(given, dict) else None
        if not isinstance(value, str) or not value.strip():
            message = f"The vault lacks it: {secret.purpose}."
            example = _EDIT.format(vault=vault, name=name)
            yield context.problem(("bedstone_secrets", *secret.place), message, example)
