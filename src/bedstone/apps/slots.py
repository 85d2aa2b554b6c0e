"""Record what each slot runs: a small file a slot, written by a release, read by its unit.

After a reboot the unit starts from it what it ran before.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from bedstone.core import files, paths
from bedstone.core.errors import ConfigError
from bedstone.core.names import HTTP_SLOTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

SCHEMA = 1


@dataclass(frozen=True)
class OwnImage:
    """The image of a service that doesn't run the app's: id, user, and of what it is built."""

    image: str
    uid: int
    gid: int
    build: str | None = None


@dataclass(frozen=True)
class Made:
    """The products of a release: its image's id, its user, its static files' directory.

    ``services`` has the images of the services that have their own.
    """

    image: str
    uid: int
    gid: int
    static: str | None = None
    services: Mapping[str, OwnImage] = field(default_factory=dict)

    def of(self, service: str) -> Made:
        """Return what a service runs: its own image, or the app's."""
        own = self.services.get(service)
        if own is None:
            return replace(self, services={})
        return Made(own.image, own.uid, own.gid, self.static)

    def images(self) -> dict[str, str]:
        """Return the ids of all images: the app's as ``""``, others by their service."""
        return {"": self.image, **{name: own.image for name, own in self.services.items()}}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Made:
        """Return what a file holds; earlier versions wrote no images of services."""
        services = {name: OwnImage(**own) for name, own in (data.get("services") or {}).items()}
        return cls(**{**data, "services": services})


@dataclass(frozen=True)
class Slot:
    """A place where one container of a service runs: ``blue``, ``green-2``, or ``1``, ``2``...

    ``address`` is its address on the app's network; workers have none.
    """

    service: str
    name: str
    release: str
    made: Made
    address: str | None = None

    @property
    def key(self) -> str:
        """Return ``SERVICE@SLOT``."""
        return f"{self.service}@{self.name}"


def write(app: str, slot: Slot) -> None:
    """Write what a slot is to run from its next start on."""
    directory = paths.ensure_private(paths.slots(app))
    text = json.dumps({"schema": SCHEMA, **asdict(slot)}, indent=2, sort_keys=True)
    files.write(directory / f"{slot.key}.json", text + "\n", mode=0o600)


def read(app: str, key: str) -> Slot:
    """Return what ``SERVICE@SLOT`` is to run.

    Raises:
        ConfigError: no release has used this slot, or the file is damaged.

    """
    path = paths.slots(app) / f"{key}.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"No release of {app} runs in the slot {key}.",
            hint=f"`bedstone release {app}` starts one; `bedstone status` shows what runs.",
        ) from error
    except ValueError as error:
        raise ConfigError(f"{path} isn't JSON: {error}.") from error
    if data.pop("schema", None) != SCHEMA:
        raise ConfigError(f"{path} was written by another version of bedstone.")
    return Slot(**{**data, "made": Made.from_json(data["made"])})


def remove(app: str, key: str) -> None:
    """Remove a slot's file."""
    (paths.slots(app) / f"{key}.json").unlink(missing_ok=True)


def keys(app: str) -> Sequence[str]:
    """Return ``SERVICE@SLOT`` of all slots that a release of the app has used."""
    return sorted(path.stem for path in paths.slots(app).glob("*@*.json"))


def all_of(app: str) -> list[Slot]:
    """Return what the app's slots run, without those whose file can't be read."""
    found = []
    for key in keys(app):
        with suppress(ConfigError, KeyError, TypeError):
            found.append(read(app, key))
    return found


def addresses(app: str, keys: Sequence[str]) -> list[str]:
    """Return the addresses of slots, given as ``SERVICE@SLOT``."""
    return [slot.address for slot in all_of(app) if slot.key in keys and slot.address]


def write_serving(app: str, release: str, slot: str) -> None:
    """Write which release serves, and in which slot, unless the file says so already.

    The ledger decides it; the file says it where the ledger can't be read.
    """
    if _read_serving(app) == (release, slot):
        return
    paths.ensure_private(paths.app_state(app))
    text = json.dumps({"schema": SCHEMA, "release": release, "slot": slot}, indent=2)
    files.write(_serving(app), text + "\n", mode=0o600)


def serving(app: str) -> tuple[str, str] | None:
    """Return the release that serves and its slot as the files say it, or None.

    Without a file (an earlier version didn't write it) the slots tell it, if all are of one
    release.
    """
    if (known := _read_serving(app)) is not None:
        return known
    found = all_of(app)
    if len({slot.release for slot in found}) != 1:
        return None
    named = [slot.name for slot in found if slot.name in HTTP_SLOTS]
    return found[0].release, named[0] if named else HTTP_SLOTS[0]


def forget_serving(app: str) -> None:
    """Remove the file that says which release serves."""
    _serving(app).unlink(missing_ok=True)


def _serving(app: str) -> Path:
    return paths.app_state(app) / "serving.json"


def _read_serving(app: str) -> tuple[str, str] | None:
    try:
        data = json.loads(_serving(app).read_text(encoding="utf-8"))
        return str(data["release"]), str(data["slot"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_made(app: str, release: str, made: Made) -> None:
    """Save with a release what it has made."""
    text = json.dumps({"schema": SCHEMA, **asdict(made)}, indent=2, sort_keys=True)
    files.write(paths.release(app, release) / "made.json", text + "\n", mode=0o600)


def read_made(app: str, release: str) -> Made:
    """Return what a kept release has made.

    Raises:
        ConfigError: the release isn't kept, or never got that far.

    """
    path = paths.release(app, release) / "made.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"The release {release} of {app} isn't kept on this server ({path}: {error}).",
            hint=f"`bedstone releases {app}` lists those that are.",
        ) from error
    data.pop("schema", None)
    return Made.from_json(data)
