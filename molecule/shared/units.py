"""systemd's units, waited for by what they have come to: how long they take is chance."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from testinfra.host import Host

# A machine that is ten times slower than usual still gets there.
LIMIT_SECONDS = 300
_POLL_SECONDS = 0.2

# Oneshot services are `activating` for as long as they run.
_AT_WORK = (
    "systemctl list-units --plain --no-legend --type=service"
    " --state=activating,deactivating,reloading 'bedstone-*'"
)


def wait(condition: Callable[[], object], what: str) -> None:
    """Wait until a condition holds.

    Args:
        condition: asked again and again; not at all costly.
        what: what is waited for, for the message when it doesn't come.

    """
    limit = time.monotonic() + LIMIT_SECONDS
    while not condition():
        if time.monotonic() > limit:
            pytest.fail(f"did not happen within {LIMIT_SECONDS} seconds: {what}")
        time.sleep(_POLL_SECONDS)


class Journal:
    """What a unit says from now on."""

    def __init__(self, host: Host, unit: str) -> None:
        self._host = host
        self._unit = unit
        shown = host.check_output("journalctl --quiet -n 1 -o cat --show-cursor")
        self._cursor = shown.splitlines()[-1].removeprefix("-- cursor: ")

    def text(self) -> str:
        """Return all that it has said; the last lines of a unit that ended may be on their way."""
        self._host.check_output("journalctl --sync")
        return str(
            self._host.check_output(
                "journalctl --quiet -o cat --after-cursor=%s -u %s", self._cursor, self._unit
            )
        )

    def says(self, *words: str) -> None:
        """Wait until each of these words was said."""
        for each in words:
            wait(
                lambda each=each: each in self.text(),  # type: ignore[misc]
                f"{self._unit} says {each!r}",
            )


def settle(host: Host) -> None:
    """Wait until no service of Bedstone is running, those that a failure has started included."""
    wait(lambda: host.check_output(_AT_WORK) == "", "no service is at work")


def run_until(host: Host, begin: str, seen: str, then: str) -> None:
    """Begin something, and do something to it the moment that it is so far.

    All in one shell on the server: from here the moment would have passed.

    Args:
        host: the server.
        begin: the shell command that begins it; `$pid` is its process, or 0 if it says so itself.
        seen: the shell command that ends well from that moment on.
        then: the shell command to run then.

    """
    done = host.run(
        f"cd / && pid=0; {begin}; for i in $(seq 20000); do if {seen} > /dev/null 2>&1;"
        f" then {then}; exit; fi; done; echo 'it never got so far' >&2; exit 99"
    )
    assert done.rc == 0, f"{done.stdout}\n{done.stderr}"
