"""Write the answers of a checklist as text or JSON."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING

from bedstone_control.checklist.items import NO, YES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bedstone_control.checklist.items import Answer, Item

    Answers = Sequence[tuple[Item, Answer]]


def lines(answers: Answers) -> list[str]:
    """Return the lines of a table, and a summary as its last."""
    width = max(len(item.words) for item, _ in answers)
    found = []
    for item, answer in answers:
        found.append(f"{answer.state:8} {item.words:{width}}  {item.source}".rstrip())
        if answer.state != YES:
            found += [f"         {line}".rstrip() for line in answer.found.splitlines()]
            found += [f"         how: {answer.fix}"] if answer.fix else []
    count = Counter(answer.state for _, answer in answers)
    return [*found, ", ".join(f"{count[state]} {state}" for state in count)]


def as_json(answers: Answers) -> str:
    """Return the answers as JSON: `ok`, and `items` with the fields of each."""
    content = {
        "ok": is_ready(answers),
        "items": [
            {"id": item.id, "words": item.words, "source": item.source, **asdict(answer)}
            for item, answer in answers
        ],
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def is_ready(answers: Answers) -> bool:
    """Return whether each item is answered with yes."""
    return all(answer.state == YES for _, answer in answers)


def exit_code(answers: Answers) -> int:
    """Return 0 when each is `yes`, 1 when one is `no`, 2 when some are only `not yet`."""
    if is_ready(answers):
        return 0
    return 1 if any(answer.state == NO for _, answer in answers) else 2
