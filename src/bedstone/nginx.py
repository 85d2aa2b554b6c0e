"""nginx's side of a release: where each service's requests go."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from bedstone import files, paths
from bedstone.errors import BedstoneError
from bedstone.run import Runner, run
from bedstone.systemd import Systemd

if TYPE_CHECKING:
    from collections.abc import Mapping

UNIT = "nginx.service"
RELOAD_SECONDS = 15.0
_POLL_SECONDS = 0.1
_OPENED_CONNECTIONS_KEPT = 16


def upstream(app: str, service: str, address: str, port: int) -> str:
    """Return the text of the file that sends a service's requests to an address."""
    return (
        f"# Written by `bedstone` at each release of {app}: don't edit.\n"
        f"upstream {app}-{service} {{\n"
        f"    server {address}:{port};\n"
        f"    keepalive {_OPENED_CONNECTIONS_KEPT};\n"
        # Shorter than any app server's own (gunicorn 2 s, Node and uvicorn 5 s): a POST sent
        # into a connection that the app is just closing is lost, and never sent again.
        "    keepalive_timeout 1s;\n"
        "}\n"
    )


def read_upstreams(app: str, services: list[str]) -> dict[str, str | None]:
    """Return the present text of the services' files, None for one that isn't there."""
    result: dict[str, str | None] = {}
    for service in services:
        path = paths.upstream(app, service)
        result[service] = path.read_text(encoding="utf-8") if path.exists() else None
    return result


def write_upstreams(app: str, texts: Mapping[str, str | None]) -> bool:
    """Write services' files (or remove those with None); return whether one changed.

    Raises:
        BedstoneError: nginx isn't set up here.

    """
    changed = False
    for service, text in texts.items():
        path = paths.upstream(app, service)
        if not path.parent.is_dir():
            raise BedstoneError(
                f"{path.parent} isn't there: nginx hasn't been set up on this server.",
                hint="Run `ansible-playbook playbooks/site.yml`; its role nginx makes it.",
            )
        present = path.read_text(encoding="utf-8") if path.exists() else None
        if present == text:
            continue
        changed = True
        if text is None:
            path.unlink()
        else:
            files.write(path, text)
    return changed


class Nginx:
    """nginx on this server."""

    def __init__(self, runner: Runner = run, systemd: Systemd | None = None) -> None:
        self._run = runner
        self._systemd = systemd or Systemd(runner)

    def test(self) -> None:
        """Check the configuration.

        Raises:
            CommandError: nginx doesn't accept it; holds nginx's own words.

        """
        self._run(["nginx", "-t", "-q"])

    def reload(self) -> set[int]:
        """Make nginx take its configuration, and wait until only new workers take requests.

        nginx starts the new workers first and tells the old ones a tenth of a second later: a
        request in between may still be answered by the configuration of before.

        Returns:
            the workers of before, which end when their last request has ended.

        Raises:
            BedstoneError: it didn't take it within 15 seconds.

        """
        before = self.workers()
        self._systemd.reload(UNIT)
        deadline = time.monotonic() + RELOAD_SECONDS
        while before:
            accepting = self.workers(accepting=True)
            if accepting and not accepting & before:
                break
            if time.monotonic() > deadline:
                raise BedstoneError(
                    "nginx was told to reload but its new workers didn't take over.",
                    hint="`journalctl -u nginx` and /var/log/nginx/error.log say why.",
                )
            time.sleep(_POLL_SECONDS)
        return before

    def wait_for_end(self, workers: set[int], seconds: float) -> bool:
        """Wait until workers of before a reload have ended; return whether they have."""
        deadline = time.monotonic() + seconds
        while workers & self.workers():
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def workers(self, *, accepting: bool = False) -> set[int]:
        """Return the process ids of nginx's workers, or only of those that take new requests."""
        try:
            master = int(paths.host("/run/nginx.pid").read_text(encoding="ascii"))
            children = paths.host(f"/proc/{master}/task/{master}/children").read_text("ascii")
        except (OSError, ValueError):
            return set()
        found = set()
        for pid in map(int, children.split()):
            with suppress(OSError):
                title = paths.host(f"/proc/{pid}/cmdline").read_bytes()
                ending = b"shutting down" in title
                if b"worker process" in title and not (accepting and ending):
                    found.add(pid)
        return found
