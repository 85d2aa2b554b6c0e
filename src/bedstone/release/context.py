"""Hold the state of a running operation: the results of its steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bedstone.apps.slots import Made, OwnImage, Slot
from bedstone.core import paths

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from bedstone.apps.config import App
    from bedstone.apps.current import Current
    from bedstone.ledger.releases import Serving
    from bedstone.migrations import Report
    from bedstone.system.host import Host


@dataclass(frozen=True)
class ReleaseOptions:
    """The operator's options of a release or rollback.

    Attributes:
        accepted: migrations (or rules) whose findings stop no release.
        rebuild: build the image again, on the newest base image.
        keep_schema: a rollback that leaves the newer schema.
        old_secrets: a rollback to the secrets of that time, too.

    """

    accepted: tuple[str, ...] = ()
    rebuild: bool = False
    keep_schema: bool = False
    old_secrets: bool = False


@dataclass
class Schema:
    """The database's schema, as the steps find it.

    Attributes:
        asked: what the tool said in the start of the app that ran its check, if it was asked there.
        report: what the app's migration tool says; None when no tool can say it.
        breaking: pending migrations that the previous release is incompatible with.
        changes: whether this operation changes the schema, as far as is known.
        reversal: a rollback's commands that undo migrations in the newer image.
        reverse_first: whether that is done before the older release starts.
        forward: whether the release to come back to has migrations that aren't applied.

    """

    asked: Report | None = None
    report: Report | None = None
    breaking: tuple[str, ...] = ()
    changes: bool = False
    reversal: tuple[tuple[str, ...], ...] = ()
    reverse_first: bool = False
    forward: bool = False


@dataclass
class Rollout:
    """A running release: what is fixed from the start, and what the steps find out."""

    app: App
    id: str
    operation: int
    old: Serving | None
    host: Host
    connection: sqlite3.Connection
    on_line: Callable[[str], None] | None = None
    options: ReleaseOptions = field(default_factory=ReleaseOptions)
    # Of a new release, by service: what identifies the sources, and what the images are built from.
    identities: Mapping[str, str] = field(default_factory=dict)
    builds: Mapping[str, str | None] = field(default_factory=dict)
    # What its steps find out.
    image: str = ""
    uid: int = 0
    gid: int = 0
    own_images: dict[str, OwnImage] = field(default_factory=dict)
    schema: Schema = field(default_factory=Schema)
    restore_point: str | None = None
    # Of a rollback: the release that serves, whose image has the newer migrations.
    newer: Current | None = None
    old_environments: dict[str, str] = field(default_factory=dict)
    # SERVICE@SLOT -> address.
    addresses: dict[str, str] = field(default_factory=dict)
    old_slot: str | None = None
    old_static: str | None = None
    old_workers: dict[str, Slot | None] = field(default_factory=dict)
    # Whether the static files were collected in the start of the app that migrated.
    collected: bool = False
    # Whether nginx may send requests to the new slot.
    taken: bool = False

    @property
    def slot(self) -> str:
        """The slot of the HTTP services: the one that doesn't serve."""
        return "green" if self.old is not None and self.old.slot == "blue" else "blue"

    @property
    def directory(self) -> Path:
        """Return the directory with the settings and environment of the release."""
        return paths.release(self.app.name, self.id)

    @property
    def made(self) -> Made:
        """Return what the release has made so far, its static files included."""
        return Made(self.image, self.uid, self.gid, self.static, self.own_images)

    @property
    def static(self) -> str | None:
        """The directory of the release's static files, as the server's root sees it."""
        if self.app.static is None:
            return None
        return f"/srv/bedstone/{self.app.name}/static/{self.id}"

    def slot_of(self, key: str) -> Slot:
        """Return what ``SERVICE@SLOT`` of this release runs."""
        service, _, name = key.partition("@")
        return Slot(service, name, self.id, self.made.of(service), self.addresses.get(key))

    def http_keys(self) -> list[str]:
        """Return ``SERVICE@SLOT`` of all replicas of the HTTP services in the new slot."""
        return [key for service in self.app.http_services for key in service.keys(self.slot)]

    def worker_keys(self) -> list[str]:
        """Return ``SERVICE@SLOT`` of all workers."""
        return [key for service in self.app.workers for key in service.keys(self.slot)]
