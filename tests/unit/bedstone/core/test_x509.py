"""TLS contexts; certificates are read in tests/unit/bedstone/watch/test_certificates.py."""

from __future__ import annotations

import ssl

import pytest

from bedstone.core import x509


def test_context_is_as_lenient_as_browsers_with_every_python(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Python 3.13 sets the strict flag in every default context."""
    strict = ssl.create_default_context()
    strict.verify_flags |= ssl.VERIFY_X509_STRICT
    monkeypatch.setattr(ssl, "create_default_context", lambda: strict)
    found = x509.browser_context()
    assert not found.verify_flags & ssl.VERIFY_X509_STRICT
    assert found.verify_mode == ssl.CERT_REQUIRED
    assert found.check_hostname
