"""Record the alarms of a server, and which of them were reported.

The memory is a small file for each scope, not the ledger: an unreadable ledger is one of the
alarms.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from bedstone.core import files, paths

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

AGAIN = timedelta(days=1)
# Ended alarms are kept for the daily summary, which may be late.
ENDED_KEPT = timedelta(days=2)
# A flapping alarm is reported once: it is over when it was missing so many times in a row.
MISSING_LOOKS = 2

Severity = Literal["warning", "red"]
_Memory = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Alarm:
    """A condition that needs an operator.

    Attributes:
        name: ``CHECK/WHAT``, the same from one look to the next.
        severity: ``red``: something is down or soon will be; ``warning``: there is time.
        words: one sentence without its full stop, with the reason.
        command: what mends it, or shows what does.
        app: whose; None for the whole server's.

    """

    name: str
    severity: Severity
    words: str
    command: str
    app: str | None = None

    @property
    def check(self) -> str:
        """Return which check has raised it."""
        return self.name.partition("/")[0]

    def text(self) -> str:
        """Return sentence and command, as text."""
        return f"{self.words}: {self.command}"

    def as_json(self) -> dict[str, str]:
        """Return it for programs."""
        return {
            "name": self.name,
            "check": self.check,
            "severity": self.severity,
            "words": self.words,
            "command": self.command,
        }


@dataclass(frozen=True)
class News:
    """The alarms that are to be reported now.

    Attributes:
        begun: alarms that weren't reported yet, that became red, or that have been red for a day.
        over: the sentences of those that are over, each with its app.

    """

    begun: list[Alarm]
    over: list[tuple[str, str | None]]
    _memory: _Memory = field(default_factory=dict, repr=False)
    _over: list[str] = field(default_factory=list, repr=False)


def news(scope: str, present: Sequence[Alarm], unjudged: Collection[str] = ()) -> News:
    """Compare the alarms with the reported ones; :func:`remember` then records the report.

    Args:
        scope: whose alarms they are.
        present: what is wrong now.
        unjudged: the checks that found nothing out; their alarms are neither new nor over.

    """
    now = datetime.now(UTC)
    memory = _load(scope)
    begun, over, forgotten = [], [], []
    for alarm in present:
        known = memory.get(alarm.name)
        if known is None or _due(known, alarm, now):
            begun.append(alarm)
        since = known["since"] if known else now.isoformat()
        told_at = known.get("told_at") if known else None
        severity = known.get("severity") if known else None
        memory[alarm.name] = {
            "since": since,
            "told_at": told_at,
            "severity": severity,
            "words": alarm.words,
            "app": alarm.app,
        }
    names = {alarm.name for alarm in present}
    for name, known in memory.items():
        if name in names or name.partition("/")[0] in unjudged:
            continue
        known["missing"] = known.get("missing", 0) + 1
        if known["missing"] >= MISSING_LOOKS:
            forgotten.append(name)
            if known.get("told_at"):
                # Earlier versions recorded no words.
                over.append((known.get("words") or name, known.get("app")))
    return News(begun, over, memory, forgotten)


def remember(scope: str, found: News, *, begun: bool, over: bool) -> None:
    """Record which alarms have been reported.

    Args:
        scope: whose alarms they are.
        found: what :func:`news` returned.
        begun: whether the new alarms were reported.
        over: whether the ended alarms were reported.

    """
    memory = found._memory  # noqa: SLF001 - this module's own
    ended_now: dict[str, str] = {}
    for alarm in found.begun if begun else ():
        now = datetime.now(UTC).isoformat()
        memory[alarm.name] |= {"told_at": now, "severity": alarm.severity}
    for name in found._over:  # noqa: SLF001 - this module's own
        known = memory[name]
        if over or not known.get("told_at"):
            del memory[name]
            if known.get("told_at"):
                ended_now[name] = known.get("words") or name
    _save(scope, memory, ended_now)


def since(scope: str) -> dict[str, str]:
    """Return since when each of the reported alarms has existed, by name."""
    return {name: known["since"] for name, known in _load(scope).items()}


def ended(scope: str, after: datetime) -> list[str]:
    """Return the sentences of the reported alarms that ended after a moment."""
    return [entry["words"] for entry in _ended(scope) if _moment(entry) > after]


def _ended(scope: str) -> list[dict[str, str]]:
    try:
        found = json.loads(path(scope).read_text(encoding="utf-8")).get("ended", [])
        return [{"words": str(entry["words"]), "at": str(entry["at"])} for entry in found]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # None yet, or damaged.
        return []


def _moment(entry: dict[str, str]) -> datetime:
    try:
        return datetime.fromisoformat(entry["at"])
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)


def _due(known: dict[str, Any], alarm: Alarm, now: datetime) -> bool:
    if not known.get("told_at"):
        return True
    if alarm.severity == "warning":
        return False
    return known.get("severity") != "red" or _is_old(known["told_at"], now)


def _is_old(told_at: str | None, now: datetime) -> bool:
    # A clock that was set back doesn't silence anything.
    return not told_at or not timedelta(0) <= now - datetime.fromisoformat(told_at) < AGAIN


def path(scope: str) -> Path:
    """Return the file that records which alarms were reported."""
    return paths.state() / "alarms" / f"{scope}.json"


def _load(scope: str) -> _Memory:
    try:
        found = json.loads(path(scope).read_text(encoding="utf-8"))
        return {
            str(name): dict(known)
            for name, known in found["told"].items()
            if datetime.fromisoformat(known["since"])
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # None yet, or damaged: all alarms are reported again.
        return {}


def _save(scope: str, memory: _Memory, ended_now: dict[str, str]) -> None:
    now = datetime.now(UTC)
    over = [entry for entry in _ended(scope) if now - _moment(entry) < ENDED_KEPT]
    over += [{"words": words, "at": now.isoformat()} for words in ended_now.values()]
    document = {"schema": 1, "told": memory, "ended": over}
    # A full disk must not stop the hourly report that it is full.
    with suppress(OSError):
        paths.ensure_private(path(scope).parent)
        files.write(path(scope), json.dumps(document), mode=0o600)
