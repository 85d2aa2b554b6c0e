#!/usr/bin/python3
"""Try ports of an address and print which answer: `open PORT` and, for TCP, `refused PORT`.

    scan tcp|udp ADDRESS FIRST-LAST|PORT,PORT...

A port that drops what it gets is in neither.
"""

from __future__ import annotations

import errno
import resource
import select
import socket
import sys
import time

AT_ONCE = 8000
WAIT_SECONDS = 1.5


def family(address: str) -> socket.AddressFamily:
    """Return the family of an address."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def tcp(address: str, ports: list[int]) -> None:
    """Print what connections to some ports come to."""
    epoll = select.epoll()
    waiting = {}
    for port in ports:
        probe = socket.socket(family(address), socket.SOCK_STREAM)
        probe.setblocking(False)
        code = probe.connect_ex((address, port))
        if code == errno.EINPROGRESS:
            epoll.register(probe, select.EPOLLOUT)
            waiting[probe.fileno()] = (probe, port)
        else:
            tell(code, port)
            probe.close()
    limit = time.monotonic() + WAIT_SECONDS
    while waiting and (left := limit - time.monotonic()) > 0:
        for number, _ in epoll.poll(left):
            probe, port = waiting.pop(number)
            tell(probe.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), port)
            epoll.unregister(number)
            probe.close()
    for probe, _ in waiting.values():
        probe.close()


def tell(code: int, port: int) -> None:
    """Print the outcome of a connection, unless it is none."""
    words = {0: "open", errno.ECONNREFUSED: "refused"}
    if code not in (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH):
        print(words.get(code, errno.errorcode.get(code, str(code))), port)


def udp(address: str, ports: list[int]) -> None:
    """Print the ports that answer a datagram."""
    probe = socket.socket(family(address), socket.SOCK_DGRAM)
    for port in ports:
        probe.sendto(b"?", (address, port))
    probe.settimeout(WAIT_SECONDS)
    try:
        while True:
            _, sender = probe.recvfrom(512)
            print("open", sender[1])
    except TimeoutError:
        pass


def main(protocol: str, address: str, wanted: str) -> None:
    """Try the ports, some thousand at once."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    first, dash, last = wanted.partition("-")
    ports = list(range(int(first), int(last) + 1)) if dash else [int(p) for p in wanted.split(",")]
    for start in range(0, len(ports), AT_ONCE):
        (tcp if protocol == "tcp" else udp)(address, ports[start : start + AT_ONCE])


if __name__ == "__main__":
    main(*sys.argv[1:4])
