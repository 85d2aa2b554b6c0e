"""Look at servers from this machine and judge each answer."""

from __future__ import annotations

import asyncio
import datetime as dt
import resource
import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bedstone_control.audit import connect
from bedstone_control.audit.connect import NoAnswerError
from bedstone_control.audit.report import Row
from bedstone_control.audit.targets import target
from bedstone_control.roles import ca
from bedstone_control.roles.firewall import FORWARDED
from bedstone_control.roles.registry import ROLES
from bedstone_control.roles.site import Site

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from bedstone_control.audit.targets import Health, Opening, Target

# The hourly look on the server warns at the same part of a certificate's life.
MOST_OF_LIFE = 3 / 4
UNKNOWN = "unknown.invalid"  # RFC 6761: reserved, no site has it
_VERSIONS = (
    (ssl.TLSVersion.TLSv1, "TLS 1.0", False),
    (ssl.TLSVersion.TLSv1_1, "TLS 1.1", False),
    (ssl.TLSVersion.TLSv1_2, "TLS 1.2", True),
    (ssl.TLSVersion.TLSv1_3, "TLS 1.3", True),
)
_REDIRECTS = {301, 302, 307, 308}
_HSTS = "strict-transport-security"
_HOSTS_AT_ONCE = 4
_DESCRIPTORS_LEFT = 200


def audit(
    inputs: Mapping[str, Mapping[str, Any]],
    addresses: Mapping[str, str],
    reached: Mapping[str, str],
    ports: Sequence[int],
) -> list[Row]:
    """Look at the hosts of an inventory.

    Args:
        inputs: the input of the roles' arguments, by host (roles/inputs.py).
        addresses: where the servers reach each other.
        reached: where the controller reaches each of the hosts.
        ports: the TCP ports that are tried.

    Raises:
        ValueError: settings break the schema, or a file with an authority can't be read.

    """
    known = {host: _ip(address) for host, address in addresses.items()}
    sites = [
        Site.from_variables({**values, "addresses": known}, ROLES) for values in inputs.values()
    ]
    authorities = dict.fromkeys(text for site in sites for text in _authorities(site))
    return check_targets(
        [target(site, reached[site.host]) for site in sites], ports, list(authorities)
    )


def _ip(address: str) -> str:
    """Return the IP address of a name; one that no machine has when it has none."""
    try:
        return str(socket.getaddrinfo(address, None)[0][4][0])
    except OSError:
        return "0.0.0.0"  # noqa: S104 - in no list of networks but an open one


def _authorities(site: Site) -> Iterator[str]:
    yield site.secrets["ca"]["certificate"]
    yield from ca.also_trusted(site)
    for path in site.settings.extra_ca_certificates:
        yield Path(site.path(path)).read_text(encoding="utf-8")


def check_targets(
    targets: Sequence[Target], ports: Sequence[int], authorities: Sequence[str]
) -> list[Row]:
    """Return the rows of all servers, in their order.

    Args:
        targets: what the servers should answer.
        ports: the TCP ports that are tried.
        authorities: certificate authorities that are trusted besides this machine's, as PEM text.

    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    limit = connect.AT_ONCE * _HOSTS_AT_ONCE if hard == resource.RLIM_INFINITY else hard
    at_once = min(connect.AT_ONCE, max(1, (limit - _DESCRIPTORS_LEFT) // _HOSTS_AT_ONCE))

    async def every() -> list[list[Row]]:
        some = asyncio.Semaphore(_HOSTS_AT_ONCE)

        async def one(target: Target) -> list[Row]:
            async with some:
                return await _Look(target, ports, authorities, at_once).rows()

        return await asyncio.gather(*(one(target) for target in targets))

    return [row for rows in asyncio.run(every()) for row in rows]


class _Look:
    """One server."""

    def __init__(
        self, target: Target, ports: Sequence[int], authorities: Sequence[str], at_once: int
    ) -> None:
        self.target, self.ports, self.at_once = target, ports, at_once
        self.trusting = connect.trusting(authorities)
        self.public = connect.trusting()
        self.address = ""

    def row(self, check: str, expected: str, found: str, *, ok: bool) -> Row:
        return Row(self.target.host, check, expected, found, ok)

    async def rows(self) -> list[Row]:
        """Return all rows; of a server that can't be reached, one."""
        given = self.target.address
        if given in FORWARDED:
            found = f"{given}, a port of this machine that leads there"
            return [self.row("address", "the server's own", found, ok=False)]
        try:
            own = connect.own_address(given)
            self.address = str(socket.getaddrinfo(given, 9, type=socket.SOCK_STREAM)[0][4][0])
        except NoAnswerError as error:
            return [self.row("address", "reachable", f"{given}: {error}", ok=False)]
        return await self.seen_from(own)

    async def seen_from(self, own: str) -> list[Row]:
        """Return the rows for a client with an address."""
        allowed = [each for each in self.target.openings if each.is_for(own)]
        faults = await asyncio.gather(
            *(connect.port_fault(self.address, each.port) for each in allowed)
        )
        if allowed and all(faults):
            found = f"{self.address}: {', '.join(sorted(set(filter(None, faults))))}"
            return [self.row("address", "reachable", found, ok=False)]
        rows = [
            self.row(f"port {each.port}", "open", fault or "open", ok=fault is None)
            for each, fault in zip(allowed, faults, strict=True)
            if each.required
        ]
        rows.append(await self.other_ports(allowed))
        if self.target.domains:
            for domain in self.target.domains:
                rows += await self.domain(domain)
            rows += [await self.unknown_http(), await self.unknown_https()]
            rows += await asyncio.gather(*(self.health(item) for item in self.target.health))
        return rows

    async def other_ports(self, allowed: Iterable[Opening]) -> Row:
        declared = {each.port for each in allowed}
        others = [port for port in self.ports if port not in declared]
        check = "other ports"
        try:
            found = await connect.open_ports(self.address, others, self.at_once)
        except ExceptionGroup as group:
            reason = str(group.exceptions[0])
            return self.row(check, "closed", f"not known: {reason} on this machine", ok=False)
        text = f"open: {', '.join(map(str, found))}" if found else f"{len(others)} closed"
        return self.row(check, "closed", text, ok=not found)

    async def domain(self, domain: str) -> list[Row]:
        rows = [await self.trust(domain), *await self.behind(domain)]
        rows += await asyncio.gather(*(self.version(domain, *each) for each in _VERSIONS))
        return [*rows, await self.redirect(domain)]

    async def trust(self, domain: str) -> Row:
        expected = "trusted, with this name"
        try:
            fault = await self.handshake(domain, self.trusting)
        except NoAnswerError as error:
            fault = str(error)
        return self.row(f"certificate of {domain}", expected, fault or expected, ok=fault is None)

    async def behind(self, domain: str) -> list[Row]:
        """Return the rows of the certificate's life and of the headers."""
        life, headers = f"life of {domain}'s certificate", f"headers of {domain}"
        part = f"less than {MOST_OF_LIFE:.0%} used"
        wanted = [name.lower() for name in self.target.headers]
        try:
            answer = await connect.get(
                self.address, self.target.https_port, domain, "/", connect.unverified()
            )
            # A browser that has seen it refuses the site until the end of its time.
            public = await self.handshake(domain, self.public) is None
        except NoAnswerError as error:
            return [
                self.row(life, part, str(error), ok=False),
                self.row(headers, ", ".join(wanted), str(error), ok=False),
            ]
        wanted += [_HSTS] if public and self.target.hsts else []
        missing = [name for name in wanted if name not in answer.headers]
        faults = [f"without {', '.join(missing)}"] if missing else []
        server = answer.headers.get("server", "")
        faults += [f"a version: {server}"] if any(map(str.isdigit, server)) else []
        found = "; ".join(faults) or "all, and no version of the server"
        return [
            self.life(life, part, answer),
            self.row(headers, ", ".join(wanted), found, ok=not faults),
        ]

    def life(self, check: str, expected: str, answer: connect.Answer) -> Row:
        if answer.certificate is None:
            return self.row(check, expected, "no certificate", ok=False)
        start = answer.certificate.not_valid_before_utc
        end = answer.certificate.not_valid_after_utc
        now = dt.datetime.now(dt.UTC)
        used = (now - start) / max(end - start, dt.timedelta(seconds=1))
        left = (end - now).total_seconds() / 86400
        found = f"{used:.0%} used, {left:.1f} days left"
        return self.row(check, expected, found, ok=0 <= used < MOST_OF_LIFE)

    async def version(self, domain: str, version: ssl.TLSVersion, name: str, taken: bool) -> Row:  # noqa: FBT001 - a column of _VERSIONS
        expected = "taken" if taken else "refused"
        check = f"{name} for {domain}"
        try:
            fault = await self.handshake(domain, connect.speaking(version))
        except NoAnswerError as error:
            return self.row(check, expected, str(error), ok=False)
        found = "taken" if fault is None else f"refused ({fault})"
        return self.row(check, expected, found, ok=(fault is None) == taken)

    async def redirect(self, domain: str) -> Row:
        check = f"http://{domain}"
        url = f"https://{domain}{self.target.https_suffix}/"
        expected = f"redirect to {url}"
        try:
            answer = await connect.get(self.address, self.target.http_port, domain, "/")
        except NoAnswerError as error:
            return self.row(check, expected, str(error), ok=False)
        location = answer.headers.get("location", "")
        ok = answer.status in _REDIRECTS and location.startswith(url)
        return self.row(check, expected, f"{answer.status} {location}".strip(), ok=ok)

    async def unknown_http(self) -> Row:
        check, expected = "unknown name by HTTP", "closed without an answer"
        if (fault := await connect.port_fault(self.address, self.target.http_port)) is not None:
            return self.row(check, expected, fault, ok=False)
        try:
            answer = await connect.get(self.address, self.target.http_port, UNKNOWN, "/")
        except NoAnswerError as error:
            return self.row(check, expected, str(error), ok=str(error) != "no answer")
        return self.row(check, expected, f"status {answer.status}", ok=False)

    async def unknown_https(self) -> Row:
        check, expected = "unknown name by HTTPS", "handshake refused"
        try:
            fault = await self.handshake(UNKNOWN, connect.unverified())
        except NoAnswerError as error:
            return self.row(check, expected, str(error), ok=False)
        found = "a certificate" if fault is None else f"refused ({fault})"
        return self.row(check, expected, found, ok=fault is not None)

    async def health(self, item: Health) -> Row:
        check = f"health of {item.app}: {item.path}"
        expected = "an answer of the app" if 404 in item.statuses else "status 2xx"  # noqa: PLR2004 - Not Found
        try:
            answer = await connect.get(
                self.address,
                self.target.https_port,
                item.domain,
                item.path,
                connect.unverified(),
            )
        except NoAnswerError as error:
            return self.row(check, expected, str(error), ok=False)
        return self.row(
            check, expected, f"status {answer.status}", ok=answer.status in item.statuses
        )

    async def handshake(self, domain: str, context: ssl.SSLContext) -> str | None:
        return await connect.handshake_fault(self.address, self.target.https_port, domain, context)
