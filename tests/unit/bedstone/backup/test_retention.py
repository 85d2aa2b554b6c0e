"""Retention removes what has served its time, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bedstone.backup import catalog, create, manifest, retention
from bedstone.backup import kept as kept_backups
from bedstone.backup.catalog import Backup
from bedstone.backup.manifest import Manifest
from bedstone.backup.retention import Known, Rules
from bedstone.core.errors import ConfigError
from bedstone.ledger import database, releases
from bedstone.ledger.releases import NewRelease

if TYPE_CHECKING:
    from bedstone.backup.settings import Settings

# A Friday.
NOW = datetime(2026, 11, 20, 3, 0, tzinfo=UTC)
DEFAULT = Rules(days=30, weeks=8, months=6, at_least=3)
FEW = Rules(days=4, weeks=3, months=2, at_least=2)


@dataclass(frozen=True)
class Made:
    """A backup of a test: how old it is, and of what kind."""

    days_ago: float
    good: bool = True
    point: bool = False
    verified: bool = False
    kept_release: bool = False

    @property
    def name(self) -> str:
        started = NOW - timedelta(days=self.days_ago)
        kind = "p" if self.point else "f"
        return f"{started:%m-%d %H:%M}{'' if self.good else ' damaged'} {kind}"


def backup_of(made: Made, number: int = 0, app: str = "payments") -> Backup:
    started = NOW - timedelta(days=made.days_ago)
    return Backup(
        path=Path(f"backup_{number}"),
        manifest=Manifest(
            app=app, name="", label=None, host="", program="", release=None, started=started,
            finished=started, database=None, media=None, files={}, restore_point=made.point,
        ),
        problem=None if made.good else "database/toc.dat is missing",
    )  # fmt: skip


def judged(
    made: Sequence[Made], *, now: datetime = NOW, rules: Rules = FEW
) -> list[tuple[Made, tuple[str, ...]]]:
    backups = [backup_of(entry, number) for number, entry in enumerate(made)]
    known = Known(
        points={f"backup_{i}" for i, entry in enumerate(made) if entry.kept_release},
        verified={"dump": {f"backup_{i}" for i, entry in enumerate(made) if entry.verified}},
    )
    why = retention.reasons(backups, app="payments", now=now, rules=rules, known=known)
    gone = retention.expired(backups, app="payments", now=now, rules=rules, known=known)
    assert {found.name for found in gone} == {name for name, said in why.items() if not said}
    return [(entry, why[f"backup_{number}"]) for number, entry in enumerate(made)]


def removed(made: Sequence[Made], *, now: datetime = NOW, rules: Rules = FEW) -> set[float]:
    """Return which are removed, by their age in days."""
    return {entry.days_ago for entry, why in judged(made, now=now, rules=rules) if not why}


# --- examples ---------------------------------------------------------------------------------


def test_a_backup_each_night_for_two_years_leaves_30_days_8_weeks_and_6_months() -> None:
    found = judged([Made(day) for day in range(730)], rules=DEFAULT)
    kept = {entry.days_ago: why for entry, why in found if why}
    assert [age for age, why in kept.items() if "daily" in why] == list(range(30))
    # The Sundays; of the week that isn't over, today's.
    sundays = [0, 5, 12, 19, 26, 33, 40, 47]
    assert [age for age, why in kept.items() if "weekly" in why] == sundays
    ends = [NOW - timedelta(days=age) for age, why in kept.items() if "monthly" in why]
    assert [f"{moment:%m-%d}" for moment in ends] == [
        "11-20", "10-31", "09-30", "08-31", "07-31", "06-30",
    ]  # fmt: skip
    assert [age for age, why in kept.items() if "newest" in why] == [0, 1, 2]
    # 30 days, the two Sundays before them, three ends of months before those.
    assert len(kept) == 30 + 3 + 4


EXAMPLES: Mapping[str, tuple[list[Made], set[float]]] = {
    "nothing older than the rules reach": ([Made(0), Made(1), Made(2), Made(3)], set()),
    "an outage of years makes nothing old": (
        [Made(1000), Made(1001), Made(1002), Made(1003)],
        set(),
    ),
    "of a day the newest counts, but of the newest two days all stay": (
        [Made(0), Made(0.05), Made(1), Made(1.05), Made(2), Made(2.05), Made(3), Made(3.05)],
        {2.05, 3.05},
    ),
    "a damaged one is not the day's": (
        [Made(0), Made(1), Made(2), Made(3), Made(3.01, good=False), Made(3.02)],
        {3.02},
    ),
    "a damaged one goes when the daily ones of its time do": (
        [Made(0), Made(1), Made(2), Made(3), Made(3.5, good=False), Made(99, good=False)],
        {3.5, 99},
    ),
    "damaged ones don't crowd out good ones": (
        [*(Made(day, good=False) for day in range(20)), Made(100), Made(101), Made(102)],
        set(),
    ),
    "a restore point whose release is gone goes when the daily ones of its time do": (
        [Made(0), Made(1), Made(2), Made(3), Made(40, point=True), Made(40.1)],
        {40},
    ),
    "that of a release that is kept stays": (
        [Made(day) for day in range(4)] + [Made(400, point=True, kept_release=True)],
        set(),
    ),
    "a restore point is not the week's or the month's while a full one is there": (
        [*map(Made, range(4)), Made(12, point=True), Made(13), Made(21, point=True), Made(22)],
        {12, 21},
    ),
    "days with restore points alone push no full one out": (
        [*(Made(day, point=True) for day in range(10)), *map(Made, range(20, 24))],
        {4, 6, 7, 8, 9},
    ),
    "the newest verified one stays, others that were go": (
        [*map(Made, range(4)), Made(500, verified=True), Made(501, verified=True)],
        {501},
    ),
    "one from the future stays and takes nobody's place": (
        [Made(-4000), Made(-4001), *map(Made, [0, 1, 2, 3, 10, 33, 400])],
        {400},
    ),
}  # fmt: skip


@pytest.mark.parametrize("example", EXAMPLES)
def test_example(example: str) -> None:
    made, gone = EXAMPLES[example]
    assert removed(made) == gone


def test_weeks_and_months_may_be_none() -> None:
    rules = Rules(days=1, weeks=0, months=0, at_least=1)
    # Of the newest two days all stay, whatever the rules.
    assert removed([Made(day) for day in range(5)], rules=rules) == {2, 3, 4}


def test_days_are_those_of_utc() -> None:
    # 23:59 and 00:01 in UTC are two days, wherever the server is.
    late, early = NOW.replace(day=10, hour=23, minute=59), NOW.replace(day=11, hour=0, minute=1)
    made = [Made((NOW - moment) / timedelta(days=1)) for moment in (early, late)]
    assert removed([Made(0), Made(1), *made]) == set()


# --- what always holds ------------------------------------------------------------------------

DAY = 24 * 60


def ages(youngest: int, oldest: int) -> st.SearchStrategy[float]:
    """Ages in days, to the minute."""
    return st.integers(youngest * DAY, oldest * DAY).map(lambda minutes: minutes / DAY)


AGES = st.one_of(st.integers(0, 12).map(float), ages(-30, 400))
ENTRIES = st.lists(
    st.builds(
        Made,
        AGES,
        good=st.sampled_from([True, True, True, False]),
        point=st.booleans(),
        verified=st.booleans(),
        kept_release=st.booleans(),
    ),
    max_size=25,
    unique_by=lambda entry: entry.days_ago,
)
RULES = st.builds(
    Rules,
    days=st.integers(1, 6),
    weeks=st.integers(0, 4),
    months=st.integers(0, 3),
    at_least=st.integers(1, 4),
)


def past(made: Collection[Made]) -> list[Made]:
    """Return those that were begun, the newest first."""
    return sorted((entry for entry in made if entry.days_ago >= 0), key=lambda e: e.days_ago)


@given(ENTRIES, RULES)
def test_newest_good_ones_are_never_removed(made: list[Made], rules: Rules) -> None:
    gone = removed(made, rules=rules)
    good = [entry for entry in past(made) if entry.good]
    full = [entry for entry in good if not entry.point]
    for newest in (good, full):
        assert not gone & {entry.days_ago for entry in newest[: rules.at_least]}


@given(ENTRIES, RULES)
def test_last_good_one_is_never_removed(made: list[Made], rules: Rules) -> None:
    gone = removed(made, rules=rules)
    if any(entry.good for entry in made):
        assert any(entry.good and entry.days_ago not in gone for entry in made)
    if any(entry.good and not entry.point for entry in made):
        assert any(e.good and not e.point and e.days_ago not in gone for e in made)


@given(ENTRIES, RULES)
def test_newest_verified_one_is_never_removed(made: list[Made], rules: Rules) -> None:
    gone = removed(made, rules=rules)
    verified = [entry for entry in past(made) if entry.verified and entry.good]
    assert not gone & {entry.days_ago for entry in verified[:1]}


@given(ENTRIES, RULES)
def test_restore_point_of_a_kept_release_is_never_removed(made: list[Made], rules: Rules) -> None:
    gone = removed(made, rules=rules)
    assert not gone & {entry.days_ago for entry in made if entry.kept_release}


@given(ENTRIES, RULES)
def test_every_period_that_counts_keeps_its_newest_one(made: list[Made], rules: Rules) -> None:
    gone = removed(made, rules=rules)
    full = [entry for entry in past(made) if entry.good and not entry.point]

    def moment(entry: Made) -> datetime:
        return NOW - timedelta(days=entry.days_ago)

    periods: tuple[tuple[int, Callable[[datetime], object]], ...] = (
        (rules.days, lambda found: found.date()),
        (rules.weeks, lambda found: found.isocalendar()[:2]),
        (rules.months, lambda found: (found.year, found.month)),
    )
    for number, period in periods:
        newest: dict[object, Made] = {}
        for entry in full:
            newest.setdefault(period(moment(entry)), entry)
        assert not gone & {entry.days_ago for entry in list(newest.values())[:number]}


@given(ENTRIES, RULES, ages(0, 40_000))
def test_clock_that_jumped_ahead_removes_nothing_more(
    made: list[Made], rules: Rules, ahead: float
) -> None:
    assume(all(entry.days_ago >= 0 for entry in made))
    assert removed(made, rules=rules, now=NOW + timedelta(days=ahead)) == removed(made, rules=rules)


@given(ENTRIES, RULES, ages(0, 40_000))
def test_clock_that_jumped_back_removes_less(made: list[Made], rules: Rules, back: float) -> None:
    earlier = NOW - timedelta(days=back)
    assert removed(made, rules=rules, now=earlier) <= removed(made, rules=rules)


@given(ENTRIES, RULES, st.lists(ages(-40_000, -1), max_size=5, unique=True))
def test_backups_from_the_future_change_nothing_for_the_others(
    made: list[Made], rules: Rules, future: list[float]
) -> None:
    assume(all(entry.days_ago >= 0 for entry in made))
    assert removed([*made, *map(Made, future)], rules=rules) == removed(made, rules=rules)


@given(ENTRIES, RULES)
def test_what_is_left_is_left_by_the_next_run_too(made: list[Made], rules: Rules) -> None:
    gone = removed(made, rules=rules)
    left = [entry for entry in made if entry.days_ago not in gone]
    again = removed(left, rules=rules)
    # Only damaged ones and restore points may follow: nothing that counted for a period.
    assert not {entry.days_ago for entry in left if entry.good and not entry.point} & again


@given(ENTRIES, RULES, st.lists(ages(0, 400), max_size=6, unique=True))
def test_damaged_ones_change_nothing_for_good_ones(
    made: list[Made], rules: Rules, damaged: list[float]
) -> None:
    assume(not {entry.days_ago for entry in made} & set(damaged))
    more = [*made, *(Made(age, good=False) for age in damaged)]
    good = {entry.days_ago for entry in made}
    assert removed(more, rules=rules) & good == removed(made, rules=rules)


@given(ENTRIES, RULES)
def test_what_is_kept_is_bounded(made: list[Made], rules: Rules) -> None:
    found = judged(made, rules=rules)
    full = [why for entry, why in found if entry.good and not entry.point and entry.days_ago >= 0]
    exempt = {"recent", "restore point", "newest", "verified dump"}
    by_period = [why for why in full if why and not set(why) & exempt]
    assert len(by_period) <= rules.days + rules.weeks + rules.months


# --- on the disk ------------------------------------------------------------------------------


def on_disk(directory: Path, days: float, *, app: str = "payments") -> Backup:
    started = NOW - timedelta(days=days)
    name = catalog.free_name(directory, started)
    (directory / name).mkdir(parents=True)
    manifest.write(
        directory / name,
        Manifest(
            app=app, name=name, label=None, host="h", program="1", release=None, started=started,
            finished=started, database=None, media=None, files={},
        ),
    )  # fmt: skip
    return catalog.load(directory / name)


def test_another_apps_backup_and_a_strangers_directory_stay(tmp_path: Path) -> None:
    on_disk(tmp_path, 0)
    on_disk(tmp_path, 1)
    on_disk(tmp_path, 99, app="other")
    stranger = tmp_path / "backup_20200101_000000"
    stranger.mkdir()
    (stranger / "manifest.json").write_text('{"kind": "something else"}')
    (tmp_path / "notes").mkdir()
    found = catalog.backups(tmp_path)
    rules = Rules(days=1, weeks=0, months=0, at_least=1)
    assert not retention.expired(found, app="payments", now=NOW, rules=rules, known=Known())


def test_protected_names_stay(tmp_path: Path) -> None:
    on_disk(tmp_path, 0)
    on_disk(tmp_path, 1)
    old = on_disk(tmp_path, 99)
    found = catalog.backups(tmp_path)
    rules = Rules(days=1, weeks=0, months=0, at_least=1)

    def gone(*protected: str) -> list[str]:
        removed = retention.expired(
            found, app="payments", now=NOW, rules=rules, known=Known(), protected=protected
        )
        return [entry.name for entry in removed]

    assert old.name in gone()
    assert old.name not in gone(old.name)


def test_removal_that_is_killed_leaves_nothing_with_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = on_disk(tmp_path, 99)

    def killed(_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bedstone.core.files.remove_tree", killed)
    with pytest.raises(KeyboardInterrupt):
        retention.remove(old)
    assert catalog.backups(tmp_path) == []
    assert [path.name for path in catalog.leftovers(tmp_path)] == [f".deleting-{old.name}"]


@pytest.mark.usefixtures("postgres")
def test_backup_removes_what_is_old(configure: Callable[..., Settings]) -> None:
    settings = configure(keep_days=3, keep_weeks=0, keep_months=0)
    home = settings.directory / "payments"
    for _ in range(6):
        create.create(settings, "payments")
    # The newest first: three days ago, four, ...
    for days, found in enumerate(catalog.backups(home), start=3):
        assert found.manifest is not None
        long_ago = found.manifest.started - timedelta(days=days)
        manifest.write(found.path, replace(found.manifest, started=long_ago))
    result = create.create(settings, "payments")
    assert len(result.removed) == 4
    assert len(catalog.backups(home)) == 3


@pytest.mark.usefixtures("postgres")
def test_ledger_that_cannot_be_read_lets_nothing_be_removed(
    configure: Callable[..., Settings], capsys: pytest.CaptureFixture[str], root: Path
) -> None:
    settings = configure(keep_days=1, keep_weeks=0, keep_months=0, keep_at_least=1)
    home = settings.directory / "payments"
    for days in (1, 2, 3, 4):
        made = create.create(settings, "payments").backup
        assert made.manifest is not None
        long_ago = made.manifest.started - timedelta(days=days)
        manifest.write(made.path, replace(made.manifest, started=long_ago))
    before = len(catalog.backups(home))
    (root / "var/lib/bedstone/ledger.sqlite").write_text("not a database" * 100)
    result = create.create(settings, "payments")
    assert result.removed == ()
    assert len(catalog.backups(home)) == before + 1
    assert "No old backup is removed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "least"),
    [("keep_days", 1), ("keep_weeks", 0), ("keep_months", 0), ("keep_at_least", 1)],
)
def test_settings_below_what_makes_sense_are_refused(
    configure: Callable[..., Settings], key: str, least: int
) -> None:
    assert configure(**{key: least})
    with pytest.raises(ConfigError, match=f"{key} is {least - 1}, and must be at least {least}"):
        configure(**{key: least - 1})


def test_file_of_an_earlier_version_has_the_defaults(settings: Settings) -> None:
    assert (settings.keep_weeks, settings.keep_months) == (8, 6)


# --- what is in the ledger -----------------------------------------------------------------------


def verification(name: str, kind: str, state: str) -> None:
    with database.opened() as connection:
        connection.execute(
            "INSERT INTO verifications"
            " (app, kind, backup, destination, state, started_at, finished_at, seconds)"
            " VALUES ('payments', ?, ?, 'local', ?, '', '', 1)",
            (kind, name, state),
        )


@pytest.mark.usefixtures("root")
def test_verified_is_what_passed_when_it_was_last_looked_at() -> None:
    for name, *states in (
        ("backup_a", "succeeded"),
        ("backup_b", "succeeded", "failed"),
        ("backup_c", "failed", "succeeded"),
        ("backup_d", "succeeded", "prevented"),
        ("backup_e", "prevented"),
    ):
        for state in states:
            verification(name, "dump", state)
    verification("backup_e", "media", "succeeded")
    assert kept_backups.known("payments").verified == {
        "dump": {"backup_a", "backup_c", "backup_d"},
        "media": {"backup_e"},
    }
    assert kept_backups.known("other").verified == {}


@pytest.mark.usefixtures("root")
def test_restore_points_of_kept_releases_are_known() -> None:
    with database.opened() as connection:
        release, operation = releases.begin(connection, "payments", NewRelease("v1", "f"))
        releases.set_restore_point(connection, operation, "backup_a")
        releases.commit(connection, "payments", release, "blue", operation)
    assert kept_backups.known("payments").points == {"backup_a"}
