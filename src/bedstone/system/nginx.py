"""Route each app's requests to its serving slot in nginx.

Both slots of a service are upstreams in nginx's configuration. Which of them gets an app's requests
is a symbolic link that nginx resolves at each request (role nginx), so that a release moves one
link and reloads nothing: a reload closes the clients' idle connections, and a request that is
just being sent on one of them is lost.
"""

from __future__ import annotations

import re
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from bedstone.core import files, paths
from bedstone.core.errors import BedstoneError, CommandError
from bedstone.core.names import HTTP_SLOTS
from bedstone.core.process import Runner, run, tail
from bedstone.system.systemd import Systemd

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    # service -> slot -> ADDRESS:PORT of each replica
    Servers = Mapping[str, Mapping[str, tuple[str, ...]]]

UNIT = "nginx.service"
# A request chooses its slot and connects to it in one step, but it is not seen until it has
# connected: looks that see none count only when they have done so for this long.
QUIET_SECONDS = 0.5
_POLL_SECONDS = 0.1
_OPENED_CONNECTIONS_KEPT = 16
# A replica that is away gets no requests for two seconds, then one at a time as a probe. Not at its
# first failure: a request that ends one process after the other must not close all of them.
_FAILURES = "max_fails=3 fail_timeout=2s"
_NOWHERE = "    server 127.0.0.1:9 down;\n"
_UPSTREAM = re.compile(r"upstream (\S+) \{([^}]*)\}")
_SERVER = re.compile(r"server ([0-9.]+:[0-9]+)(?: max_fails=[^;]*)?;")
# www-data's, in every Debian (base-passwd). Others have connections with a slot as well: PostgreSQL
# those of its sessions, root those of the program's own probes.
_WORKERS_UID = "33"
_ESTABLISHED, _SYN_SENT = "01", "02"


def render(
    app: str, service: str, servers: Mapping[str, tuple[str, ...]], plain: tuple[str, ...]
) -> str:
    """Return the file of a service's upstreams.

    Args:
        app: the app.
        service: the service.
        servers: ADDRESS:PORT of the replicas of each slot that has some.
        plain: the same of where requests go while no slot is linked.

    """
    name = f"{app}-{service}"
    blocks = [f"upstream {name} {{\n{_lines(plain)}}}\n"]
    blocks += [
        f"upstream {name}-{slot} {{\n"
        f"{_lines(servers.get(slot, ()))}"
        f"    keepalive {_OPENED_CONNECTIONS_KEPT};\n"
        # Shorter than any app server's own (gunicorn 2 s, Node and uvicorn 5 s): a POST sent
        # into a connection that the app is just closing is lost, and never sent again.
        "    keepalive_timeout 1s;\n"
        "}\n"
        for slot in HTTP_SLOTS
    ]
    return f"# Written by `bedstone` for {app}: don't edit.\n{''.join(blocks)}"


def _lines(servers: Sequence[str]) -> str:
    """Return the lines of the replicas' addresses.

    nginx takes no notice of failures where there is one server alone.
    """
    tolerance = f" {_FAILURES}" if len(servers) > 1 else ""
    return "".join(f"    server {server}{tolerance};\n" for server in servers) or _NOWHERE


def _parsed(path: Path) -> dict[str, tuple[str, ...]]:
    """Return the servers of each upstream that a file has, without those that have none."""
    text = path.read_text("utf-8") if path.exists() else ""
    found = {name: tuple(_SERVER.findall(body)) for name, body in _UPSTREAM.findall(text)}
    return {name: servers for name, servers in found.items() if servers}


def linked(app: str) -> str | None:
    """Return the slot that gets an app's requests, if one does."""
    link = paths.serving_link(app)
    return link.readlink().name if link.is_symlink() else None


def link(app: str, slot: str | None) -> None:
    """Send an app's requests to a slot from now on, or to none."""
    path = paths.serving_link(app)
    if slot == linked(app):
        return
    if slot is None:
        # nginx would log a missing one at each request.
        files.write(path, "No slot gets requests.\n")
        return
    path.parent.mkdir(exist_ok=True)
    files.link(path, f"../slots/{slot}")


def upstream_texts(app: str, slot: str | None, servers: Servers) -> dict[Path, str]:
    """Return the text of each service's file as it should be when a slot gets the requests.

    Args:
        app: the app.
        slot: the slot; None when none does.
        servers: the addresses of each slot of each service. The other slot's stay as they are in
            the file: another release, with another port or more replicas, may run there.

    """
    result = {}
    for service, wanted in servers.items():
        path = paths.upstream(app, service)
        name = f"{app}-{service}"
        known = _parsed(path)
        kept = {s: known[f"{name}-{s}"] for s in HTTP_SLOTS if f"{name}-{s}" in known}
        merged = {**wanted, **kept}
        if slot is not None and slot in wanted:
            merged[slot] = wanted[slot]
        plain: tuple[str, ...] = ()
        if not _follows_link(app):
            plain = merged.get(slot or "", ())
        elif linked(app) is None:
            plain = known.get(name, ())
        result[path] = render(app, service, merged, plain)
    return result


def is_right(app: str, slot: str, servers: Servers) -> bool:
    """Return whether an app's requests go to a slot, and nginx has loaded all it needs for that."""
    texts = upstream_texts(app, slot, servers)
    if not texts:
        return True
    same = all(path.exists() and path.read_text("utf-8") == text for path, text in texts.items())
    return same and linked(app) == slot and not paths.reload_owed(app).exists()


def _follows_link(app: str) -> bool:
    """Return whether the app's site is of a role that uses the link (since November 2026)."""
    site = paths.host("/etc/nginx/bedstone/sites") / f"{app}.conf"
    return not site.exists() or "$bedstone_slot" in site.read_text("utf-8")


class Nginx:
    """nginx on this server."""

    def __init__(self, runner: Runner = run, systemd: Systemd | None = None) -> None:
        self._run = runner
        self._systemd = systemd or Systemd(runner)

    def lead(self, app: str, slot: str | None, servers: Servers, seconds: float) -> bool:
        """Send an app's requests to a slot, those of all services at once.

        Args:
            app: the app.
            slot: the slot; None for none.
            servers: the addresses of each slot of each service.
            seconds: how long workers of the previous configuration may take to end, if nginx
                has to be reloaded: for a new service, another port, or another number of replicas.

        Returns:
            whether it was reloaded.

        Raises:
            BedstoneError: nginx isn't set up here, or doesn't take its configuration; requests
                go where they went.

        """
        texts = upstream_texts(app, slot, servers)
        reloaded = self._load(app, texts, seconds) if texts else False
        link(app, slot)
        # Without the server of an earlier version's file, now that nothing leads there. nginx
        # reads that whenever it is reloaded.
        for path, text in upstream_texts(app, slot, servers).items():
            if text != texts[path]:
                files.write(path, text)
        return reloaded

    def _load(self, app: str, texts: Mapping[Path, str], seconds: float) -> bool:
        """Write files and let nginx load them, if they differ; return whether they did."""
        former = {path: path.read_text("utf-8") if path.exists() else None for path in texts}
        owed = paths.reload_owed(app)
        if former == texts and not owed.exists():
            return False
        for path in texts:
            if not path.parent.is_dir():
                raise BedstoneError(
                    f"{path.parent} isn't there: nginx hasn't been set up on this server.",
                    hint="Run `ansible-playbook playbooks/site.yml`; its role nginx makes it.",
                )
        # A kill from here on leaves files that nginx may not have loaded.
        paths.ensure_private(owed.parent)
        files.write(owed, "nginx has to be reloaded for this app's upstreams.\n", mode=0o600)
        try:
            for path, text in texts.items():
                files.write(path, text)
            self.test()
            workers = self.reload()
        except BedstoneError:
            # nginx keeps the configuration that it has loaded.
            for path, present in former.items():
                if present is None:
                    path.unlink(missing_ok=True)
                else:
                    files.write(path, present)
            owed.unlink()
            raise
        # They use the other addresses, and would send there what they are still reading.
        self.wait_for_end(workers, seconds)
        owed.unlink()
        return True

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
            the previous workers, which end when their last request has ended.

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
        """Wait until the workers of a previous configuration have ended; return whether they have.

        They may have ended before the first look, and their ids be others' by now.
        """
        return _wait(lambda: not workers & self.workers(), seconds)

    def workers(self) -> set[int]:
        """Return the process ids of nginx's workers, those included that are about to end.

        All processes are looked at: the kernel's own list of a process's children can leave
        one out while another one ends.
        """
        try:
            master = int(paths.host("/run/nginx.pid").read_text(encoding="ascii"))
        except (OSError, ValueError):
            return set()
        found = set()
        for directory in paths.host("/proc").iterdir():
            if directory.name.isdigit():
                with suppress(OSError, IndexError):
                    fields = (directory / "stat").read_bytes().rpartition(b")")[2].split()
                    title = (directory / "cmdline").read_bytes()
                    if int(fields[1]) == master and b"worker process" in title:
                        found.add(int(directory.name))
        return found

    def wait_until_drained(self, addresses: Collection[str], seconds: float) -> bool:
        """Wait until no request is open at addresses that get no new ones.

        Args:
            addresses: of the slots to be stopped.
            seconds: how long to wait at most.

        Returns:
            whether all requests have ended.

        """
        quiet_since: list[float] = []

        def quiet() -> bool:
            now = time.monotonic()
            if open_connections(addresses):
                quiet_since.clear()
                return False
            quiet_since[:] = quiet_since[:1] or [now]
            return now - quiet_since[0] >= QUIET_SECONDS

        return not addresses or _wait(quiet, max(seconds, QUIET_SECONDS + 2 * _POLL_SECONDS))


def open_connections(addresses: Collection[str]) -> int:
    """Return how many connections nginx's workers have to addresses, those being made included.

    From the kernel's table (proc(5), /proc/net/tcp).
    """
    wanted = {_in_table(address) for address in addresses}
    try:
        table = paths.host("/proc/net/tcp").read_text(encoding="ascii")
    except OSError:
        return 0
    rows = (line.split() for line in table.splitlines()[1:])
    return sum(
        row[2].partition(":")[0] in wanted
        and row[3] in {_ESTABLISHED, _SYN_SENT}
        and row[7] == _WORKERS_UID
        for row in rows
    )


def _in_table(address: str) -> str:
    """Return an IPv4 address as the kernel's table has it: hexadecimal, in the host's order."""
    return f"{int.from_bytes(bytes(map(int, address.split('.'))), sys.byteorder):08X}"


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True
