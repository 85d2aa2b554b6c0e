import pytest

from bench import hosts, report
from bench.hosts import Run
from bench.profile import Task


def results(**seconds: float) -> dict[int, Run]:
    found = {1: Run(4.0, 2.0), 8: Run(8.0, 6.0, [Task("base : Set time", 0.7)])}
    return found | {int(name[1:]): Run(value, 1.0) for name, value in seconds.items()}


def test_run_of_the_middle_time_is_taken() -> None:
    assert hosts.middle([Run(3.0, 9.0), Run(1.0, 1.0), Run(2.0, 5.0)]) == Run(2.0, 5.0)


def test_all_hosts_are_compared_with_one() -> None:
    text = report.text_of_hosts(results(n2=5.0))
    assert "| 1 | 4.0 | aim under 6 s: met | 2.0 | 1.00 x |" in text
    assert "| 2 | 5.0 | 1.25 x one | 1.0 | 0.50 x |" in text
    assert "| 8 | 8.0 | 2.00 x one; aim 2: met | 6.0 | 3.00 x |" in text
    assert "0.7 s  base : Set time" in text


@pytest.mark.parametrize("seconds", [{"n1": 6.1}, {"n8": 8.1}])
def test_missed_aims_are_shown(seconds: dict[str, float]) -> None:
    assert "MISSED" in report.text_of_hosts(results(**seconds))


def test_part_of_the_page_is_replaced() -> None:
    page = f"# Performance\n\n{report.BEGIN_HOSTS}\nold\n{report.END_HOSTS}\n\nText.\n"
    new = report.replace_part(page, report.markdown_of_hosts(results(), "2 cores", "2026-11-29"))
    assert "old" not in new
    assert "Measured on 2026-11-29, 2 cores" in new
    assert new.endswith("Text.\n")
