"""Whether a worker lives: each says so in the cache, as often as it sends a heartbeat (2 s)."""

from celery.signals import heartbeat_sent
from django.core.cache import cache

KEY = "worker-alive"
# A busy machine keeps a worker from its heartbeat for some seconds.
SECONDS = 15


# A ping from /health instead asks all workers at each check, and with `limit=1` it takes the late
# answer of the other worker to the ping before for its own, and then finds no worker.
@heartbeat_sent.connect
def say(**_: object) -> None:
    """Write down that this worker lives: its loop runs, and the broker took its last heartbeat."""
    cache.set(KEY, value=True, timeout=SECONDS)


def heard() -> bool:
    """Return whether a worker said so of late."""
    return cache.get(KEY) is True
