"""The smallest app that a release can be tested with: answers, is slow on request, or is broken."""

import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Answers on every path."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer with who and where this process is."""
        status = 200
        if self.path.startswith("/health/") and (
            os.environ.get("NEVER_HEALTHY")
            or self.headers["Host"] != os.environ["DOMAIN"]
            or self.headers["X-Forwarded-Proto"] != "https"
        ):
            status = 503
        if os.environ.get("FAIL_BEHIND_NGINX") and self.headers["X-Request-ID"]:
            status = 500
        if self.path.startswith("/slow/"):
            time.sleep(float(self.path.removeprefix("/slow/")))
        body = json.dumps(
            {
                "greeting": os.environ.get("GREETING"),
                "multi_line": os.environ.get("MULTI_LINE"),
                "uid": os.getuid(),
                "host": os.uname().nodename,
            }
        ).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, message: str, *values: object) -> None:
        """Print a line that a test can find."""
        print("hello request:", message % values, flush=True)


class Server(ThreadingHTTPServer):
    """Lets requests in flight finish when it is stopped."""

    daemon_threads = False
    block_on_close = True
    request_queue_size = 128


server = Server(("0.0.0.0", int(os.environ.get("PORT", "8000"))), Handler)


def end(*_: object) -> None:
    """Stop taking requests."""
    print("hello ends", flush=True)
    threading.Thread(target=server.shutdown).start()


signal.signal(signal.SIGTERM, end)
print("hello starts", flush=True)
if os.environ.get("DIES_AT_START"):
    sys.exit("hello dies: no database, say")
server.serve_forever()
server.server_close()
