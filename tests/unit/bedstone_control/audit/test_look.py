"""The look at a server: a real one, on 127.0.0.2, with each of the faults."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bedstone_control.audit import look, report
from bedstone_control.audit.report import Row
from bedstone_control.audit.targets import Health, Opening, Target
from bedstone_control.pki.authority import make_authority

ADDRESS = "127.0.0.2"  # this machine, which no forwarding has
DOMAIN = "shop.example.com"
HEADERS = ["X-Content-Type-Options: nosniff", "X-Frame-Options: DENY", "Server: nginx"]
AUTHORITY = make_authority("An authority of a test", 30)


@dataclass
class Server:
    """A server like role nginx's, and what can be wrong with it."""

    names: list[str] = field(default_factory=lambda: [DOMAIN])
    used: float = 0.1
    authority: tuple[str, str] = AUTHORITY
    oldest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    headers: list[str] = field(default_factory=lambda: list(HEADERS))
    redirect: str = "308 Permanent\r\nLocation: https://{host}/\r\n"
    health: str = "200 OK\r\n"
    strangers: bool = False
    http: int = 0
    https: int = 0

    async def secure(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await self.request(reader)
        status = self.health if " /health/ " in head else "200 OK\r\n"
        lines = "".join(f"{line}\r\n" for line in self.headers)
        await self.answer(writer, f"HTTP/1.1 {status}{lines}\r\n" if head else "")

    async def plain(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await self.request(reader)
        host = head.partition("Host: ")[2].partition("\r\n")[0]
        known = host in self.names or self.strangers
        text = f"HTTP/1.1 {self.redirect.format(host=host)}\r\n" if known else ""
        await self.answer(writer, text)

    async def request(self, reader: asyncio.StreamReader) -> str:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            return (await reader.readuntil(b"\r\n\r\n")).decode()
        return ""

    async def answer(self, writer: asyncio.StreamWriter, text: str) -> None:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            writer.write(text.encode())
            await writer.drain()
            writer.close()

    def context(self, directory: Path) -> ssl.SSLContext:
        files = issue(directory, self.names, self.used, self.authority)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*files)
        context.set_ciphers("ALL:@SECLEVEL=0")
        with (
            pytest.warns(DeprecationWarning, match="TLSv1")
            if self.oldest < 0x303
            else contextlib.nullcontext()
        ):
            context.minimum_version, context.maximum_version = self.oldest, self.newest

        def named(_socket: Any, name: str | None, _context: ssl.SSLContext) -> int | None:
            known = name in self.names or self.strangers or name == DOMAIN
            return None if known else ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME

        context.sni_callback = named
        return context


def issue(
    directory: Path, names: list[str], used: float, authority: tuple[str, str]
) -> tuple[Path, Path]:
    """Write a certificate of 90 days, of which a part is over, and its key."""
    issuer = x509.load_pem_x509_certificate(authority[0].encode())
    signer = serialization.load_pem_private_key(authority[1].encode(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key, life = ec.generate_private_key(ec.SECP256R1()), dt.timedelta(days=90)
    start = dt.datetime.now(dt.UTC) - life * used
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + life)
        .add_extension(x509.SubjectAlternativeName(map(x509.DNSName, names)), critical=False)
        .sign(signer, hashes.SHA256())
    )
    paths = directory / "server.crt", directory / "server.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


@contextlib.contextmanager
def running(server: Server, directory: Path) -> Iterator[Target]:
    """Run a server in a thread; return what it should answer."""
    context, ready, stop = server.context(directory), threading.Event(), asyncio.Event()
    loops = []

    async def serve() -> None:
        plain = await asyncio.start_server(server.plain, ADDRESS, 0)
        secure = await asyncio.start_server(server.secure, ADDRESS, 0, ssl=context)
        server.http, server.https = (each.sockets[0].getsockname()[1] for each in (plain, secure))
        loops.append(asyncio.get_running_loop())
        ready.set()
        await stop.wait()
        plain.close()
        secure.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(30)
        yield Target(
            host="web1",
            address=ADDRESS,
            openings=(Opening(server.http), Opening(server.https)),
            domains=(DOMAIN,),
            health=(Health("shop", DOMAIN, "/health/", frozenset(range(200, 300))),),
            headers=("X-Content-Type-Options", "X-Frame-Options"),
            http_port=server.http,
            https_port=server.https,
        )
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join(30)


@pytest.fixture
def failed(tmp_path: Path) -> Callable[..., dict[str, Row]]:
    """A function that looks at a server with faults and returns the failed checks."""

    def run(
        change: Callable[[Target], Target] = lambda target: target, **faults: Any
    ) -> dict[str, Row]:
        server = Server(**faults)
        if "redirect" not in faults:
            server.redirect = "308 Permanent\r\nLocation: https://{host}:PORT/\r\n"
        with running(server, tmp_path) as target:
            server.redirect = server.redirect.replace("PORT", str(server.https))
            tried = sorted({*range(server.http - 5, server.http + 5), server.https})
            rows = look.check_targets([change(target)], tried, [AUTHORITY[0]])
        assert len(rows) > 12
        return {row.check: row for row in rows if not row.ok}

    return run


def test_server_as_declared_passes_every_check(failed: Callable[..., dict[str, Row]]) -> None:
    assert failed() == {}


OTHER = make_authority("Another authority", 30)
CERTIFICATE = f"certificate of {DOMAIN}"


@pytest.mark.parametrize(
    ("faults", "checks", "found"),
    [
        ({"names": ["other.example.com"]}, [CERTIFICATE], "hostname mismatch"),
        ({"authority": OTHER}, [CERTIFICATE], "unable to get local issuer"),
        ({"used": 0.8}, [f"life of {DOMAIN}'s certificate"], "80% used, 18.0 days left"),
        ({"used": 1.1}, [CERTIFICATE, f"life of {DOMAIN}'s certificate"], "has expired"),
        (
            {"oldest": ssl.TLSVersion.TLSv1},
            [f"TLS 1.0 for {DOMAIN}", f"TLS 1.1 for {DOMAIN}"],
            "taken",
        ),
        ({"newest": ssl.TLSVersion.TLSv1_2}, [f"TLS 1.3 for {DOMAIN}"], "refused"),
        ({"headers": HEADERS[1:]}, [f"headers of {DOMAIN}"], "without x-content-type-options"),
        (
            {"headers": [*HEADERS[:2], "Server: nginx/1.26.3"]},
            [f"headers of {DOMAIN}"],
            "a version: nginx/1.26.3",
        ),
        ({"redirect": "200 OK\r\n"}, [f"http://{DOMAIN}"], "200"),
        (
            {"redirect": "301 Moved\r\nLocation: http://{host}/\r\n"},
            [f"http://{DOMAIN}"],
            f"301 http://{DOMAIN}/",
        ),
        ({"health": "503 Unavailable\r\n"}, ["health of shop: /health/"], "status 503"),
        (
            {"strangers": True},
            ["unknown name by HTTP", "unknown name by HTTPS"],
            "status 308",
        ),
    ],
    ids=lambda value: "" if isinstance(value, str) else None,
)
def test_fault_fails_its_checks_alone(
    failed: Callable[..., dict[str, Row]], faults: dict[str, Any], checks: list[str], found: str
) -> None:
    rows = failed(**faults)
    # A site under a name that it doesn't have answers neither HTTP for it nor its redirect.
    rows.pop(f"http://{DOMAIN}", None) if "names" in faults else None
    assert list(rows) == checks
    assert found.lower() in rows[checks[0]].found.lower()


def test_port_that_is_not_declared_is_named(failed: Callable[..., dict[str, Row]]) -> None:
    rows = failed(lambda target: replace(target, openings=target.openings[1:]))
    assert list(rows) == ["other ports"]
    assert rows["other ports"].found.startswith("open: ")


def test_port_for_other_networks_is_not_declared_for_this_machine(
    failed: Callable[..., dict[str, Row]],
) -> None:
    def close(target: Target) -> Target:
        first, second = target.openings
        return replace(target, openings=(replace(first, networks=("10.0.0.0/8",)), second))

    assert list(failed(close)) == ["other ports"]


def test_declared_port_that_is_closed_fails(failed: Callable[..., dict[str, Row]]) -> None:
    extra = Opening(9, required=False)
    rows = failed(lambda target: replace(target, openings=(*target.openings, Opening(7), extra)))
    assert [(row.check, row.found) for row in rows.values()] == [("port 7", "connection refused")]


@pytest.mark.parametrize(
    ("address", "found"),
    [
        (ADDRESS, f"{ADDRESS}: connection refused"),
        ("web1.invalid", "web1.invalid: the name has no address"),
        ("127.0.0.1", "127.0.0.1, a port of this machine that leads there"),
    ],
)
def test_server_that_can_not_be_reached_is_one_failed_check(address: str, found: str) -> None:
    target = Target("web1", address, (Opening(9),), domains=(DOMAIN,))
    (row,) = look.check_targets([target], [9], [])
    assert (row.check, row.found, row.ok) == ("address", found, False)


def test_table_and_json_tell_the_same() -> None:
    rows = [Row("web1", "port 22", "open", "open", ok=True), Row("db1", "x", "a", "b", ok=False)]
    lines = report.table(rows)
    assert lines[1:] == [
        "ok    web1  port 22  open      open",
        "FAIL  db1   x        a         b",
        "1 of 2 checks failed.",
    ]
    assert '"ok": false' in report.as_json(rows)
    assert report.table(rows[:1])[-1] == "All 1 checks passed."
