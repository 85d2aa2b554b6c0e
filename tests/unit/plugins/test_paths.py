"""Patterns of paths mean the same on the controller and on the server."""

from __future__ import annotations

import pytest
from bedstone_paths import matches

from bedstone_control.ansible_support.template_tree import compiled

CASES = [
    ("/etc/nginx/**", "/etc/nginx/nginx.conf", True),
    ("/etc/nginx/**", "/etc/nginx/sites/a/b.conf", True),
    ("/etc/nginx/**", "/etc/nginx", False),
    ("/etc/nginx/*", "/etc/nginx/sites/a.conf", False),
    ("/etc/nginx/*", "/etc/nginx/a.conf", True),
    ("/etc/**/a.conf", "/etc/a.conf", True),
    ("/etc/**/a.conf", "/etc/x/y/a.conf", True),
    ("/etc/**/a.conf", "/etc/x/b.conf", False),
    ("/etc/a?.conf", "/etc/ab.conf", True),
    ("/etc/a?.conf", "/etc/a/.conf", False),
    ("/etc/[ab].conf", "/etc/a.conf", True),
    ("/etc/[!ab].conf", "/etc/a.conf", False),
    ("/etc/[!ab].conf", "/etc/c.conf", True),
    ("/etc/a.conf", "/etc/axconf", False),
    ("/etc/a+b(c)", "/etc/a+b(c)", True),
    ("/etc/a[", "/etc/a[", True),
]


@pytest.mark.parametrize(("pattern", "path", "fits"), CASES)
def test_pattern(pattern: str, path: str, *, fits: bool) -> None:
    assert matches(path, pattern) is fits
    assert bool(compiled(pattern).fullmatch(path)) is fits
