"""gunicorn's settings; those that differ between installations come from the environment."""

from __future__ import annotations

import os
from pathlib import Path

from config import environment
from config.logs import ACCESS_LOG, logging_config

MOST_WORKERS = 9  # a big machine shared by several apps is not this app's alone


def usable_cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return how many cores this process may use: its CPU set, less a container's limit."""
    cores = len(os.sched_getaffinity(0))
    try:
        if (cgroup / "cpu.max").exists():  # cgroup v2
            quota, period = (cgroup / "cpu.max").read_text().split()
        else:
            quota = (cgroup / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu/cpu.cfs_period_us").read_text().strip()
        if quota not in {"max", "-1"}:
            cores = min(cores, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):
        return cores
    return cores


_env = environment.load_or_exit()

wsgi_app = "config.wsgi:application"
bind = [f"0.0.0.0:{_env.port}"]

# Threads let a worker keep a proxy's idle connections open while it serves others.
worker_class = "gthread"
workers = _env.web_concurrency or min(usable_cores() + 1, MOST_WORKERS)
threads = _env.gunicorn_threads
# Loaded once and shared: less memory, and a broken app ends the start with one message.
preload_app = True

timeout = _env.gunicorn_timeout
graceful_timeout = _env.gunicorn_graceful_timeout
keepalive = _env.gunicorn_keepalive

# Heartbeats touch a file: in memory, as a disk can block, and the image is read-only.
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108
# The control socket would be a file below the home directory, which is read-only too.
control_socket_disable = True

forwarded_allow_ips = ",".join(_env.forwarded_allow_ips)

access_log_format = ACCESS_LOG
logconfig_dict = logging_config(level=_env.log_level, format_name=_env.log_format)
