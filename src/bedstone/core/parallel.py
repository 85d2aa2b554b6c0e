"""Run many calls at the same time, and wait for none of them longer than a limit."""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping


def run(tasks: Mapping[Hashable, Callable[[], Any]], seconds: float) -> dict[Hashable, Any]:
    """Return the results of those tasks that ended well in time, by their names.

    Threads that haven't ended are left behind; they don't keep the program from ending.
    """
    results: queue.SimpleQueue[tuple[Hashable, Any, bool]] = queue.SimpleQueue()

    def work(name: Hashable, task: Callable[[], Any]) -> None:
        try:
            results.put((name, task(), True))
        except Exception:  # noqa: BLE001 - a part that can't be looked at is just missing
            results.put((name, None, False))

    for name, task in tasks.items():
        threading.Thread(target=work, args=(name, task), daemon=True).start()
    found: dict[Hashable, Any] = {}
    deadline = time.monotonic() + seconds
    for _ in tasks:
        try:
            name, result, ended_well = results.get(timeout=max(deadline - time.monotonic(), 0.001))
        except queue.Empty:
            break
        if ended_well:
            found[name] = result
    return found
