"""Make units, slot files and nginx agree with the ledger on the release that serves.

They differ after a crash in the middle of a release, or when an operator stopped a
unit or changed a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bedstone.apps import config, network, slots
from bedstone.apps.limits import START_SLACK_SECONDS, drain_seconds, stop_seconds
from bedstone.apps.slots import Slot
from bedstone.core import files, names, paths
from bedstone.release import commands
from bedstone.release.steps import reverse, uploads
from bedstone.release.steps.prepare import STEP_KINDS
from bedstone.release.steps.stop import end
from bedstone.release.steps.switch import servers
from bedstone.system import container, nginx
from bedstone.system.docker import environment_prefix

if TYPE_CHECKING:
    from bedstone.apps.config import App
    from bedstone.apps.slots import Made
    from bedstone.ledger.releases import Serving
    from bedstone.release.steps.reverse import Pending
    from bedstone.release.steps.uploads import Shared
    from bedstone.system.host import Host


@dataclass(frozen=True)
class Plan:
    """The changes of a reconcile; all empty when there are none."""

    app: App
    serving: str
    slot: str
    slots: tuple[Slot, ...]
    start: tuple[str, ...]
    enable: tuple[str, ...]
    surplus: tuple[str, ...]
    misled: tuple[str, ...]
    static: str | None
    schema: Pending | None
    running: tuple[str, ...]
    made: Made
    uploads: Shared | None

    def words(self) -> list[str]:
        """Return what differs, as text."""
        said = [f"{slot.key} is to run release {slot.release}" for slot in self.slots]
        said += [f"{key} doesn't run" for key in self.start]
        said += [f"{key} doesn't start at boot" for key in self.enable]
        said += [f"nginx doesn't send requests of {name} to its slot" for name in self.misled]
        said += ["static/current points elsewhere"] if self.static else []
        said += [f"{key} runs although it doesn't serve" for key in self.surplus]
        if self.schema is not None:
            said.append(f"a rollback has left {commands.said(self.schema.commands)} to be done")
        said += [f"the container {name} was left by an operation" for name in self.running]
        if self.uploads is not None:
            said.append("the uploads were being shared with a release of another user")
        return said


def plan(
    host: Host,
    app_name: str,
    serving: Serving,
    *,
    alone: bool = False,
) -> Plan:
    """Return what differs from the ledger; changes nothing.

    Args:
        host: the server.
        app_name: whose.
        serving: what serves by the ledger.
        alone: the app's lock is held, so a step's container was left by a kill. Who looks
            without the lock sees those of a running operation.

    """
    app = config.load_file(paths.release(app_name, serving.release) / "app.json")
    made = slots.read_made(app_name, serving.release)
    subnet = network.subnet(app_name) or network.ensure(host.docker, app)
    wanted = [
        Slot(
            service.name,
            key.partition("@")[2],
            serving.release,
            made.of(service.name),
            network.address(app_name, key, subnet) if service.is_http else None,
        )
        for service in (*app.http_services, *app.workers)
        for key in service.keys(serving.slot)
    ]
    present = set(slots.keys(app_name))
    keys = [slot.key for slot in wanted]
    states = host.systemd.states([names.slot_unit(app_name, key) for key in keys])
    routed = servers(app)
    current = paths.served(app_name) / "static" / "current"
    linked = str(current.readlink()) if current.is_symlink() else None
    return Plan(
        app=app,
        serving=serving.release,
        slot=serving.slot,
        slots=tuple(
            slot
            for slot in wanted
            if slot.key not in present or slots.read(app_name, slot.key) != slot
        ),
        start=tuple(
            key
            for key in keys
            if (state := states.get(names.slot_unit(app_name, key))) is None or not state.is_active
        ),
        enable=tuple(
            key
            for key in keys
            if (state := states.get(names.slot_unit(app_name, key))) is None or not state.enabled
        ),
        surplus=tuple(sorted(present - set(keys))),
        misled=() if nginx.is_right(app_name, serving.slot, routed) else tuple(routed),
        static=serving.release if made.static and linked != serving.release else None,
        schema=reverse.read_pending(app_name, serving.release),
        running=tuple(_left_running(host, app_name)) if alone else (),
        made=made,
        uploads=uploads.pending(app_name) if alone else None,
    )


def _left_running(host: Host, app_name: str) -> list[str]:
    """Return the one-off containers of steps; the operation that started them is gone."""
    wanted = {names.command_container(app_name, kind) for kind in STEP_KINDS}
    return sorted(wanted & set(host.docker.containers(f"{container.LABEL_APP}={app_name}")))


def put_right(host: Host, wanted: Plan) -> None:
    """Carry a plan out: first what serves, then nginx, at last what doesn't serve.

    Raises:
        BedstoneError: a unit doesn't start, or nginx doesn't take its configuration.

    """
    app = wanted.app
    slots.write_serving(app.name, wanted.serving, wanted.slot)
    # A migration that is still at work ends here; PostgreSQL undoes what it hadn't committed.
    host.docker.remove(*wanted.running)
    if wanted.schema is not None:
        _finish_schema(host, app.name, wanted.serving, wanted.schema)
    services = tuple(app.services.values())
    limit = max(service.health_timeout_seconds for service in services)
    for slot in wanted.slots:
        slots.write(app.name, slot)
    restart = [names.slot_unit(app.name, slot.key) for slot in wanted.slots]
    start = [
        unit for key in wanted.start if (unit := names.slot_unit(app.name, key)) not in restart
    ]
    if restart:
        limit += max(service.stop_seconds for service in services)
        host.systemd.restart(restart, timeout=limit + START_SLACK_SECONDS)
    if start:
        host.systemd.start(start, timeout=limit + START_SLACK_SECONDS)
    host.systemd.enable([names.slot_unit(app.name, key) for key in wanted.enable])
    if wanted.static:
        files.link(paths.served(app.name) / "static" / "current", wanted.static)
    if wanted.misled:
        host.nginx.lead(app.name, wanted.slot, servers(app), drain_seconds(app))
    if wanted.surplus:
        # No slot is stopped while requests are in it.
        host.nginx.wait_until_drained(slots.addresses(app.name, wanted.surplus), drain_seconds(app))
    end(host, app.name, wanted.surplus, seconds=stop_seconds(services))
    if wanted.uploads is not None:
        uploads.settle(app.name, wanted.uploads, wanted.made)


def clear(host: Host, app_name: str) -> list[str]:
    """Stop what the first release of an app has left when it was killed; return what ran."""
    keys = list(slots.keys(app_name))
    host.docker.remove(*_left_running(host, app_name))
    end(host, app_name, keys, seconds=None)
    return keys


def _finish_schema(host: Host, app_name: str, serving: str, left: Pending) -> None:
    """Run the commands that a killed rollback hasn't come to."""
    directory = paths.release(app_name, left.by)
    image = commands.Image(
        config.load_file(directory / "app.json"),
        left.by,
        slots.read_made(app_name, left.by),
        "migrate.env",
        present_secrets=True,
    )
    kind = "migrate" if left.by == serving else "reverse"
    commands.run_migrations(host, image, left.commands, kind)
    reverse.clear_pending(app_name, serving)


def sweep(app: str) -> None:
    """Remove half-made directories of static files, and files with secrets or probes in them.

    Call it only with the app's lock held.
    """
    for path in (paths.served(app) / "static").glob(".*.partial"):
        files.remove_tree(path)
    prefixes = [environment_prefix(names.command_container(app, kind)) for kind in STEP_KINDS]
    for prefix in (*prefixes, f"probe-{app}."):
        for path in paths.runtime().glob(f"{prefix}*"):
            path.unlink(missing_ok=True)
