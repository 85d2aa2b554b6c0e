"""Steady requests over TLS through nginx, until stopped; run on the server under test.

    python3 load.py DIRECTORY

writes DIRECTORY/result.json when DIRECTORY/stop appears. Every fifth connection asks for an answer
that takes three seconds.
"""

import http.client
import json
import socket
import ssl
import sys
import threading
import time
from collections import Counter
from pathlib import Path

DOMAIN = "hello.example.com"
directory = Path(sys.argv[1])
context = ssl.create_default_context(cafile="/etc/bedstone/tls/ca.crt")
answers: Counter[str] = Counter()
failures: list[str] = []
count = 0


def ask(path: str) -> None:
    """Ask once, on a connection of its own, and count who answered."""
    try:
        connection = http.client.HTTPSConnection(DOMAIN, timeout=30)
        plain = socket.create_connection(("127.0.0.1", 443), timeout=30)
        connection.sock = context.wrap_socket(plain, server_hostname=DOMAIN)
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
        connection.close()
        if response.status == 200:
            answers[json.loads(body)["host"]] += 1
        else:
            failures.append(f"{path} answered {response.status}")
    except (OSError, http.client.HTTPException) as error:
        failures.append(f"{path}: {type(error).__name__} {error}")


threads: list[threading.Thread] = []
(directory / "started").touch()
while not (directory / "stop").exists():
    count += 1
    threads.append(threading.Thread(target=ask, args=("/slow/3" if count % 5 == 0 else "/",)))
    threads[-1].start()
    time.sleep(0.1)
for thread in threads:
    thread.join()
(directory / "result.json").write_text(json.dumps({"answers": answers, "failures": failures}))
