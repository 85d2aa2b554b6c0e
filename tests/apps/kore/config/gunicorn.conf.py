# ruff: noqa: N999 - gunicorn looks for this name
"""gunicorn's settings, from the variables that the system's document names."""

import os

workers = int(os.environ.get("WEB_CONCURRENCY", "3"))
timeout = int(os.environ.get("GUNICORN_TIMEOUT", "60"))
worker_tmp_dir = "/dev/shm"  # its heartbeat file: never on a disk
accesslog = "-"
