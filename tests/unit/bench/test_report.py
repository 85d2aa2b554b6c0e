import pytest

from bench import profile, releases, report
from bench.profile import Task
from bench.report import Results

OUTPUT = """\
PLAY RECAP *********************************************************************
web1                       : ok=12   changed=9    unreachable=0    failed=0

TASKS RECAP ********************************************************************
Friday 20 November 2026  11:00:00 +0000 (0:00:00.010)       0:01:02.345 ********
===============================================================================
docker : Install Docker with a daemon.json that dockerd accepts -------- 22.41s
app : Release the apps that changed ------------------------------------ 30.05s
preflight : Check -- really -- the settings ----------------------------- 1.20s
"""


def test_tasks_that_changed_something_are_named_once() -> None:
    output = "TASK [a : One] ***\nok: [w1]\nTASK [a : Two [x]] ***\nchanged: [w1]\nchanged: [w2]\n"
    assert profile.changed(output) == ["a : Two [x]"]


def results(**values: object) -> Results:
    found = Results(floor=40.0, first=50.0, no_change={1: 6.0, 4: 9.0}, machine="2 cores")
    for name, value in values.items():
        setattr(found, name, value)
    return found


def test_profile_is_read_the_slowest_task_first() -> None:
    assert profile.tasks(OUTPUT) == [
        Task("app : Release the apps that changed", 30.05),
        Task("docker : Install Docker with a daemon.json that dockerd accepts", 22.41),
        Task("preflight : Check -- really -- the settings", 1.2),
    ]


def test_report_compares_with_the_floor_and_with_one_host() -> None:
    text = report.text(results())
    assert "1.25 x a; aim 1.5: met" in text
    assert "aim under 8 s: met" in text
    assert "1.50 x one" in text


def test_missed_targets_are_said_aloud() -> None:
    text = report.text(results(first=100.0, no_change={1: 9.0}))
    assert "2.50 x a; aim 1.5: MISSED" in text
    assert "aim under 8 s: MISSED" in text


def test_a_floor_that_installed_something_else_is_said_aloud() -> None:
    assert "did not install the same: nginx" in report.text(results(difference=["nginx"]))


def test_only_the_made_part_of_the_page_is_replaced() -> None:
    page = f"# Performance\n\n{report.BEGIN}\nold\n{report.END}\n\nText.\n"
    new = report.replace_part(page, report.markdown(results(), "2026-11-20"))
    assert new.startswith("# Performance\n\n<!-- bench")
    assert new.endswith(f"{report.END}\n\nText.\n")
    assert "old" not in new
    assert "Measured on 2026-11-20" in new
    with pytest.raises(ValueError, match="has no lines"):
        report.replace_part("# Performance\n", "x")


def test_the_middle_run_counts() -> None:
    assert report.median([9.0, 5.0, 6.0]) == 6.0
    slow, quick, middle = [Task("x", 9.0)], [Task("x", 1.0)], [Task("x", 5.0)]
    assert report.merged([slow, quick, middle]) == middle


def changes() -> list[releases.Change]:
    return [
        releases.Change("bedstone: rollback", 9.04, 300, steps=[("start", 1.0), ("drain", 6.5)]),
        releases.Change("docker compose up -d --build", 6.0, 250, 40, 3.21),
    ]


def test_releases_have_a_part_of_their_own() -> None:
    page = f"{report.BEGIN}\nold\n{report.END}\n{report.BEGIN_RELEASES}\n{report.END_RELEASES}\n"
    part = report.markdown_of_releases(changes(), "2 cores", "2026-11-20")
    new = report.replace_part(page, part)
    assert new.startswith(f"{report.BEGIN}\nold\n")
    assert "| bedstone: rollback | 9.0 | 300 | 0 | 0.0 |" in new
    assert "| docker compose up -d --build | 6.0 | 250 | 40 | 3.2 |" in new
    assert "- bedstone: rollback: start 1.0, drain 6.5" in new


def test_dark_is_from_the_first_to_the_last_failure() -> None:
    lines = [
        "quick 17, 0.1 s, at 1795181904.6: answered 502",
        "slow 9, 3.0 s, at 1795181901.5: RemoteDisconnected: closed, at last",
    ]
    assert round(releases.dark([releases.moment(line) for line in lines]), 1) == 3.1
    assert releases.dark([]) == 0.0
