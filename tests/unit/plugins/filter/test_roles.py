"""The filters of the roles: each is registered, and its error is Ansible's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ansible.errors import AnsibleFilterError

from plugins.filter.roles import FILTERS, FilterModule

ROOT = Path(__file__).resolve().parents[4]


def test_value_error_fails_the_task_with_the_message_alone() -> None:
    files = FilterModule().filters()["nginx_upstream_files"]
    with pytest.raises(AnsibleFilterError, match="Not A Name"):
        files(["Not A Name"])


@pytest.mark.parametrize("name", sorted(FILTERS))
def test_filter_is_used(name: str) -> None:
    """By a role, a playbook, or an inventory that uses a role alone."""
    used = [
        path
        for folder in ("roles", "playbooks", "molecule")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".yml", ".j2"}
        and re.search(rf"\|\s*{name}\b|map\('{name}'\)", path.read_text(encoding="utf-8"))
    ]
    assert used
