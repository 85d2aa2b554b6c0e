"""What each slot runs: a small file a slot, written by a release, read by its unit.

After a reboot the unit starts from it what it ran before.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from bedstone import files, paths
from bedstone.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

SCHEMA = 1


@dataclass(frozen=True)
class Made:
    """What a release has made: its image's id, whom it runs as, its static files' directory."""

    image: str
    uid: int
    gid: int
    static: str | None = None


@dataclass(frozen=True)
class Slot:
    """A place where one container of a service runs: ``blue``, ``green``, or ``1``, ``2``...

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


def unit(app: str, key: str) -> str:
    """Return the systemd unit of ``SERVICE@SLOT``."""
    return f"bedstone-{app}-{key}.service"


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
    return Slot(**{**data, "made": Made(**data["made"])})


def remove(app: str, key: str) -> None:
    """Forget a slot."""
    (paths.slots(app) / f"{key}.json").unlink(missing_ok=True)


def keys(app: str) -> Sequence[str]:
    """Return ``SERVICE@SLOT`` of all slots that a release of the app has used."""
    return sorted(path.stem for path in paths.slots(app).glob("*@*.json"))


def write_made(app: str, release: str, made: Made) -> None:
    """Keep with a release what it has made."""
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
    return Made(**data)
