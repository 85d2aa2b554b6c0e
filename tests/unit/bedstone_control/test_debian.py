"""Which releases of Debian a server may have."""

from __future__ import annotations

import pytest

from bedstone_control import debian


def test_only_the_supported_release_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(debian.NEXT_VARIABLE, raising=False)
    assert debian.is_supported("debian", "13")
    assert not debian.is_supported("debian", "12")
    assert not debian.is_supported("debian", "")
    assert not debian.is_supported("ubuntu", "13")
    assert debian.postgresql_major("trixie") == "17"
    with pytest.raises(ValueError, match="'forky' is not a supported Debian release"):
        debian.postgresql_major("forky")


def test_next_release_is_accepted_where_it_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(debian.NEXT_VARIABLE, "1")
    assert debian.is_supported("debian", "")
    assert not debian.is_supported("debian", "12")
    assert debian.postgresql_major("forky") == debian.NEXT.postgresql
