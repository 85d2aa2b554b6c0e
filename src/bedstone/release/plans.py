"""Define the steps of each operation, in their order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bedstone.release.steps.check import check
from bedstone.release.steps.finish import (
    copies_leave_the_host,
    copy,
    drain,
    first_backup,
    lacks_backup,
    prune,
    record,
)
from bedstone.release.steps.image import image, undo_image
from bedstone.release.steps.logins import drop_unused, has_logins
from bedstone.release.steps.migrate import migrate, migrate_forward
from bedstone.release.steps.migration_gate import plan
from bedstone.release.steps.network import create_network, undo_create_network
from bedstone.release.steps.prepare import prepare, revive, undo_prepare, undo_revive
from bedstone.release.steps.restore_point import restore_point
from bedstone.release.steps.reverse import reverse_after, reverse_first, undo_reverse
from bedstone.release.steps.rollback_gate import plan_back
from bedstone.release.steps.start import start, undo_start
from bedstone.release.steps.static import static, undo_static
from bedstone.release.steps.switch import switch, undo_switch
from bedstone.release.steps.verify import verify
from bedstone.release.steps.workers import undo_workers, workers
from bedstone.release.transaction import Step

if TYPE_CHECKING:
    from bedstone.apps.config import App
    from bedstone.release.context import Rollout


def release(app: App, *, first: bool = False) -> list[Step[Rollout]]:
    """Return the steps of a release that hold together: when one fails, all are undone.

    Args:
        app: as declared.
        first: whether nothing of it serves yet.

    """
    return [
        Step("prepare", prepare, undo_prepare),
        Step("image", image, undo_image),
        Step("network", create_network, undo_create_network),
        Step("check", check),
        Step("plan", plan),
        Step("restore_point", restore_point),
        Step("migrate", migrate),
        Step("static", static, undo_static),
        *traffic(app, first=first),
    ]


def rollback(app: App) -> list[Step[Rollout]]:
    """Return the steps of a rollback to an earlier release."""
    return [
        Step("prepare", revive, undo_revive),
        Step("network", create_network, undo_create_network),
        Step("plan", plan_back),
        Step("restore_point", restore_point),
        Step("reverse", reverse_first, undo_reverse),
        Step("migrate", migrate_forward),
        *traffic(app),
    ]


def restart(app: App) -> list[Step[Rollout]]:
    """Return the steps that restart the serving release."""
    return [Step("network", create_network, undo_create_network), *traffic(app)]


def traffic(app: App, *, first: bool = False) -> list[Step[Rollout]]:
    """Return the steps that move an app from one slot to the other.

    Workers follow the web server: until that is healthy, the previous ones work with the previous
    code. Of an app's first release there are none, and a health path that asks for live workers
    would never answer: they start before it.
    """
    steps = []
    if first and app.workers:
        steps.append(Step("workers", workers, undo_workers))
    if app.http_services:
        steps.append(Step("start", start, undo_start))
    if any(service.route is not None for service in app.http_services):
        steps += [Step("switch", switch, undo_switch), Step("verify", verify)]
    if app.workers and not first:
        steps.append(Step("workers", workers, undo_workers))
    return [*steps, Step("record", record)]


def after_record(kind: str, app: str) -> list[Step[Rollout]]:
    """Return the steps after the moment of record, whose failure is only a warning.

    Args:
        kind: ``release``, ``rollback`` or ``restart``.
        app: whose.

    """
    reversal = [Step("reverse", reverse_after)] if kind == "rollback" else []
    elsewhere = [Step("copy", copy)] if copies_leave_the_host() else []
    first = kind == "release" and lacks_backup(app)
    backup = [Step("backup", first_backup)] if first else []
    logins = [Step("logins", drop_unused)] if has_logins(app) else []
    return [Step("drain", drain), *reversal, *logins, Step("prune", prune), *backup, *elsewhere]
