"""Load all filters once, in the process that every task's worker is forked from.

ansible-core loads every filter plugin as soon as a template names any filter, `default` too. Where
that happens in a worker it is lost when the task ends, and each task imports this project again:
a third of the controller's CPU time of a run with nothing to change (docs/performance.md).
"""

from __future__ import annotations

from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import filter_loader, test_loader

DOCUMENTATION = """
name: bedstone_load_filters
type: aggregate
short_description: Load filters before the first task
description: Filters and tests are loaded once, not by each task.
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]  # ansible-core ships no types
    """Prints nothing; `v2_playbook_on_start` comes before the first worker."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "bedstone_load_filters"

    def v2_playbook_on_start(self, playbook: object) -> None:
        """Load them; what can't be imported fails where it is used, with the task's name."""
        del playbook
        for loader in (filter_loader, test_loader):
            list(loader.all())
