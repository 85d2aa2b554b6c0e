"""Report new and ended alarms to the hooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bedstone.notify import alarms, events

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from bedstone.notify.alarms import Alarm


def report(
    scope: str, present: Sequence[Alarm], unjudged: Collection[str] = (), *, about: str = ""
) -> tuple[str, ...]:
    """Report alarms that began, that have been red for a day, and that ended; return warnings.

    An alarm that no hook could deliver is reported again the next time.

    Args:
        scope: whose alarms they are.
        present: what is wrong now.
        unjudged: the checks that found nothing out; their alarms are neither new nor over.
        about: begins the title of a message, with a colon at its end.

    """
    news = alarms.news(scope, present, unjudged)
    taken = {"begun": True, "over": True}
    warnings: tuple[str, ...] = ()
    if news.begun:
        taken["begun"], said = events.send(_begun(news.begun, about))
        warnings += said
    if news.over:
        taken["over"], said = events.send(_over(news.over))
        warnings += said
    alarms.remember(scope, news, **taken)
    return warnings


def _begun(begun: Sequence[Alarm], about: str) -> events.Event:
    first = begun[0]
    sentence = f"{about} {first.words}" if about else first.words[:1].upper() + first.words[1:]
    return events.Event(
        kind="failure",
        app=_only_app(alarm.app for alarm in begun),
        title=f"{sentence}{_more(len(begun))}",
        error=f"{first.severity}: {first.words}",
        hint=first.command,
        details="\n".join(f"{alarm.severity}: {alarm.text()}" for alarm in begun),
    )


def _over(over: Sequence[tuple[str, str | None]]) -> events.Event:
    return events.Event(
        kind="recovered",
        app=_only_app(app for _, app in over),
        title=f"Recovered: {over[0][0]}{_more(len(over))}",
        details="\n".join(f"recovered: {words}" for words, _ in over),
    )


def _only_app(apps: Iterable[str | None]) -> str | None:
    """Return the app that a message is about; one about several, or the server, has none."""
    found = set(apps)
    return found.pop() if len(found) == 1 else None


def _more(number: int) -> str:
    return f", and {number - 1} more." if number > 1 else "."
