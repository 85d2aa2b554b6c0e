"""A collector of logs: syslog over TLS (RFC 5425), each message a line of a file.

Usage: collector.py NAME, whose certificate it shows; clients need one of the same authority.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
import threading
from pathlib import Path
from typing import BinaryIO

HOME = Path("/opt/collector")


def frames(stream: BinaryIO) -> None:
    """Write each frame, `LENGTH MESSAGE`, as JSON text, until the client ends."""
    with (HOME / "received").open("a", buffering=1) as received:
        while True:
            digits = b""
            while (byte := stream.read(1)) not in {b" ", b""}:
                digits += byte
            if not byte:
                return
            received.write(json.dumps(stream.read(int(digits)).decode()) + "\n")


def serve(connection: socket.socket, context: ssl.SSLContext) -> None:
    """Take what one client sends."""
    try:
        with context.wrap_socket(connection, server_side=True) as tls:
            frames(tls.makefile("rb"))
    except (OSError, ValueError) as error:
        print(error, flush=True)


def main() -> None:
    """Listen until stopped."""
    name = sys.argv[1]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(HOME / f"{name}.crt", HOME / f"{name}.key")
    context.load_verify_locations(HOME / "ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    listening = socket.create_server(("127.0.0.1", 6514))
    while True:
        connection = listening.accept()[0]
        threading.Thread(target=serve, args=(connection, context), daemon=True).start()


main()
