"""Send the requests of a plan, each when it is due.

The rate doesn't follow the server: a request counts from the moment at which it was due, so one
that waits behind slow ones is slow, too (an open model).
"""

from __future__ import annotations

import asyncio
import itertools
import signal
import socket
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from bedstone.core.x509 import browser_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Sequence

    from bedstone_control.load.plan import Plan

ANSWER_SECONDS = 30
CONNECTIONS = 100
_FIRST_ERROR = 400
# TLS connections are closed in the background (aiohttp's documentation, "Graceful Shutdown").
_CLOSING_SECONDS = 0.25


@dataclass(frozen=True)
class Sample:
    """What came of a request.

    Attributes:
        path: of the request.
        milliseconds: from when it was due until its answer was read.
        fault: what was wrong with the answer, None when it was good.

    """

    path: str
    milliseconds: float
    fault: str | None = None


class _Addresses(AbstractResolver):
    """Lead the domain to the inventory's hosts in turns, whatever DNS says."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._next = itertools.cycle(addresses)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the address of the next host."""
        found = await asyncio.get_running_loop().getaddrinfo(
            next(self._next), port, type=socket.SOCK_STREAM, family=family
        )
        kind, _, protocol, _, there = found[0]
        return [
            ResolveResult(
                hostname=host,
                host=str(there[0]),
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST,
            )
        ]

    async def close(self) -> None:
        """Hold nothing."""


def trusting(authorities: Sequence[str]) -> ssl.SSLContext:
    """Return a context that trusts this machine's authorities and further ones, as PEM text."""
    context = browser_context()
    for text in authorities:
        context.load_verify_locations(cadata=text)
    return context


def send(plan: Plan, context: ssl.SSLContext) -> tuple[list[Sample], float]:
    """Send all requests of a plan; Ctrl-C stops the sending, and what was sent counts.

    Returns:
        what came of each, and the seconds from the first until the last answer.

    """
    return asyncio.run(_send(plan, context))


async def _send(plan: Plan, context: ssl.SSLContext) -> tuple[list[Sample], float]:
    connector = aiohttp.TCPConnector(
        resolver=_Addresses(plan.addresses),
        use_dns_cache=False,
        ssl=context,
        limit=CONNECTIONS,
    )
    session = aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS),
        headers={"User-Agent": "bedstone-load", **plan.headers},
    )
    if plan.data is not None:
        session.headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
    async with session:
        with _interrupted() as interrupted:
            sent = await _paced(session, plan, interrupted)
    await asyncio.sleep(_CLOSING_SECONDS)
    return sent


@contextmanager
def _interrupted() -> Iterator[asyncio.Event]:
    """Give an event that SIGINT sets."""
    found, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, found.set)
    try:
        yield found
    finally:
        loop.remove_signal_handler(signal.SIGINT)


async def _paced(
    session: aiohttp.ClientSession, plan: Plan, interrupted: asyncio.Event
) -> tuple[list[Sample], float]:
    clock = asyncio.get_running_loop().time
    paths = itertools.cycle(plan.paths)
    waiting: list[asyncio.Task[Sample]] = []
    begun = clock()
    for number in range(plan.requests):
        due = begun + number / plan.rate
        with suppress(TimeoutError):
            await asyncio.wait_for(interrupted.wait(), max(due - clock(), 0))
        if interrupted.is_set():
            break
        waiting.append(asyncio.create_task(_one(session, plan, next(paths), due)))
    samples = await asyncio.gather(*waiting)
    return samples, clock() - begun


async def _one(session: aiohttp.ClientSession, plan: Plan, path: str, due: float) -> Sample:
    fault = None
    method = "GET" if plan.data is None else "POST"
    try:
        async with session.request(
            method, plan.url(path), data=plan.data, allow_redirects=False
        ) as answer:
            await answer.read()
            if answer.status >= _FIRST_ERROR:
                fault = f"status {answer.status}"
    except TimeoutError:
        fault = f"no answer in {ANSWER_SECONDS} s"
    except (aiohttp.ClientError, OSError) as error:
        fault = str(error) or type(error).__name__
    return Sample(path, (asyncio.get_running_loop().time() - due) * 1000, fault)
