"""Find the serving release, for commands that inspect it or run next to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bedstone.apps import config, environment, slots
from bedstone.core import paths
from bedstone.core.errors import BedstoneError
from bedstone.ledger import database, releases

if TYPE_CHECKING:
    from bedstone.apps.config import App
    from bedstone.apps.slots import Made


@dataclass(frozen=True)
class Current:
    """An app's release that serves: its description, its slot and what it has made."""

    app: App
    release: str
    slot: str
    made: Made

    def slot_keys(self) -> list[str]:
        """Return ``SERVICE@SLOT`` of all that runs of it, HTTP services first."""
        return self.app.slot_keys(self.slot)

    def environment(self) -> dict[str, str]:
        """Return the variables that all of it runs with, those of single services left out."""
        return environment.load(paths.release(self.app.name, self.release) / environment.APP)


def load(name: str) -> Current:
    """Return the release of an app that serves.

    Raises:
        BedstoneError: there is no such app, or it hasn't been released.

    """
    with database.opened() as connection:
        serving = releases.serving(connection, name)
    if serving is None:
        config.load(name)
        raise BedstoneError(
            f"{name} hasn't been released on this server.",
            hint=f"`bedstone release {name}` does it; `bedstone releases {name}` says what failed.",
        )
    return Current(
        config.load_file(paths.release(name, serving.release) / "app.json"),
        serving.release,
        serving.slot,
        slots.read_made(name, serving.release),
    )
