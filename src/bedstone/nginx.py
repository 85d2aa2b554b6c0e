"""nginx's side of a release: where each service's requests go."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bedstone import files, paths
from bedstone.errors import BedstoneError, CommandError
from bedstone.run import Runner, run, tail
from bedstone.systemd import Systemd

if TYPE_CHECKING:
    from collections.abc import Mapping

UNIT = "nginx.service"
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

        The unit itself waits for that (role nginx).

        Returns:
            the workers of before, which end when their last request has ended.

        Raises:
            BedstoneError: it didn't take it; holds what the unit and nginx said last.

        """
        before = self.workers()
        began = f"@{time.time():.3f}"
        try:
            self._systemd.reload(UNIT)
        except CommandError as error:
            raise BedstoneError(
                "nginx was told to reload but didn't take its configuration.",
                hint="`journalctl -u nginx` and /var/log/nginx/error.log say why.",
                details=tail(self._systemd.journal([UNIT], since=began)) or error.details,
            ) from error
        return before

    def wait_for_end(self, workers: set[int], seconds: float) -> bool:
        """Wait until workers of before a reload have ended; return whether they have."""
        deadline = time.monotonic() + seconds
        # Each is asked for itself: the kernel's list of children can leave one out while
        # another one ends.
        while any(_is_worker(pid) for pid in workers):
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def workers(self) -> set[int]:
        """Return the process ids of nginx's workers, those included that are about to end."""
        try:
            master = int(paths.host("/run/nginx.pid").read_text(encoding="ascii"))
            children = paths.host(f"/proc/{master}/task/{master}/children").read_text("ascii")
        except (OSError, ValueError):
            return set()
        return {pid for pid in map(int, children.split()) if _is_worker(pid)}


def _is_worker(pid: int) -> bool:
    try:
        return b"worker process" in paths.host(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
