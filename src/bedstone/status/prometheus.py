"""Format metrics in Prometheus' text format, which its node exporter reads from a file.

https://prometheus.io/docs/instrumenting/exposition_formats/#text-format-details
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_LABEL = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_HELP = str.maketrans({"\\": r"\\", "\n": r"\n"})


@dataclass
class Family:
    """A metric and its samples.

    Attributes:
        name: what is measured, with its base unit at the end.
        help: a sentence.
        samples: labels and value, in the order in which they were added.

    """

    name: str
    help: str
    samples: list[tuple[dict[str, str], float]] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """Return its type: what only grows is a counter, by its name."""
        return "counter" if self.name.endswith("_total") else "gauge"

    def add(self, value: float | None, **labels: str | None) -> None:
        """Add a sample; nothing when there is no value. A label that is None is an empty one."""
        if value is not None:
            self.samples.append(({name: text or "" for name, text in labels.items()}, value))


def render(families: Iterable[Family]) -> str:
    """Return the text of all families that have a sample."""
    lines = []
    for family in families:
        if not family.samples:
            continue
        lines += [f"# HELP {family.name} {family.help.translate(_HELP)}"]
        lines += [f"# TYPE {family.name} {family.kind}"]
        lines += [f"{family.name}{_labels(of)} {_number(value)}" for of, value in family.samples]
    return "".join(f"{line}\n" for line in lines)


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    # Bytes of a name that is no UTF-8 must not make the whole file unreadable.
    shown = (
        f'{name}="{text.encode(errors="replace").decode().translate(_LABEL)}"'
        for name, text in labels.items()
    )
    return f"{{{','.join(shown)}}}"


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(int(value))
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value.is_integer() else repr(round(value, 3))
