"""What the bench of backups computes and writes."""

from __future__ import annotations

import ast
import json
import math
from pathlib import Path

import pytest

from bench import backups, report
from bench.backups import Measure, Results
from testbed.errors import TestbedError
from testbed.paths import ROOT


def results() -> Results:
    times = [float(number) for number in range(1, 101)]
    return Results(
        database=1536 * 1024**2,
        quiet=Measure("nothing else", 20.0, milliseconds=[1.0, 2.0]),
        backups=[
            Measure("`pg_dump | gzip`", 20.0, 200 * 1024**2, times),
            Measure("`bedstone backup`", 5.0, 150 * 1024**2, times, failed=1),
        ],
        restores=[Measure("`gunzip | psql`", 24.0), Measure("`bedstone restore`", 18.0)],
    )


@pytest.mark.parametrize(("share", "time"), [(0.5, 50.0), (0.95, 95.0), (0.99, 99.0), (1.0, 100.0)])
def test_percentile_is_the_nearest_rank(share: float, time: float) -> None:
    assert backups.percentile([float(number) for number in range(1, 101)], share) == time


def test_percentile_of_few_and_of_none() -> None:
    assert backups.percentile([7.0], 0.99) == 7.0
    assert math.isnan(backups.percentile([], 0.5))


def test_table_compares_with_the_first_of_a_kind() -> None:
    lines = backups.rows(results())
    assert (
        "| `bedstone backup` | 5.0 | 0.25 x | 150 | 0.75 x | 50.0 | 95.0 | 99.0 | 101 | 1 |"
        in lines
    )
    assert any(line.startswith("| `bedstone restore` | 18.0 | 0.75 x |  |  |") for line in lines)
    columns = {line.replace("\\|", "").count("|") for line in lines}
    assert len(columns) == 1


def test_page_has_a_place_for_the_table() -> None:
    page = (ROOT / "docs" / "performance.md").read_text()
    part = report.markdown_of_backups(results(), "2 cores", "2026-11-20")
    new = report.replace_part(page, part)
    assert "2026-11-20, 2 cores" in new
    assert "database of 1536 MiB" in new
    assert report.BEGIN_RELEASES in new


def test_app_of_the_load_reads_the_large_table(tmp_path: Path) -> None:
    settings = backups.settings(tmp_path / "ledger")
    source = Path(settings["bedstone_apps"][0]["source"]["path"])
    tree = ast.parse((source / "ledger" / "urls.py").read_text())
    assert "look" in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert not (source / "__pycache__").exists()


def test_sizes_are_those_that_the_engines_tell() -> None:
    said = json.dumps({"backups": [{"app": "ledger", "bytes": 17}], "failed": []})
    assert backups.size_of_backup(said) == 17
    with pytest.raises(TestbedError, match="no backup"):
        backups.size_of_backup(json.dumps({"backups": [], "failed": []}))
    info = [{"backup": [{"info": {"repository": {"delta": 23}}}]}]
    assert backups.size_of_repository(json.dumps(info)) == 23
