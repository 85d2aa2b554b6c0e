"""Judge the freshness of the backups at each destination by the last observations there."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from bedstone.backup import settings as backup_settings
from bedstone.core import age, clock, names
from bedstone.ledger import database, observations
from bedstone.ledger.kinds import CONFIGURATION, DUMP, SERVER, UPLOADS, WAL
from bedstone.offsite import observe
from bedstone.storage import destinations

if TYPE_CHECKING:
    from pathlib import Path

    from bedstone.backup.settings import Settings
    from bedstone.ledger.observations import Arrival
    from bedstone.storage.destinations import Destination, Destinations

# A first copy may take so long; a server may be away for so long.
PATIENCE = timedelta(hours=2)
# A check runs each hour.
UNWATCHED = timedelta(hours=3)
# Uploads that are copied between backups may miss some of their turns.
_INTERVALS = 4
_UPLOADS_HELP = f"`systemctl status {names.UPLOADS_UNIT}`"


@dataclass(frozen=True)
class Item:
    """The newest backup of one kind at a destination, and the problem with it.

    Attributes:
        destination: where.
        app: whose; "" for what belongs to the whole server.
        kind: ``dump``, ``media``, ``uploads``, ``configuration`` or ``wal``.
        seen: what was last seen there, or None.
        problem: why it is red; None when all is well.
        note: what may become a problem.

    """

    destination: str
    app: str
    kind: str
    seen: Arrival | None
    problem: str | None
    note: str | None = None

    @property
    def name(self) -> str:
        """Return what it is called where problems are remembered."""
        return f"{self.destination}/{self.app}/{self.kind}"

    def words(self) -> str:
        """Return what is red, as text."""
        whose = f" of {self.app}" if self.app else ""
        return f"{self.kind}{whose} at {self.destination}: {self.problem}"

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        seen = self.seen
        return {
            "destination": self.destination,
            "app": self.app,
            "kind": self.kind,
            "newest": seen.newest if seen else None,
            "newest_at": _iso(seen.newest_at) if seen else None,
            "age_seconds": _age(seen.newest_at) if seen else None,
            "bytes": seen.bytes if seen else None,
            "checked_at": _iso(seen.checked_at) if seen else None,
            "problem": self.problem,
            "note": self.note,
            "ok": self.problem is None,
        }


def items(settings: Settings, known: Destinations) -> list[Item]:
    """Return all that should be at the destinations, as it was last seen.

    Raises:
        BedstoneError: the ledger can't be opened.

    """
    with database.opened() as connection:
        seen = {(a.destination, a.app, a.kind): a for a in observations.last_seen(connection)}
    now = datetime.now(UTC)
    since = _declared()
    newest = [
        found.newest_at
        for app in settings.apps
        if (found := seen.get((destinations.LOCAL, app.app, DUMP))) and found.newest_at
    ]
    result = []
    for place in known.all:
        for app, kind in observe.expected(settings, place):
            arrival = seen.get((place.name, app, kind))
            local = seen.get((destinations.LOCAL, app, DUMP))
            made = local.newest_at if local else None
            if kind == CONFIGURATION:
                made = max(newest, default=None)
            if kind == UPLOADS:
                every = settings.app(app).copy_every or PATIENCE
                result.append(_uploads(place, app, arrival, made, every, now))
            else:
                result.append(_item(place, app, kind, arrival, made, since, now))
        wal = seen.get((place.name, SERVER, WAL))
        if known.point_in_time and place.pgbackrest is not None:
            # How far WAL reaches is judged where it is measured: an idle server writes none.
            result.append(_wal(place, wal, since, now))
    return result


def app_status(app: str) -> dict[str, Any] | None:
    """Return what is known of an app's copies, or None when there are none to make.

    The most worrying destination stands for all. What is on this server is looked at itself.
    """
    if not backup_settings.path().exists():
        return None
    known = destinations.load()
    if not known.remote:
        return None
    found = items(backup_settings.load(), known)
    own = [
        item
        for item in found
        if item.destination != destinations.LOCAL
        and (item.app == app or (item.app, item.kind) == (SERVER, CONFIGURATION))
    ]
    if not any(item.app == app for item in own):
        return None
    # The age of uploads between backups is that of a run: it hides no older backup.
    told = [item for item in own if item.kind != UPLOADS or item.problem or item.note]
    worst = min(told, key=lambda item: (item.problem is None, item.note is None, _newest(item)))
    return {
        "destination": worst.destination,
        "kind": worst.kind,
        "newest": worst.seen.newest if worst.seen else None,
        "age_seconds": worst.as_json()["age_seconds"],
        "note": worst.note,
        "problem": worst.words() if worst.problem else None,
        "ok": worst.problem is None,
        "items": [item.as_json() for item in own],
    }


def _newest(item: Item) -> str:
    return str(item.as_json()["newest_at"] or "")


def _wal(place: Destination, seen: Arrival | None, since: datetime, now: datetime) -> Item:
    problem, note = _sight(seen, since, now)
    if seen is not None and problem is None and note is None:
        problem = seen.problem
    return Item(place.name, SERVER, WAL, seen, problem, note)


def _uploads(
    place: Destination,
    app: str,
    seen: Arrival | None,
    made: datetime | None,
    every: timedelta,
    now: datetime,
) -> Item:
    """Judge uploads that are copied between backups by the last run that compared them."""
    since = _modified(backup_settings.path())
    problem, note = _sight(seen, since, now)
    if seen is not None and problem is None and note is None:
        limit = max(_INTERVALS * every, PATIENCE)
        problem = seen.problem
        if problem is None and seen.newest_at is not None:
            problem = _age_problem(now - seen.newest_at, limit, _UPLOADS_HELP)
        elif problem is None and made is not None and now - max(made, since) > limit:
            problem = f"none has ever arrived there: {_UPLOADS_HELP}"
    return Item(place.name, app, UPLOADS, seen, problem, note)


def _item(
    place: Destination,
    app: str,
    kind: str,
    seen: Arrival | None,
    made: datetime | None,
    since: datetime,
    now: datetime,
) -> Item:
    problem, note = _sight(seen, since, now)
    if seen is not None and problem is None and note is None:
        problem = _judge(place, seen, made, since, now)
    return Item(place.name, app, kind, seen, problem, note)


def _sight(seen: Arrival | None, since: datetime, now: datetime) -> tuple[str | None, str | None]:
    """Return why a destination could not be checked: a problem, or a note while it is young."""
    looked = seen.checked_at if seen else None
    if seen is not None and seen.unseen and seen.problem_since is not None:
        words = age.humanize((now - seen.problem_since).total_seconds())
        said = f"out of reach for {words}: {seen.problem}"
        return (said, None) if now - seen.problem_since > PATIENCE else (None, said)
    if looked is None:
        said = "it was not checked yet: `bedstone destinations --check`"
        return (said, None) if now - since > UNWATCHED else (None, said)
    if now - looked > UNWATCHED:
        ago = age.humanize((now - looked).total_seconds())
        return (
            f"it was not checked for {ago}: `systemctl status bedstone-destinations.timer`",
            None,
        )
    return None, None


def _judge(
    place: Destination,
    seen: Arrival,
    made: datetime | None,
    since: datetime,
    now: datetime,
) -> str | None:
    if seen.problem is not None:
        return seen.problem
    if seen.newest_at is not None:
        return _age_problem(now - seen.newest_at, clock.NIGHTLY, _help(place))
    if place.is_local:
        if now - since > clock.NIGHTLY:
            return f"there is no backup yet: {_help(place)}"
    elif made is not None and now - max(made, since) > PATIENCE:
        return f"none has ever arrived there: {_help(place)}"
    return None


def _age_problem(old: timedelta, limit: timedelta, hint: str) -> str | None:
    if old < -clock.TOLERANCE:
        ahead = age.humanize(-old.total_seconds())
        return f"the newest there is {ahead} ahead of this server's clock: is that right (`date`)?"
    if old > limit:
        return f"the newest there is {age.humanize(old.total_seconds())} old: {hint}"
    return None


def _help(place: Destination) -> str:
    if place.is_local:
        return "`systemctl status bedstone-backup.timer bedstone-backup.service`"
    return f"`systemctl status {names.COPY_UNIT}`"


def _declared() -> datetime:
    return _modified(destinations.path())


def _modified(path: Path) -> datetime:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except FileNotFoundError:
        return datetime.now(UTC)


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="seconds") if moment else None


def _age(moment: datetime | None) -> int | None:
    return int((datetime.now(UTC) - moment).total_seconds()) if moment else None
