"""Build the containers of an app: of its services, and of one-off commands."""

from __future__ import annotations

import grp
from dataclasses import replace
from typing import TYPE_CHECKING

from bedstone.core import names, paths
from bedstone.system.container import LABEL_APP, LABEL_RELEASE, LABEL_SERVICE, LABEL_SLOT, Container

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bedstone.apps.config import App, Service
    from bedstone.apps.slots import Made, Slot


# A service without a limit of its own: the kernel ends it, not PostgreSQL or its neighbours.
_SHARE_OF_MEMORY = 0.5


_LEAST_MEMORY_MB = 256


_MEMORY_STEP_MB = 64


def for_service(
    app: App, service: Service, slot: Slot, environment: Mapping[str, str]
) -> Container:
    """Return the container of a service's slot."""
    return replace(
        _base(app, slot.made, environment, own_image=service.image is not None),
        name=names.slot_container(app.name, service.name, slot.name),
        command=service.command,
        address=slot.address,
        alias=service.name,
        labels={
            LABEL_APP: app.name,
            LABEL_SERVICE: service.name,
            LABEL_SLOT: slot.name,
            LABEL_RELEASE: slot.release,
        },
        memory_mb=service.memory_mb or default_memory_mb(),
        cpus=service.cpus,
        pids=service.pids,
        stop_seconds=service.stop_seconds,
        stop_signal=service.stop_signal,
        publish=service.publish,
    )


def for_command(
    app: App,
    release: str,
    made: Made,
    environment: Mapping[str, str],
    command: tuple[str, ...],
    *,
    kind: str,
    static_source: str | None = None,
    mounts: Sequence[tuple[str, str]] = (),
    migrate: bool = False,
) -> Container:
    """Return the container of a one-off command in a release's image.

    Args:
        app: the app as the release has it.
        release: its id.
        made: its image, its user, and its static files if it has them by now.
        environment: the command's variables.
        command: what to run.
        kind: ends the container's name: ``check``, ``run-1a2b``...
        static_source: a directory that is mounted writable in place of the
            release's static files, for the command that makes them.
        mounts: further files it sees, read only: where on the server, where in it.
        migrate: whether it logs in to the database as the role that migrates.

    """
    base = _base(app, made, environment, migrate=migrate)
    container = replace(
        base,
        mounts=(*base.mounts, *mounts),
        name=names.command_container(app.name, kind),
        command=command,
        one_off=True,
        labels={LABEL_APP: app.name, LABEL_RELEASE: release},
    )
    if static_source is None or app.static is None:
        return container
    static = app.static.path
    return replace(
        container,
        mounts=tuple(mount for mount in container.mounts if mount[1] != static),
        writable_mounts=(*container.writable_mounts, (static_source, static)),
    )


def _base(
    app: App,
    made: Made,
    environment: Mapping[str, str],
    *,
    migrate: bool = False,
    own_image: bool = False,
) -> Container:
    given = [mount for mount in app.mounts if not (own_image and mount.of_image)]
    by_target = {mount.target: mount for mount in given}
    if migrate:
        by_target |= {mount.target: mount for mount in app.migrate_mounts}
    readable = by_target.values()
    mounts = [(str(paths.host(mount.source)), mount.target) for mount in readable]
    if app.static is not None and made.static is not None:
        # Django's manifest of hashed names is read from there at run time.
        mounts.append((str(paths.host(made.static)), app.static.path))
    writable = []
    if app.media is not None:
        writable.append((str(paths.served(app.name) / "media"), app.media.path))
    return Container(
        name="",
        image=made.image,
        network=app.network,
        environment=environment,
        hosts=app.hosts,
        mounts=tuple(mounts),
        writable_mounts=tuple(writable),
        groups=tuple(sorted({grp.getgrnam(m.group).gr_gid for m in readable if m.group})),
        tmpfs=app.tmpfs,
        read_only=app.read_only,
        user=app.user,
        capabilities=app.capabilities,
        init=app.init,
        memory_mb=default_memory_mb(),
    )


def default_memory_mb() -> int:
    """Return the memory limit of a container that declares none: half of the server's."""
    with open("/proc/meminfo", encoding="ascii") as stream:  # noqa: PTH123
        total = next(int(line.split()[1]) for line in stream if line.startswith("MemTotal:"))
    # In steps, so that no container differs from itself after an upgrade of the kernel.
    share = int(total / 1024 * _SHARE_OF_MEMORY) // _MEMORY_STEP_MB * _MEMORY_STEP_MB
    return max(share, _LEAST_MEMORY_MB)
