"""The image's HEALTHCHECK: exits 0 when the app answers on its port, else 1."""

import http.client
import os
import sys


def main() -> int:
    """Ask for the liveness page; standard library only, so that it starts fast."""
    connection = http.client.HTTPConnection(
        "127.0.0.1", int(os.environ.get("PORT", "8000")), timeout=4
    )
    try:
        connection.request("GET", "/health/live")
        return 0 if connection.getresponse().status == http.client.OK else 1
    except OSError:
        return 1


if __name__ == "__main__":
    sys.exit(main())
