"""A database in memory with migrations for a fake tool in the images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from bedstone.migrations import Backward, Pending, Report
from bedstone.release.commands import Image
from bedstone.release.context import Host
from tests.unit.host.server import APP, Server, declare

MIGRATED = APP | {"migrations": "django", "database": {"name": "shop", "owner": "shop_owner"}}


class World:
    """The applied migrations, and those of each source's image."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.applied: list[str] = []
        self.known: dict[str, list[str]] = {}
        self.sql: dict[str, tuple[str, ...]] = {}
        self.irreversible: dict[str, str] = {}
        self.undone: list[str] = []
        self.asked = 0
        server.during["migrate"] = self._migrate
        server.during["reverse"] = self._reverse

    def declare(self, source: str, *known: str) -> None:
        """Declare a source whose image will have some migrations."""
        declare(self.server, app=MIGRATED, source=source)
        self.known[f"sha256:{self.server.builds + 1:064d}"] = list(known)

    def ask(
        self,
        host: Host,
        image: Image,
        *,
        keep: Sequence[str] | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> Report:
        """Stand in for the probe in an image."""
        del host, on_line
        self.asked += 1
        known = self.known[image.made.image]
        undone = [name for name in reversed(self.applied) if keep is not None and name not in keep]
        return Report(
            tool="django",
            applied=tuple(self.applied),
            known=tuple(known),
            pending=tuple(
                Pending(name, sql=self.sql.get(name, ()))
                for name in known
                if name not in self.applied
            ),
            backward=None
            if keep is None
            else Backward(
                tuple(undone),
                tuple((n, self.irreversible[n]) for n in undone if n in self.irreversible),
                tuple(("undo", name) for name in undone),
            ),
        )

    def _image(self) -> str:
        return next(word for word in self.server.calls[-1] if word.startswith("sha256:"))

    def _migrate(self) -> None:
        self.applied += [n for n in self.known[self._image()] if n not in self.applied]

    def _reverse(self) -> None:
        name = self.server.calls[-1][-1]
        assert name in self.known[self._image()], "only the newer image knows how"
        self.applied.remove(name)
        self.undone.append(name)


@pytest.fixture
def world(server: Server, monkeypatch: pytest.MonkeyPatch) -> World:
    """The server with a database and two releases' worth of migrations to come."""
    made = World(server)
    monkeypatch.setattr("bedstone.release.schema.ask", made.ask)
    return made
