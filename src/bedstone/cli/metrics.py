"""Write the metrics for Prometheus: `bedstone metrics`."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bedstone.cli import main
from bedstone.core import files
from bedstone.core.errors import BedstoneError
from bedstone.status import live, prometheus
from bedstone.status.metrics import Collector

if TYPE_CHECKING:
    import argparse

logger = logging.getLogger(__name__)

_DESCRIPTION = """\
In Prometheus' text format: what serves, how fresh backups are here and at each
destination, when they were last proved, what failed, how fast databases grow and
when a disk will be full.

With --write the file is replaced as a whole and everybody may read it: nothing in it
is secret. Prometheus' node exporter reads such files from its textfile directory, on
Debian /var/lib/prometheus/node-exporter. bedstone-metrics.timer writes it there each
hour, and so does each nightly backup and each verification at its end.

All comes from the ledger and from files: no app, no database and no Docker is asked.
With --live, Docker, systemd, Redis and RabbitMQ are, for the memory and CPU time of
containers and the length of queues; role metrics does it each minute.
What can't be found out is told on standard error and by bedstone_collector_success;
the rest is printed all the same.
"""


def register(subparsers: main.Subparsers) -> None:
    """Add the command."""
    parser = main.add_command(
        subparsers,
        "metrics",
        metrics,
        summary="print metrics for Prometheus",
        description=_DESCRIPTION,
        examples=(
            "bedstone metrics",
            "bedstone metrics --live",
            "bedstone metrics --write /var/lib/prometheus/node-exporter/bedstone.prom",
        ),
    )
    parser.add_argument("--live", action="store_true", help="of containers and queues, by asking")
    parser.add_argument("--write", type=Path, metavar="FILE", help="into a file, atomically")


def metrics(arguments: argparse.Namespace) -> int:
    """Print all metrics, or write them into a file; return 0."""
    collector = live.Collector() if arguments.live else Collector()
    text = prometheus.render(collector.gather())
    for error in collector.errors:
        logger.warning("not measured: %s", error)
    if arguments.write is None:
        sys.stdout.write(text)
        return 0
    try:
        files.write(arguments.write, text)
    except OSError as error:
        raise BedstoneError(
            f"{arguments.write} can't be written: {error.strerror}.",
            hint="Its directory has to be there: Debian's package prometheus-node-exporter makes"
            " /var/lib/prometheus/node-exporter.",
        ) from error
    return 0
