"""Check the age of the apps' images: only a build upgrades the packages in an image."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from bedstone.apps import config, current
from bedstone.core import age
from bedstone.core.errors import BedstoneError, CommandError
from bedstone.ledger import database, releases
from bedstone.notify.alarms import Alarm
from bedstone.system.docker import Docker
from bedstone.system.systemd import Systemd

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bedstone.apps.current import Current

# Distributions' images are renewed every few weeks.
OLD_AFTER = timedelta(days=90)
# Builds that can be repeated to the byte give their layers a made-up date.
_FIRST_YEAR = 2015
_DEPLOY = "ansible-playbook playbooks/deploy.yml -i inventories/NAME"


@dataclass(frozen=True)
class Image:
    """The image of an app that serves.

    Attributes:
        app: whose.
        kind: ``build``, ``pull`` or ``load``.
        made: when it was made.
        base: when its lowest layer, the operating system, was made.
        service: whose own it is, empty for the app's.

    """

    app: str
    kind: str
    made: datetime | None
    base: datetime | None
    service: str = ""

    @property
    def whose(self) -> str:
        """The app, or ``APP/SERVICE``."""
        return f"{self.app}/{self.service}" if self.service else self.app


def gather(docker: Docker | None = None, systemd: Systemd | None = None) -> list[Image] | None:
    """Get the images that serve from Docker; None while it is down, which another check reports."""
    docker, systemd = docker or Docker(), systemd or Systemd()
    with database.opened() as connection:
        names = sorted({*config.declared(), *releases.known_apps(connection)})
    found = []
    for name in names:
        try:
            serving = current.load(name)
        except BedstoneError:
            # Not released: `bedstone status` says so.
            continue
        try:
            found += [_image(serving, service, docker) for service in serving.app.images]
        except CommandError:
            if systemd.active("docker.service") != "active":
                return None
            raise
    return found


def _image(serving: Current, service: str, docker: Docker) -> Image:
    dates = docker.layer_dates(serving.made.of(service).image)
    known = [date for date in dates if date.year >= _FIRST_YEAR]
    return Image(
        serving.app.name,
        serving.app.images[service].kind,
        max(known, default=None),
        known[-1] if known and dates[-1] == known[-1] else None,
        service,
    )


def judge(found: Sequence[Image], now: datetime) -> Iterator[Alarm]:
    """Yield which apps run on old images."""
    for image in found:
        built = image.kind == "build"
        moment = image.base or image.made if built else image.made or image.base
        if moment is None or now - moment.astimezone(UTC) < OLD_AFTER:
            continue
        ago = age.humanize((now - moment).total_seconds())
        if built:
            words = f"the base image that {image.whose} is built on was made {ago} ago"
            command = f"`{_DEPLOY} -e rebuild=true -e app_only={image.app}` builds on the newest"
        else:
            words = f"the image that {image.whose} runs was made {ago} ago"
            command = f"name a newer one in the settings, then `{_DEPLOY} -e app_only={image.app}`"
        yield Alarm(
            f"images/{image.whose}",
            "warning",
            f"{words}, with all the holes that were found since",
            command,
        )
