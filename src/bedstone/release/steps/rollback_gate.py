"""Check whether an older release is compatible with the schema, or after a reversal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bedstone.apps import config
from bedstone.core.errors import BedstoneError, RefusedError
from bedstone.ledger import releases
from bedstone.release import schema
from bedstone.release.steps import logins
from bedstone.release.steps.reverse import image_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bedstone.apps.current import Current
    from bedstone.migrations import Backward, Report
    from bedstone.release.context import Rollout
    from bedstone.release.schema import Record


def plan_back(rollout: Rollout) -> str:
    """Compare the earlier release's schema with the present one, and plan the rollback of it.

    Nothing to do; or migrations can be undone by the newer image; or the older release
    needs some that aren't applied; or it is refused, with the restore point.
    """
    app, newer = rollout.app, rollout.newer
    if newer is None:
        raise BedstoneError(f"Nothing of {app.name} serves: there is nothing to roll back.")
    if not rollout.options.old_secrets:
        logins.require(config.load(app.name))
    record = schema.read(app.name, rollout.id)
    if said := _needs_no_tool(rollout, record, newer):
        return said
    report = None
    if record is not None and record.applied is not None:
        image = image_of(newer)
        report = schema.ask(rollout.host, image, keep=record.applied, on_line=rollout.on_line)
    if record is None or record.applied is None or report is None:
        return _by_digest(rollout, record)
    return _by_migrations(rollout, record.applied, report)


def _needs_no_tool(rollout: Rollout, record: Record | None, newer: Current) -> str:
    """Return in words why nothing has to be asked, or nothing."""
    if rollout.app.database is None and newer.app.database is None:
        return "no database"
    if not rollout.app.commands.migrate and not newer.app.commands.migrate:
        return "no migrations declared"
    if rollout.options.keep_schema:
        return "the schema stays as it is, as asked for"
    if record and _is_same(rollout, record, schema.read(newer.app.name, newer.release)):
        return "the same schema"
    return ""


def _by_migrations(rollout: Rollout, then: Sequence[str], report: Report) -> str:
    """Decide by what was applied then and what is now."""
    backward = report.backward
    missing = [name for name in then if name not in report.applied]
    undone = backward.migrations if backward is not None else ()
    if undone and backward is not None:
        _require_reversible(rollout, backward)
        rollout.schema.reversal = backward.commands
        rollout.schema.reverse_first = bool(_breaking(rollout) & set(undone))
    rollout.schema.changes = bool(undone or missing)
    rollout.schema.forward = bool(missing)
    if not rollout.schema.changes:
        return f"the same schema: {len(then)} applied"
    parts = []
    if undone:
        parts.append(f"{len(undone)} to undo: {', '.join(undone)}")
    if missing:
        parts.append(f"{len(missing)} to apply: {', '.join(missing)}")
    return "; ".join(parts)


def _is_same(rollout: Rollout, then: Record, last: Record | None) -> bool:
    """Return whether nothing has to be asked: both releases left the schema as it is now.

    Starting the app's migration tool takes longer than all the rest of a rollback.
    """
    if last is None or then.digest is None or then.digest != last.digest:
        return False
    return then.applied == last.applied and then.digest == schema.digest(rollout.app)


def _by_digest(rollout: Rollout, record: Record | None) -> str:
    then = record.digest if record else None
    now = schema.digest(rollout.app)
    if then is not None and then == now:
        return "the same schema"
    why = (
        "The schema has changed since then, and no tool tells how"
        if then is not None and now is not None
        else "Nothing tells whether the schema is still that of then"
    )
    raise RefusedError(
        f"{why}: {rollout.id} might not be able to read the data.", hint=_hint(rollout)
    )


def _require_reversible(rollout: Rollout, backward: Backward) -> None:
    if not backward.irreversible:
        return
    reasons = [f"{name}: {why}" for name, why in backward.irreversible]
    raise RefusedError(
        f"{len(reasons)} of the migrations since {rollout.id} can't be undone.",
        hint=_hint(rollout, lives=not _breaking(rollout) & set(backward.migrations)),
        details="\n".join(reasons),
    )


def _breaking(rollout: Rollout) -> set[str]:
    """Return the migrations since the older release that it is incompatible with."""
    found: set[str] = set()
    for entry in _since(rollout):
        record = schema.read(rollout.app.name, entry.id)
        # A migration that isn't known to be compatible counts as incompatible.
        if record is None:
            return set(_applied_by_all(rollout))
        found |= set(record.breaking)
    return found


def _applied_by_all(rollout: Rollout) -> Sequence[str]:
    record = schema.read(rollout.app.name, rollout.newer.release) if rollout.newer else None
    return record.applied or () if record else ()


def _since(rollout: Rollout) -> list[releases.Entry]:
    kept = releases.kept(rollout.connection, rollout.app.name)
    serving = rollout.newer.release if rollout.newer else ""
    return [entry for entry in kept if rollout.id < entry.id <= serving]


def _hint(rollout: Rollout, *, lives: bool = False) -> str:
    name = rollout.app.name
    lines = ["The release that serves serves on; nothing was changed."]
    point = _restore_point(rollout)
    if point is None:
        lines.append(f"No restore point of then is known; `bedstone backups {name}` lists all.")
    else:
        lines += [
            f"The restore point of then is {point}; what was written since stays beside only:",
            f"  bedstone maintenance {name} on",
            f"  bedstone restore {name} {point} --no-restart",
            f"  bedstone rollback {name} {rollout.id}",
            f"  bedstone maintenance {name} off",
        ]
    if lives:
        lines.append(
            "The gates found nothing in them that the older release can't live with: with"
            " `--keep-schema` it serves on the schema as it is."
        )
    else:
        lines.append("Only if you know that it can read them: `--keep-schema`.")
    return "\n".join(lines)


def _restore_point(rollout: Rollout) -> str | None:
    """Return the backup made before the first migration since the older release."""
    found = [
        operation
        for operation in releases.operations(rollout.connection, rollout.app.name)
        if operation.kind == "release"
        and operation.state == "succeeded"
        and operation.release > rollout.id
        and operation.restore_point
    ]
    return found[-1].restore_point if found else None
