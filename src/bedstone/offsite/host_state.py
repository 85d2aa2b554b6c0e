"""Copy what a rebuilt server needs besides its data: settings, secrets, history, images.

The configuration at a destination is a directory::

    contents.json     {"host", "program", "apps": {APP: {"release", "version", "image",
                      "services": {SERVICE: its own image}}}}
    etc/              /etc/bedstone, without the backup key and the keys of destinations
    state/            /var/lib/bedstone: apps/ (kept releases with their environments)
    ledger.sqlite     the ledger, whole and at rest

The images of each release that serves are kept next to it, as `docker load` takes them, under the
release's id.
"""

from __future__ import annotations

import json
import shutil
import socket
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bedstone import __version__
from bedstone.apps import slots
from bedstone.core import disk, files, names, paths
from bedstone.core.errors import BedstoneError, ConfigError
from bedstone.ledger import database, releases
from bedstone.ledger.kinds import CONFIGURATION, SERVER
from bedstone.offsite.copies import IMAGE, of_kind
from bedstone.system.docker import Docker

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bedstone.storage.restic import Repository, Snapshot

# The key would lie in what it encrypts; the others come with the settings.
_LEFT_OUT = ("backup.key", "destinations")
_KEPT_IMAGES = 3


def place() -> Path:
    """Return the directory in which things are laid ready."""
    return paths.host("/var/cache/bedstone-copies")


def collect(directory: Path) -> dict[str, Any]:
    """Lay the configuration ready in a directory, which is made, and return its contents.

    Raises:
        BedstoneError: the ledger can't be read.
        OSError: something else can't.

    """
    files.remove_tree(directory)
    paths.ensure_private(directory)
    source = paths.host("/etc/bedstone")
    shutil.copytree(
        source,
        directory / "etc",
        symlinks=True,
        ignore=lambda base, _: _LEFT_OUT if base == str(source) else (),
    )
    if (paths.state() / "apps").is_dir():
        shutil.copytree(
            paths.state() / "apps", directory / "state/apps", symlinks=True, ignore=_no_sockets
        )
    _copy_ledger(directory / "ledger.sqlite")
    contents = {"host": socket.gethostname(), "program": __version__, "apps": _served()}
    files.write(directory / "contents.json", json.dumps(contents, indent=2) + "\n", mode=0o600)
    return contents


def send(repository: Repository, contents: Mapping[str, Any], directory: Path) -> tuple[str, str]:
    """Send a configuration that lies ready, and return its name and the snapshot's id.

    Raises:
        BedstoneError: it isn't there.

    """
    moment = datetime.now(UTC)
    names = sorted(path.name for path in directory.iterdir())
    name = f"{CONFIGURATION}_{moment:%Y%m%d_%H%M%S}"
    tags = {
        "app": SERVER,
        "kind": CONFIGURATION,
        "backup": name,
        "started": moment.isoformat(),
        "program": str(contents["program"]),
    }
    return name, repository.backup(directory, names, tags)[0]


def missing_images(
    snapshots: Sequence[Snapshot], contents: Mapping[str, Any]
) -> list[tuple[str, str, str]]:
    """Return app, release and image of what serves here and isn't at a destination."""
    return [
        (app, entry["release"], entry["image"])
        for app, entry in contents["apps"].items()
        if entry["image"]
        and not any(
            s.tags.get("backup") == entry["release"] for s in of_kind(snapshots, app, IMAGE)
        )
    ]


def save_image(app: str, release: str, image: str, reserve_bytes: int) -> Path:
    """Write the images of a release into a file, as `docker load` takes it.

    Args:
        app: whose.
        release: its id.
        image: the id of the app's image.
        reserve_bytes: what has to stay free on the disk.

    Raises:
        BedstoneError: it isn't here, or there is too little disk space.

    """
    docker = Docker()
    size = 0
    wanted = {"": image, **_own_images(app, release)}
    for service, known in wanted.items():
        name = names.image(app, release, service)
        bytes_of = docker.image_size(name)
        if bytes_of is None:
            raise BedstoneError(
                f"The image {name} ({known[:19]}) of the release that serves isn't on this server."
            )
        size += bytes_of
    directory = paths.ensure_private(place() / IMAGE)
    disk.require(directory, size, reserve_bytes, f"The image of {app}")
    target = directory / f"{app}.tar"
    docker.save([names.image(app, release, service) for service in wanted], target)
    return target


def _own_images(app: str, release: str) -> dict[str, str]:
    """Return the ids of the images of services that have their own."""
    try:
        made = slots.read_made(app, release)
    except ConfigError:
        return {}
    return {service: own.image for service, own in made.services.items()}


def has_docker() -> bool:
    """Return whether this server runs containers."""
    return shutil.which("docker") is not None


def send_image(repository: Repository, app: str, release: str, archive: Path) -> str:
    """Send a release's image, and return the snapshot's id.

    Raises:
        BedstoneError: it isn't there.

    """
    tags = {"app": app, "kind": IMAGE, "backup": release}
    return repository.backup(archive.parent, [archive.name], tags)[0]


def superfluous(snapshots: Sequence[Snapshot], apps: Sequence[str]) -> list[str]:
    """Return the ids of images that have been followed by newer ones."""
    return [s.id for app in apps for s in of_kind(snapshots, app, IMAGE)[:-_KEPT_IMAGES]]


def _copy_ledger(target: Path) -> None:
    try:
        with (
            closing(database.connect()) as source,
            closing(sqlite3.connect(target)) as copy,
        ):
            source.backup(copy)
    except sqlite3.Error as error:
        raise BedstoneError(f"The ledger can't be copied: {error}.") from error
    target.chmod(0o600)


def _served() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    with database.opened() as connection:
        for app in releases.known_apps(connection):
            serving = releases.serving(connection, app)
            entry = serving and releases.get(connection, app, serving.release)
            if entry:
                found[app] = {"release": entry.id, "version": entry.version, "image": entry.image}
                if own := _own_images(app, entry.id):
                    found[app]["services"] = own
    return found


def _no_sockets(base: str, names: list[str]) -> list[str]:
    return [name for name in names if Path(base, name).is_socket() or Path(base, name).is_fifo()]
