"""The release of one app: from its source to traffic, and back when a step fails."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bedstone import (
    environment,
    files,
    history,
    network,
    nginx,
    paths,
    probe,
    slots,
    source,
)
from bedstone.container import LABEL_APP, for_command
from bedstone.docker import Docker
from bedstone.errors import BedstoneError, CommandError
from bedstone.run import Runner, run, tail
from bedstone.slots import Made, Slot
from bedstone.systemd import Systemd
from bedstone.transaction import Step

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

    from bedstone.config import App, Service
    from bedstone.history import Serving

KEPT_RELEASES = 10
CHECK_SECONDS = 300.0
MIGRATE_SECONDS = 3600.0
STATIC_SECONDS = 900.0
# What starting and stopping cost beyond the service's own limits.
START_SLACK_SECONDS = 150.0
STOP_SLACK_SECONDS = 90.0
VERIFY_ATTEMPTS = 3
VERIFY_PAUSE_SECONDS = 1.0
STEP_KINDS = ("check", "migrate", "static")


@dataclass
class Host:
    """The server's parts that a release moves; tests put fakes in their place."""

    run: Runner = run
    front_door: Callable[[str, str, int], probe.Answer] = probe.front_door
    docker: Docker = field(init=False)
    systemd: Systemd = field(init=False)
    nginx: nginx.Nginx = field(init=False)

    def __post_init__(self) -> None:
        self.docker = Docker(self.run)
        self.systemd = Systemd(self.run)
        self.nginx = nginx.Nginx(self.run, self.systemd)


@dataclass
class Release:
    """A release on its way: what is fixed from the start, and what the steps find out."""

    app: App
    id: str
    identity: str
    old: Serving | None
    host: Host
    connection: sqlite3.Connection
    on_line: Callable[[str], None] | None = None
    image: str = ""
    uid: int = 0
    gid: int = 0
    addresses: dict[str, str] = field(default_factory=dict)
    old_upstreams: dict[str, str | None] = field(default_factory=dict)
    old_static: str | None = None
    old_workers: dict[str, Slot | None] = field(default_factory=dict)
    switched: bool = False
    nginx_workers: set[int] = field(default_factory=set)

    @property
    def slot(self) -> str:
        """The slot of the HTTP services: the one that doesn't serve."""
        return "green" if self.old is not None and self.old.slot == "blue" else "blue"

    @property
    def directory(self) -> Path:
        """Where the release keeps the settings and environment it was made with."""
        return paths.release(self.app.name, self.id)

    @property
    def static(self) -> str | None:
        """The directory of the release's static files, as the server's root sees it."""
        if self.app.static is None:
            return None
        return f"/srv/bedstone/{self.app.name}/static/{self.id}"

    def slot_of(self, service: Service, name: str) -> Slot:
        """Return what a slot of this release runs."""
        return Slot(
            service=service.name,
            name=name,
            release=self.id,
            address=self.addresses.get(service.name),
            made=Made(self.image, self.uid, self.gid, self.static),
        )

    def http_units(self) -> list[str]:
        """Return the units of the new slot of all HTTP services."""
        return [
            slots.unit(self.app.name, f"{service.name}@{self.slot}")
            for service in self.app.http_services
        ]

    def worker_keys(self) -> list[str]:
        """Return ``SERVICE@SLOT`` of all workers."""
        return [f"{s.name}@{name}" for s in self.app.workers for name in s.worker_slots()]


# --- prepare ---------------------------------------------------------------------------


def prepare(release: Release) -> str:
    """Keep the settings and the environment the release is made with."""
    app = release.app
    directory = paths.ensure_private(release.directory)
    files.write(directory / "app.json", app.text, mode=0o600)
    variables = environment.load(paths.host(app.environment_file))
    files.write(directory / "app.env", environment.dumps(variables), mode=0o600)
    if app.migrate_environment_file:
        variables = environment.load(paths.host(app.migrate_environment_file))
    files.write(directory / "migrate.env", environment.dumps(variables), mode=0o600)
    for kind in STEP_KINDS:
        # Left by a release that was killed in the middle.
        release.host.docker.remove(f"bedstone-{app.name}-{kind}")
    return release.id


def unprepare(release: Release) -> None:
    """Forget the release's settings."""
    files.remove_tree(release.directory)


# --- image -----------------------------------------------------------------------------


def image(release: Release) -> str:
    """Build, pull or load the image and name it after the release."""
    app, docker = release.app, release.host.docker
    facts = source.obtain(app, release.identity, docker, release.host.run, release.on_line)
    docker.tag(facts.id, image_name(app.name, release.id))
    release.image = facts.id
    release.uid, release.gid = docker.ids(facts.id, app.user or facts.user)
    history.set_image(release.connection, app.name, release.id, facts.id)
    made = Made(facts.id, release.uid, release.gid, release.static)
    slots.write_made(app.name, release.id, made)
    return f"{app.image.kind} {facts.id[:19]}"


def unimage(release: Release) -> None:
    """Take the release's name off the image."""
    release.host.docker.untag(image_name(release.app.name, release.id))


def image_name(app: str, release_id: str) -> str:
    """Return the name of a release's image."""
    return f"bedstone/{app}:{release_id}"


# --- ground ----------------------------------------------------------------------------


def ground(release: Release) -> str:
    """Make what the containers stand on: network, addresses, the directory of uploads."""
    app, connection = release.app, release.connection
    subnet = network.ensure(release.host.docker, connection, app)
    for service in app.http_services:
        release.addresses[service.name] = network.address(
            connection, app.name, service.name, release.slot, subnet
        )
    if app.media is not None:
        media = paths.served(app.name) / "media"
        _own_media(media, release.uid, release.gid)
        # Uploads that nginx doesn't serve are the container's alone.
        media.chmod(0o700 if app.media.url is None else 0o755)
    return subnet


def _own_media(directory: Path, uid: int, gid: int) -> None:
    """Let the image's user write uploads, those made under another user's id too."""
    directory.mkdir(parents=True, exist_ok=True)
    status = directory.stat()
    if (status.st_uid, status.st_gid) == (uid, gid):
        return
    for path in directory.rglob("*"):
        shutil.chown(path, uid, gid)
    shutil.chown(directory, uid, gid)


# --- commands in the new image ------------------------------------------------------------


def check(release: Release) -> str:
    """Run the app's own checks with its environment."""
    return _commands(release, "check", release.app.commands.check, "app.env", CHECK_SECONDS)


def migrate(release: Release) -> str:
    """Change the schema, as the migration role."""
    commands = release.app.commands.migrate
    return _commands(release, "migrate", commands, "migrate.env", MIGRATE_SECONDS)


def _commands(
    release: Release,
    kind: str,
    commands: Sequence[tuple[str, ...]],
    environment_file: str,
    seconds: float,
    static_source: str | None = None,
) -> str:
    variables = environment.load(release.directory / environment_file)
    # The release has no static files of its own yet.
    made = Made(release.image, release.uid, release.gid)
    for command in commands:
        wanted = for_command(
            release.app,
            release.id,
            made,
            variables,
            command,
            kind=kind,
            static_source=static_source,
        )
        try:
            release.host.docker.run_once(wanted, timeout=seconds, on_line=release.on_line)
        except CommandError as error:
            ended = "took too long" if error.returncode is None else f"exit code {error.returncode}"
            raise BedstoneError(
                f"`{' '.join(command)}` failed in the new image: {ended}.",
                hint=f"The old release serves on. Try it by hand: `bedstone run {release.app.name}"
                " -- COMMAND`; the command is declared under `commands` of the app.",
                details=error.details,
            ) from error
    return ", ".join(" ".join(command) for command in commands) or "none declared"


# --- static files --------------------------------------------------------------------------


def static(release: Release) -> str:
    """Collect the static files into a directory of the release's own."""
    app = release.app
    if app.static is None or release.static is None:
        return "none declared"
    final = paths.host(release.static)
    partial = final.with_name(f".{release.id}.partial")
    files.remove_tree(partial)
    partial.parent.mkdir(parents=True, exist_ok=True)
    partial.mkdir(mode=0o755)
    if app.commands.static:
        # The container's user writes; afterwards nobody but root does.
        shutil.chown(partial, release.uid, release.gid)
        _commands(release, "static", app.commands.static, "app.env", STATIC_SECONDS, str(partial))
    else:
        release.host.docker.copy_out(release.image, app.static.path, partial)
    count = _readable_by_all(partial)
    partial.rename(final)
    files.sync_directory(final.parent)
    return f"{count} files"


def unstatic(release: Release) -> None:
    """Remove the release's static files."""
    if release.static is not None:
        final = paths.host(release.static)
        files.remove_tree(final)
        files.remove_tree(final.with_name(f".{release.id}.partial"))


def _readable_by_all(directory: Path) -> int:
    """Give a tree to root and let everybody read it; return the number of its files."""
    count = 0
    for path in [directory, *directory.rglob("*")]:
        if path.is_symlink():
            continue
        shutil.chown(path, 0, 0)
        path.chmod(0o755 if path.is_dir() else 0o644)
        count += path.is_file()
    return count


# --- start ---------------------------------------------------------------------------------


def start(release: Release) -> str:
    """Start the new slot beside the old one and wait until every service is healthy."""
    app, systemd = release.app, release.host.systemd
    services, units = app.http_services, release.http_units()
    # Whatever a killed release left in this slot: nothing is sent to it.
    systemd.stop(units, timeout=stop_seconds(services))
    for service in services:
        slots.write(app.name, release.slot_of(service, release.slot))
    _start_units(release, systemd.start, units, services)
    # At boot both slots start until the release is recorded: nginx finds one.
    systemd.enable(units)
    return f"{', '.join(s.name for s in services)} healthy in slot {release.slot}"


def unstart(release: Release) -> None:
    """Stop the new slot."""
    app, units = release.app, release.http_units()
    release.host.systemd.stop(units, timeout=stop_seconds(app.http_services))
    release.host.systemd.disable(units)
    for service in app.http_services:
        slots.remove(app.name, f"{service.name}@{release.slot}")


def _start_units(
    release: Release,
    start_them: Callable[..., None],
    units: Sequence[str],
    services: Sequence[Service],
) -> None:
    began = f"@{time.time():.3f}"
    limit = max(service.health_timeout_seconds for service in services)
    limit += max(service.stop_seconds for service in services)
    try:
        start_them(units, timeout=limit + START_SLACK_SECONDS)
    except CommandError as error:
        states = release.host.systemd.states(units)
        broken = [name for name in units if name not in states or not states[name].is_active]
        lines = release.host.systemd.journal(broken or units, since=began)
        raise BedstoneError(
            f"{', '.join(broken or units)} didn't get healthy.",
            hint=f"All of its output: `journalctl -u {(broken or list(units))[0]}`.",
            details=tail(lines) or error.details,
        ) from error


def stop_seconds(services: Sequence[Service]) -> float:
    """Return how long stopping services may take at most."""
    return max((service.stop_seconds for service in services), default=0) + STOP_SLACK_SECONDS


# --- switch --------------------------------------------------------------------------------


def switch(release: Release) -> str:
    """Send new requests to the new slot, of all services at once."""
    app, host = release.app, release.host
    routed = [service for service in app.http_services if service.route is not None]
    release.old_upstreams = nginx.read_upstreams(app.name, [s.name for s in routed])
    release.old_static = _current_static(app)
    if release.static is not None:
        files.link(paths.served(app.name) / "static" / "current", release.id)
    nginx.write_upstreams(app.name, upstreams(app, release.addresses))
    host.nginx.test()
    release.switched = True
    release.nginx_workers = host.nginx.reload()
    return f"{', '.join(service.name for service in routed)} to slot {release.slot}"


def unswitch(release: Release) -> None:
    """Send new requests to the old slot again."""
    app, host = release.app, release.host
    link = paths.served(app.name) / "static" / "current"
    if release.old_static is not None:
        files.link(link, release.old_static)
    elif link.is_symlink():
        link.unlink()
    nginx.write_upstreams(app.name, release.old_upstreams)
    if release.switched:
        host.nginx.test()
        # Requests already in the new slot end before it is stopped.
        workers = host.nginx.reload()
        host.nginx.wait_for_end(workers, drain_seconds(app))


def upstreams(app: App, addresses: dict[str, str]) -> dict[str, str | None]:
    """Return nginx's files for the services that have a route."""
    return {
        service.name: nginx.upstream(app.name, service.name, addresses[service.name], service.port)
        for service in app.http_services
        if service.route is not None and service.port is not None
    }


def _current_static(app: App) -> str | None:
    link = paths.served(app.name) / "static" / "current"
    return str(link.readlink()) if link.is_symlink() else None


def drain_seconds(app: App) -> float:
    """Return how long requests in flight are waited for."""
    return float(max((service.stop_seconds for service in app.http_services), default=0))


# --- verify --------------------------------------------------------------------------------


def verify(release: Release) -> str:
    """Ask every routed service through nginx, over TLS, as a visitor would."""
    app = release.app
    said = []
    for service in app.http_services:
        if service.route is None or app.main_domain is None:
            continue
        path = front_door_path(service)
        answer = release.host.front_door(app.main_domain, path, app.https_port)
        for _ in range(VERIFY_ATTEMPTS - 1):
            if answer.ok:
                break
            time.sleep(VERIFY_PAUSE_SECONDS)
            answer = release.host.front_door(app.main_domain, path, app.https_port)
        if not answer.ok:
            unit = slots.unit(app.name, f"{service.name}@{release.slot}")
            raise BedstoneError(
                f"Through the front door, {answer.said}.",
                hint="The service is healthy at its own address; /var/log/nginx/error.log and the"
                " lines above say what differs.",
                details=tail(release.host.systemd.journal([unit])),
            )
        said.append(answer.said)
    return "; ".join(said) or "no domain to ask"


def front_door_path(service: Service) -> str:
    """Return the path to ask for: the health path if it is below the route, else the route."""
    route = service.route or "/"
    if service.health is not None and service.health.startswith(route):
        return service.health
    return route


# --- workers -------------------------------------------------------------------------------


def workers(release: Release) -> str:
    """Let the workers follow: each stops warm and starts anew from the new image."""
    app, keys = release.app, release.worker_keys()
    present = slots.keys(app.name)
    release.old_workers = {
        key: slots.read(app.name, key) if key in present else None for key in keys
    }
    for service in app.workers:
        for name in service.worker_slots():
            slots.write(app.name, release.slot_of(service, name))
    units = [slots.unit(app.name, key) for key in keys]
    _start_units(release, release.host.systemd.restart, units, app.workers)
    release.host.systemd.enable(units)
    return ", ".join(keys)


def unworkers(release: Release) -> None:
    """Let the workers of before run again."""
    app, systemd = release.app, release.host.systemd
    again, new = [], []
    for key, slot in release.old_workers.items():
        if slot is None:
            new.append(slots.unit(app.name, key))
            slots.remove(app.name, key)
        else:
            again.append(slots.unit(app.name, key))
            slots.write(app.name, slot)
    systemd.stop(new, timeout=stop_seconds(app.workers))
    systemd.disable(new)
    if again:
        limit = max(service.health_timeout_seconds for service in app.workers)
        systemd.restart(again, timeout=limit + START_SLACK_SECONDS)


# --- record --------------------------------------------------------------------------------


def record(release: Release) -> str:
    """Make it the release that serves: from here on nothing is undone."""
    history.commit(release.connection, release.app.name, release.id, release.slot)
    return release.id


# --- afterwards: the release serves; nothing here undoes it ------------------------------------


def drain(release: Release) -> str:
    """Let the old slot's requests finish, then stop what no longer serves."""
    app, host = release.app, release.host
    wanted = {*release.worker_keys(), *(f"{s.name}@{release.slot}" for s in app.http_services)}
    surplus = [key for key in slots.keys(app.name) if key not in wanted]
    if not surplus:
        return "nothing ran before"
    seconds = drain_seconds(app)
    finished = host.nginx.wait_for_end(release.nginx_workers, seconds)
    units = [slots.unit(app.name, key) for key in surplus]
    host.systemd.stop(units, timeout=stop_seconds(tuple(app.services.values())))
    host.systemd.disable(units)
    for key in surplus:
        slots.remove(app.name, key)
    late = "" if finished else f" (requests were still open after {seconds:g} seconds)"
    return f"{', '.join(surplus)} stopped{late}"


def prune(release: Release) -> str:
    """Remove images, static files and settings of releases beyond the ten kept."""
    app, docker = release.app.name, release.host.docker
    entries = history.entries(release.connection, app)
    succeeded = [entry.id for entry in entries if entry.state == "succeeded"]
    kept = {*succeeded[:KEPT_RELEASES], release.id}
    removed = 0
    for tag in docker.tags(f"bedstone/{app}"):
        if tag not in kept:
            docker.untag(image_name(app, tag))
            removed += 1
    docker.remove_dangling(f"{LABEL_APP}={app}")
    for directory in (paths.release(app, "x").parent, paths.served(app) / "static"):
        if not directory.is_dir():
            continue
        for path in directory.iterdir():
            if path.name not in kept and path.name != "current":
                files.remove_tree(path)
    return f"{len(kept)} kept, {removed} images removed"


def transactional(app: App) -> list[Step[Release]]:
    """Return the steps that hold together: when one fails, all are undone."""
    steps = [
        Step("prepare", prepare, unprepare),
        Step("image", image, unimage),
        Step("network", ground),
        Step("check", check),
        Step("migrate", migrate),
        Step("static", static, unstatic),
    ]
    if app.http_services:
        steps.append(Step("start", start, unstart))
    if any(service.route is not None for service in app.http_services):
        steps += [Step("switch", switch, unswitch), Step("verify", verify)]
    if app.workers:
        steps.append(Step("workers", workers, unworkers))
    return [*steps, Step("record", record)]


def afterwards() -> list[Step[Release]]:
    """Return the steps after the release is recorded, whose failure is only a warning."""
    return [Step("drain", drain), Step("prune", prune)]
