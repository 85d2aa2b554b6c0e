"""An app for the tests: says what it was sent, and misbehaves where it is asked to."""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

NAME, PORT = sys.argv[1], int(sys.argv[2])
DROPPED: list[str] = []


class Stub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        asked = {key: values[0] for key, values in parse_qs(url.query).items()}
        if url.path == "/websocket":
            self.websocket()
            return
        if url.path == "/drop":
            DROPPED.append(self.command)
            self.close_connection = True
            return
        time.sleep(float(asked.get("seconds", 0)))
        answer = {
            "stub": NAME,
            "method": self.command,
            "path": self.path,
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "header_lines": len(self.headers),
            "body_bytes": len(body),
            "dropped": DROPPED,
            "filler": "x" * int(asked.get("filler", 0)),
        }
        content = json.dumps(answer).encode()
        self.send_response(int(asked.get("status", 200)))
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if "file" in asked:
            self.send_header("X-Accel-Redirect", asked["file"])
        if "own" in asked:
            self.send_header("X-Frame-Options", "SAMEORIGIN")
            self.send_header("Strict-Transport-Security", "max-age=5")
            self.send_header("X-Request-ID", "the-apps-own")
            self.send_header("X-Powered-By", "stub")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815

    def websocket(self) -> None:
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        self.send_header("Sec-WebSocket-Accept", accept)
        self.end_headers()
        self.wfile.write(b"echo " + self.rfile.read(4))
        self.close_connection = True


class Server(ThreadingHTTPServer):
    # Thirty clients at once: with the default of five, a busy machine makes some wait seconds.
    request_queue_size = 128


Server(("127.0.0.1", PORT), Stub).serve_forever()
