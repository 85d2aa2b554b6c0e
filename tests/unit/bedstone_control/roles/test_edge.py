from __future__ import annotations

import ctypes
import ctypes.util

import pytest

from bedstone_control.roles.edge import htpasswd, password_hash, security_txt


def crypt(password: str, setting: str) -> str:
    """Hash by the C library's crypt(3), which nginx calls."""
    library = ctypes.CDLL(ctypes.util.find_library("crypt"))
    library.crypt.restype = ctypes.c_char_p
    return str(library.crypt(password.encode(), setting.encode()).decode())


@pytest.mark.parametrize("password", ["secret", "", "pässwörd", "x" * 200])
def test_hash_is_the_one_that_the_c_library_computes(password: str) -> None:
    made = password_hash(password, "pay.example.com pay alice")
    assert crypt(password, made) == made
    assert crypt(f"{password}x", made) != made


def test_hash_is_the_same_each_time_and_another_for_each_user() -> None:
    assert password_hash("secret", "a") == password_hash("secret", "a")
    assert password_hash("secret", "a") != password_hash("secret", "b")


def test_no_users_are_no_lines() -> None:
    assert htpasswd(None, "of the site 'pay'") == ""


def test_security_txt_names_its_own_place() -> None:
    given = {"contact": ["https://example.com/report"], "expires": "2027-01-01T00:00:00Z"}
    assert security_txt(given, "pay.example.com", "of the site 'pay'").splitlines() == [
        "Contact: https://example.com/report",
        "Expires: 2027-01-01T00:00:00Z",
        "Canonical: https://pay.example.com/.well-known/security.txt",
    ]


@pytest.mark.parametrize("expires", ["soon", "2027-01-01T00:00:00Z\nContact: mailto:x@y"])
def test_security_txt_that_expires_at_no_moment_is_refused(expires: str) -> None:
    with pytest.raises(ValueError, match="can't be when security_txt of the site 'pay' expires"):
        security_txt({"contact": ["tel:+1"], "expires": expires}, "a.example", "of the site 'pay'")
