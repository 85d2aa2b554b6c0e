"""A second HTTP service without Django: says which release it is."""

import json
import os
from collections.abc import Callable, Iterable

from ledger_version import VERSION


def application(
    _environ: dict[str, object], start_response: Callable[..., object]
) -> Iterable[bytes]:
    """Answer on every path."""
    body = json.dumps({"version": VERSION, "host": os.uname().nodename, "service": "api"}).encode()
    start_response(
        "200 OK",
        [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("X-Version", VERSION),
            ("X-Container", os.uname().nodename),
        ],
    )
    return [body]
