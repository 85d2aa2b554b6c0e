"""Run a check once, although several playbooks of one run ask for it.

In addition to the time, this keeps the message true: "nothing has been changed" holds only at the
beginning of a run.

"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

# A run takes less. Longer ago it was another run, whose facts some cache has kept.
_LONGEST_RUN_SECONDS = 6 * 3600


def mark(check: str) -> dict[str, Any]:
    """Return the fact that says that a check was done in this run.

    Args:
        check: its name.

    """
    # Every task is a child of the one process that is the run.
    return {f"ansible_bedstone_checked_{check}": {"run": os.getppid(), "time": time.time()}}


def done(variables: Mapping[str, Any], check: str) -> bool:
    """Return whether a check was done in this run.

    Args:
        variables: the host's variables, facts included.
        check: its name.

    """
    found = variables.get("ansible_facts", {}).get(f"bedstone_checked_{check}")
    if not found or found["run"] != os.getppid():
        return False
    return 0 <= time.time() - float(found["time"]) < _LONGEST_RUN_SECONDS
