"""Report events to people and other programs: by webhook, mail or a command.

No hook can fail or delay the operation that it reports: each runs in a separate process, all at the
same time, and one that hasn't ended in time is killed.
"""

from __future__ import annotations

import dataclasses
import os
import socket
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from bedstone.core.errors import BedstoneError
from bedstone.notify import delivery, redact, settings, text

if TYPE_CHECKING:
    from bedstone.notify.delivery import Result
    from bedstone.notify.settings import Hooks

LIMIT_SECONDS = 15.0
# Receivers refuse longer messages, and operators don't read them.
_MOST_DETAILS = 10_000

Kind = Literal["release", "rollback", "failure", "recovered", "summary", "test"]


@dataclass(frozen=True)
class Event:
    """One event.

    Attributes:
        kind: a ``release`` or ``rollback`` that serves now, or a ``failure`` of anything;
            ``recovered`` goes to those that hear of failures, ``test`` to every hook; a
            ``summary`` of the last day is read whole: its details are no lines of a log.
        app: whose it is, or None when it concerns the whole server.
        title: one sentence.
        release: the release it is about, or that serves now.
        previous: the one that served before.
        failed_step: the step at which it failed.
        error: why.
        hint: what to do.
        details: lines of a log that show why; hooks get the last ones.
        seconds: how long it took.
        restore_point: the backup from which the data can be restored.

    """

    kind: Kind
    title: str
    app: str | None = None
    release: str | None = None
    previous: str | None = None
    failed_step: str | None = None
    error: str | None = None
    hint: str | None = None
    details: str = ""
    seconds: float | None = None
    restore_point: str | None = None


def fire(event: Event, *, limit_seconds: float = LIMIT_SECONDS) -> tuple[str, ...]:
    """Run the hooks for an event and return what went wrong with them, a sentence each.

    Never raises, and returns within the limit. The sentences hold neither an
    address's path nor a password.

    Args:
        event: what has happened.
        limit_seconds: for all hooks together; each has its own, too.

    """
    return send(event, limit_seconds=limit_seconds)[1]


def send(event: Event, *, limit_seconds: float = LIMIT_SECONDS) -> tuple[bool, tuple[str, ...]]:
    """Run the hooks for an event as :func:`fire` does, and return whether one delivered it, too.

    Without a hook for the event it counts as delivered.
    """
    deadline = time.monotonic() + limit_seconds
    try:
        configured = settings.load()
        results = deliver(configured, event, deadline - time.monotonic())
    except BedstoneError as error:
        return False, (f"The hooks weren't run: {error.message}",)
    except Exception as error:  # noqa: BLE001 - a hook must never fail a release
        return False, (f"The hooks weren't run: {type(error).__name__}.",)
    warnings = tuple(f"{result.hook} {result.error}." for result in results if result.error)
    return not results or len(warnings) < len(results), warnings


def deliver(configured: Hooks, event: Event, limit_seconds: float) -> list[Result]:
    """Run the hooks of an event and return how each one went.

    Args:
        configured: this server's hooks.
        event: what has happened.
        limit_seconds: for all of them together.

    """
    wanted = [hook for hook in configured.hooks if hook.wants(event.kind, event.app)]
    if not wanted:
        return []
    clean = redacted(event)
    document = {
        "event": clean.kind,
        "server": socket.gethostname(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        **dataclasses.asdict(clean),
    }
    del document["kind"]
    tasks = [_task(hook, configured, document) for hook in wanted]
    return delivery.run(tasks, limit_seconds)


def redacted(event: Event) -> Event:
    """Return the event without the secrets of its app: what a program printed may hold them."""
    secrets = redact.secrets_of(event.app) if event.app else frozenset()

    def hidden(value: str | None) -> str | None:
        return value and redact.hide(value, secrets)

    return dataclasses.replace(
        event,
        title=hidden(event.title) or "",
        error=hidden(event.error),
        hint=hidden(event.hint),
        details=(hidden(text.clean(event.details)) or "")[-_MOST_DETAILS:],
    )


def _task(hook: settings.Hook, configured: Hooks, document: dict[str, object]) -> delivery.Task:
    if hook.command is not None:
        variables = {
            "BEDSTONE_EVENT": str(document["event"]),
            "BEDSTONE_APP": str(document["app"] or ""),
            "BEDSTONE_RELEASE": str(document["release"] or ""),
        }
        return delivery.Task(
            hook=hook.label(configured.mail),
            argv=hook.command,
            document={"text": text.plain(document), **document},
            variables={**os.environ, **variables},
            seconds=hook.timeout_seconds,
            output_is_reason=False,
        )
    if hook.webhook is not None:
        order: dict[str, object] = {
            "webhook": hook.webhook,
            "document": {"text": text.slack(document), **document},
        }
    else:
        order = {
            "mail": dataclasses.asdict(settings.required(configured.mail)),
            "recipients": list(hook.recipients or ()),
            "subject": text.subject(document),
            "body": text.plain(document),
        }
    order["seconds"] = hook.timeout_seconds
    return delivery.Task(
        hook=hook.label(configured.mail),
        argv=delivery.own_program("bedstone.notify.child"),
        document=order,
        variables=dict(os.environ),
        seconds=hook.timeout_seconds,
        output_is_reason=True,
    )
