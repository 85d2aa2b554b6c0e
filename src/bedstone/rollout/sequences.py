"""Which steps an operation has, in their order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bedstone.rollout.afterwards import drain, prune
from bedstone.rollout.commands import check, migrate
from bedstone.rollout.context import Rollout
from bedstone.rollout.ground import ground
from bedstone.rollout.image import image, unimage
from bedstone.rollout.prepare import prepare, unprepare
from bedstone.rollout.record import record
from bedstone.rollout.start import start, unstart
from bedstone.rollout.static import static, unstatic
from bedstone.rollout.switch import switch, unswitch
from bedstone.rollout.verify import verify
from bedstone.rollout.workers import unworkers, workers
from bedstone.transaction import Step

if TYPE_CHECKING:
    from bedstone.config import App


def release(app: App) -> list[Step[Rollout]]:
    """Return the steps of a release that hold together: when one fails, all are undone."""
    return [
        Step("prepare", prepare, unprepare),
        Step("image", image, unimage),
        Step("network", ground),
        Step("check", check),
        Step("migrate", migrate),
        Step("static", static, unstatic),
        *traffic(app),
    ]


def traffic(app: App) -> list[Step[Rollout]]:
    """Return the steps that move an app from one slot to the other."""
    steps = []
    if app.http_services:
        steps.append(Step("start", start, unstart))
    if any(service.route is not None for service in app.http_services):
        steps += [Step("switch", switch, unswitch), Step("verify", verify)]
    if app.workers:
        steps.append(Step("workers", workers, unworkers))
    return [*steps, Step("record", record)]


def afterwards() -> list[Step[Rollout]]:
    """Return the steps after the release is recorded, whose failure is only a warning."""
    return [Step("drain", drain), Step("prune", prune)]
