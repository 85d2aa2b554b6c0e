"""A worker: says what it does, and ends warm."""

import os
import signal
import sys
import threading

ended = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: ended.set())
print("worker starts as", os.environ.get("GREETING"), flush=True)
if os.environ.get("WORKER_DIES"):
    sys.exit("worker dies")
ended.wait()
print("worker ended warm", flush=True)
