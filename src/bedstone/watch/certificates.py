"""Check certificates: their remaining lifetime, and whether the served one is the one on disk."""

from __future__ import annotations

import re
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bedstone.core import age, clock, paths
from bedstone.core.x509 import Certificate, parse
from bedstone.notify.alarms import Alarm, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime
    from pathlib import Path

# Of a certificate's life. One of 90 days is renewed when 60 have passed, warned of after 67 and
# red after 79; one of an hour is judged as well as an authority of ten years.
WARN_AT, RED_AT = 3 / 4, 7 / 8
_SECONDS = 4.0
_SSL_REQUEST = bytes.fromhex("00000008 04d2162f")
_PEM = re.compile(
    r"-----BEGIN (?:TRUSTED )?CERTIFICATE-----.+?-----END (?:TRUSTED )?CERTIFICATE-----", re.DOTALL
)
_NGINX = re.compile(
    r"^\s*(server)\s*\{|^\s*(listen|server_name|ssl_certificate)\s+([^;]+);", re.MULTILINE
)
_INCLUDE = re.compile(r"^\s*include\s+(bedstone/certificates/[^;*]+);", re.MULTILINE)

RENEW = "`ansible-playbook playbooks/deploy.yml -i inventories/NAME` renews it"
_AUTHORITY = (
    "make another authority and trust both for a while: roles/ca/README.md, `Another authority`"
)
_BROUGHT = (
    "put a new one where `tls` of the app names it in the settings, then"
    " `ansible-playbook playbooks/site.yml -i inventories/NAME`"
)
_ANCHOR = (
    "put the new one where `bedstone_extra_ca_certificates` names it, then"
    " `ansible-playbook playbooks/site.yml -i inventories/NAME`"
)
_ACME = "`bedstone certificates renew` renews it, or says why it can't"
_FOREIGN = "renew it (`certbot renew`, if certbot made it), then `systemctl reload nginx`"


@dataclass(frozen=True)
class Found:
    """A certificate and where it is, or why it can't be read.

    Attributes:
        place: a path, or the program that serves it.
        what: what it is, as text.
        command: what renews it.
        certificate: it, or None.
        error: why it can't be read.
        differs_from: the path of the newer one that it should be.

    """

    place: str
    what: str
    command: str
    certificate: Certificate | None = None
    error: str | None = None
    differs_from: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        found = self.certificate
        return {
            "place": self.place,
            "what": self.what,
            "subject": found.subject if found else None,
            "starts_at": found.start.isoformat() if found else None,
            "ends_at": found.end.isoformat() if found else None,
            "error": self.error,
        }


# --- Judging -------------------------------------------------------------------------------------


def judge(found: Iterable[Found], now: datetime) -> Iterator[Alarm]:
    """Yield what is wrong with certificates."""
    for entry in found:
        name = f"certificates/{entry.place}"
        if entry.certificate is None:
            yield Alarm(
                name, "red", f"{entry.what} {entry.place} can't be read: {entry.error}", RENEW
            )
            continue
        if entry.differs_from:
            yield Alarm(
                name,
                _severity(entry.certificate, now) or "warning",
                f"{entry.place} serves another certificate than {entry.differs_from}, one that ends"
                f" {_end(entry.certificate, now)}",
                entry.command,
            )
        elif severity := _severity(entry.certificate, now):
            words = _end(entry.certificate, now)
            if entry.certificate.start > now:
                words = f"{entry.certificate.start:%Y-%m-%d %H:%M} UTC"
                yield Alarm(
                    name,
                    severity,
                    f"{entry.what} {entry.place} isn't valid before {words}",
                    "`date` shows whether this server's clock is right",
                )
            else:
                yield Alarm(
                    name, severity, f"{entry.what} {entry.place} ends {words}", entry.command
                )


def _severity(certificate: Certificate, now: datetime) -> Severity | None:
    used = certificate.used(now)
    if used >= RED_AT or clock.is_ahead(certificate.start, now):
        return "red"
    return "warning" if used >= WARN_AT else None


def _end(certificate: Certificate, now: datetime) -> str:
    left = (certificate.end - now).total_seconds()
    day = f"on {certificate.end:%Y-%m-%d}"
    if left <= 0:
        return f"{day}: it has been over for {age.humanize(-left)}"
    return f"in {age.humanize(left)}, {day}"


# --- Finding -------------------------------------------------------------------------------------


def gather() -> list[Found]:
    """Return the certificates of this server: what lies there, and what is served of it."""
    tls = paths.host("/etc/bedstone/tls")
    found: dict[str, Found] = {}

    def add(path: Path, what: str, command: str) -> None:
        for entry in _read(path, what, command):
            found.setdefault(entry.place, entry)

    for path in sorted(tls.rglob("*.crt")):
        if path.name == "ca.crt":
            add(path, "the trusted authority in", _AUTHORITY)
        else:
            add(path, "the certificate", RENEW)
    for path in sorted(paths.host("/usr/local/share/ca-certificates").rglob("*.crt")):
        # Those of Bedstone's own authority are in ca.crt.
        if not path.name.startswith("bedstone-ca-"):
            add(path, "the authority", _ANCHOR)
    for path in sorted(paths.host("/etc/nginx/bedstone/tls").glob("*.crt")):
        add(path, "the certificate", _BROUGHT)
    sites = list(_sites())
    for site in sites:
        path = paths.host(site.path)
        add(path, "the certificate", _ACME if path.is_relative_to(paths.acme()) else _FOREIGN)
    newest = {str(paths.host(entry.place)): entry for entry in found.values()}
    served = [*_served_by_nginx(sites, newest), *_served_by_postgresql(newest)]
    return [*found.values(), *served]


def _read(path: Path, what: str, command: str) -> Iterator[Found]:
    place = "/" + str(path.relative_to(paths.root()))
    try:
        blocks = _PEM.findall(path.read_text(encoding="utf-8", errors="replace"))
        if not blocks:
            raise ValueError("there is no certificate in it")  # noqa: TRY301 - one way out
        parsed = [
            parse(ssl.PEM_cert_to_DER_cert(block.replace("TRUSTED ", ""))) for block in blocks
        ]
    except (OSError, ValueError, IndexError) as error:
        yield Found(place, what, command, error=str(error))
        return
    for number, certificate in enumerate(parsed, start=1):
        yield Found(f"{place}#{number}" if number > 1 else place, what, command, certificate)


@dataclass(frozen=True)
class _Site:
    path: str
    port: int
    name: str


def _sites() -> Iterator[_Site]:
    """Yield the certificates that nginx's configuration names, each with a way to ask for it."""
    directory = paths.host("/etc/nginx")
    for file in sorted({*directory.rglob("*.conf"), *directory.glob("sites-enabled/*")}):
        port, name, seen = 0, "", set()
        for match in _NGINX.finditer(_with_certificate(file)):
            if match[1]:
                port, name = 0, ""
            elif match[2] == "listen" and "ssl" in match[3].split()[1:]:
                port = int(match[3].split()[0].rpartition(":")[2].strip("[]") or 0)
            elif match[2] == "server_name":
                name = match[3].split()[0]
            elif match[2] == "ssl_certificate" and match[3].startswith("/"):
                site = _Site(match[3].strip(), port, name)
                if site not in seen:
                    seen.add(site)
                    yield site


def _with_certificate(file: Path) -> str:
    """Return a file of nginx's configuration with the certificate that it includes."""

    def included(match: re.Match[str]) -> str:
        path = paths.host("/etc/nginx") / match[1]
        return path.read_text(encoding="utf-8") if path.exists() else ""

    return _INCLUDE.sub(included, file.read_text(encoding="utf-8", errors="replace"))


def _served_by_nginx(sites: Iterable[_Site], newest: dict[str, Found]) -> Iterator[Found]:
    for site in sites:
        if not site.port or not site.name or site.name.startswith(("*", "~", "_", ".")):
            continue
        entry = newest.get(str(paths.host(site.path)))
        served = served_by("127.0.0.1", site.port, site.name)
        if served and entry and entry.certificate and served.digest != entry.certificate.digest:
            yield Found(
                f"nginx at {site.name}",
                "the certificate of",
                "`systemctl reload nginx`",
                served,
                differs_from=site.path,
            )


def _served_by_postgresql(newest: dict[str, Found]) -> Iterator[Found]:
    for file in sorted(paths.host("/var/lib/postgresql").glob("[0-9]*/*/postmaster.pid")):
        major, cluster = file.parts[-3:-1]
        settings = paths.host(f"/etc/postgresql/{major}/{cluster}")
        path = _ssl_cert_file(settings)
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        # Its process id, directory, start, port, directory of the socket, address.
        if path is None or len(lines) < 6 or not lines[3].strip().isdigit():  # noqa: PLR2004
            continue
        address = lines[5].strip()
        address = "127.0.0.1" if address in {"*", "0.0.0.0", "localhost", "::"} else address  # noqa: S104
        if not address:
            continue
        served = served_by(address, int(lines[3]), None, postgresql=True)
        entry = newest.get(str(paths.host(path)))
        if entry is None:
            entry = next(_read(paths.host(path), "the certificate", RENEW))
        if served and entry.certificate and served.digest != entry.certificate.digest:
            yield Found(
                f"PostgreSQL {major}",
                "the certificate of",
                f"`systemctl reload postgresql@{major}-{cluster}`",
                served,
                differs_from=path,
            )


def _ssl_cert_file(settings: Path) -> str | None:
    found = None
    for file in (settings / "postgresql.conf", *sorted((settings / "conf.d").glob("*.conf"))):
        if file.exists():
            text = file.read_text(encoding="utf-8", errors="replace")
            for match in re.finditer(r"^\s*ssl_cert_file\s*=?\s*'([^']+)'", text, re.MULTILINE):
                found = match[1]
    return found if found and found.startswith("/") else None


def served_by(
    address: str, port: int, name: str | None, *, postgresql: bool = False
) -> Certificate | None:
    """Return the certificate that a server on this host shows, or None when none answers.

    Whether the server runs is another check's business.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    # Inspected, not trusted: nothing is sent.
    context.verify_mode = ssl.CERT_NONE
    try:
        with socket.create_connection((address, port), _SECONDS) as plain:
            if postgresql:
                plain.sendall(_SSL_REQUEST)
                if plain.recv(1) != b"S":
                    return None
            with context.wrap_socket(plain, server_hostname=name) as secure:
                der = secure.getpeercert(binary_form=True)
        return parse(der) if der else None
    except OSError:
        return None
