"""Repositories made of directories, in the place of restic's: what they keep, and how they fail."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from bedstone.backup import media
from bedstone.storage import restic_errors
from bedstone.storage.restic import Contents, Snapshot
from bedstone.storage.restic_errors import ResticError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from bedstone.storage.destinations import Destination


class Elsewhere:
    """All repositories of a test, and what is wrong with some."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.calls: list[tuple[str, ...]] = []
        # Name of a destination -> why it fails.
        self.broken: dict[str, str] = {}
        # What happens in the middle of a backup, instead of its end.
        self.interrupted: Callable[[], None] | None = None

    def home(self, destination: str) -> Path:
        return self.root / "elsewhere" / destination

    def open(self, destination: Destination, **_: object) -> Repository:
        return Repository(self, destination)

    def kept(self, destination: str, **tags: str) -> list[Snapshot]:
        """Return what is there, whether or not it can be reached."""
        return [s for s in _read(self.home(destination)) if tags.items() <= s.tags.items()]


class Repository:
    """One of them; the methods of bedstone.storage.restic.Repository that the program calls."""

    def __init__(self, elsewhere: Elsewhere, destination: Destination) -> None:
        self._elsewhere = elsewhere
        self.destination = destination
        self.location = destination.words()
        self._home = elsewhere.home(destination.name)

    def _note(self, *call: str) -> None:
        self._elsewhere.calls.append((self.destination.name, *call))
        if reason := self._elsewhere.broken.get(self.destination.name):
            raise ResticError(f"{self.destination.name} fails: {reason}.", reason)

    def _require(self) -> None:
        if not self._home.is_dir():
            raise ResticError(
                f"There is no repository at {self.destination.name}.", restic_errors.MISSING
            )

    def exists(self) -> bool:
        self._note("exists")
        return self._home.is_dir()

    def ready(self, like: Repository | None = None) -> None:
        del like
        self._note("ready")
        self._home.mkdir(parents=True, exist_ok=True)
        if self.destination.restic is not None:
            self.destination.restic.mkdir(parents=True, exist_ok=True)

    def backup(
        self,
        directory: Path,
        names: Sequence[str],
        tags: Mapping[str, str],
        *,
        watch: Callable[[], None] | None = None,
    ) -> tuple[str, list[str]]:
        del watch
        self._note("backup", *names)
        self._require()
        if self._elsewhere.interrupted is not None:
            self._elsewhere.interrupted()
        identity = os.urandom(8).hex()
        target = self._home / identity
        target.mkdir(parents=True)
        for name in names:
            if (directory / name).is_dir():
                shutil.copytree(directory / name, target / name, symlinks=True)
            else:
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(directory / name, target / name)
        snapshot = Snapshot(identity, datetime.now(UTC), dict(tags), tuple(names))
        self._write(snapshot)
        # As restic 0.14 has it.
        return identity[:8], []

    def copy(self, source: Repository, snapshot: str) -> None:
        self._note("copy", snapshot)
        found = next(s for s in source.snapshots() if s.id == snapshot)
        made = replace(found, id=os.urandom(8).hex(), original=found.id)
        shutil.copytree(source._home / snapshot, self._home / made.id, symlinks=True)
        self._write(made)

    def snapshots(self, tags: Mapping[str, str] | None = None) -> list[Snapshot]:
        self._note("snapshots")
        self._require()
        wanted = (tags or {}).items()
        return [s for s in _read(self._home) if wanted <= s.tags.items()]

    def count(self, snapshot: str) -> Contents:
        self._note("count")
        (home,) = (path for path in self._home.glob(f"{snapshot}*") if path.is_dir())
        return Contents(home.name, media.count(home), media.regular_bytes(home))

    def read(self, snapshot: str, path: str) -> str:
        self._note("read", snapshot)
        return (self._home / snapshot / path.lstrip("/")).read_text()

    def size(self) -> int:
        self._note("size")
        return media.regular_bytes(self._home)

    def restore(
        self, snapshot: str, target: Path, *, watch: Callable[[], None] | None = None
    ) -> None:
        self._note("restore", snapshot)
        if watch is not None:
            watch()
        shutil.copytree(self._home / snapshot, target, symlinks=True, dirs_exist_ok=True)

    def forget(self, snapshots: Collection[str]) -> None:
        self._note("forget", *snapshots)
        for identity in snapshots:
            shutil.rmtree(self._home / identity)
            (self._home / f"{identity}.json").unlink()

    def prune(self) -> None:
        self._note("prune")

    def check(self, *, read: str | None = None) -> None:
        self._note("check", read or "")

    def unlock(self) -> None:
        self._note("unlock")

    def _write(self, snapshot: Snapshot) -> None:
        (self._home / f"{snapshot.id}.json").write_text(
            json.dumps(
                {
                    "id": snapshot.id,
                    "time": snapshot.time.isoformat(),
                    "tags": dict(snapshot.tags),
                    "paths": list(snapshot.paths),
                    "original": snapshot.original,
                }
            )
        )


def _read(home: Path) -> list[Snapshot]:
    found = []
    for path in home.glob("*.json"):
        entry = json.loads(path.read_text())
        entry["time"] = datetime.fromisoformat(entry["time"])
        found.append(Snapshot(**{**entry, "paths": tuple(entry["paths"])}))
    return sorted(found, key=lambda snapshot: snapshot.time)
