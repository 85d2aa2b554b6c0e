#!/usr/bin/python3
"""Listen on the ports of the tests, on every address of IPv4 and IPv6, and answer with the port.

listen tcp:80 udp:53 ...
"""

from __future__ import annotations

import selectors
import socket
import sys


def main(wanted: list[str]) -> None:
    """Answer each connection and each datagram with the port it came to."""
    selector = selectors.DefaultSelector()
    for word in wanted:
        protocol, _, port = word.partition(":")
        kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
        listener = socket.socket(socket.AF_INET6, kind)
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("::", int(port)))
        if protocol == "tcp":
            listener.listen(256)
        selector.register(listener, selectors.EVENT_READ, (protocol, port.encode()))
    while True:
        for key, _ in selector.select():
            protocol, port = key.data
            listener = key.fileobj  # type: ignore[assignment]
            try:
                if protocol == "tcp":
                    connection, _ = listener.accept()
                    connection.sendall(port)
                    connection.close()
                else:
                    _, sender = listener.recvfrom(512)
                    listener.sendto(port, sender)
            except OSError as error:
                sys.stderr.write(f"{protocol}:{port.decode()}: {error}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
