"""SCRAM-SHA-256 verifiers, as PostgreSQL stores them in place of passwords.

With a verifier computed here no plain password reaches the server, its logs or its history, and a
stored verifier shows whether it belongs to a password without a login attempt. The format is
`SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`; see PostgreSQL's documentation of
pg_authid and RFC 5803.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets

ITERATIONS = 4096  # PostgreSQL's own default (scram_iterations)
SALT_BYTES = 16
_VERIFIER = re.compile(
    r"SCRAM-SHA-256\$(?P<iterations>[0-9]+):(?P<salt>[A-Za-z0-9+/=]+)"
    r"\$(?P<stored>[A-Za-z0-9+/=]+):(?P<server>[A-Za-z0-9+/=]+)"
)


def make_verifier(password: str, salt: bytes | None = None, iterations: int = ITERATIONS) -> str:
    """Return the verifier to store for a password.

    Args:
        password: printable ASCII, so that SASLprep (RFC 4013) leaves it as it is.
        salt: 16 random bytes unless a test gives its own.
        iterations: rounds of PBKDF2.

    Raises:
        ValueError: the password is empty or holds a character that isn't printable ASCII.

    """
    if not password or not (password.isascii() and password.isprintable()):
        raise ValueError("a database password is made of printable ASCII characters, at least one")
    salt = secrets.token_bytes(SALT_BYTES) if salt is None else salt
    stored, server = _keys(password, salt, iterations)
    return f"SCRAM-SHA-256${iterations}:{_text(salt)}${_text(stored)}:{_text(server)}"


def matches(verifier: str | None, password: str) -> bool:
    """Return whether a stored verifier was made from this password.

    Anything that is no SCRAM verifier (nothing stored, an md5 hash) doesn't match.
    """
    found = _VERIFIER.fullmatch(verifier or "")
    if not found:
        return False
    try:
        salt = base64.b64decode(found["salt"], validate=True)
    except binascii.Error:
        return False
    stored, _ = _keys(password, salt, int(found["iterations"]))
    return hmac.compare_digest(_text(stored), found["stored"])


def hide_verifiers(text: str) -> str:
    """Return a text in which every verifier is replaced by asterisks."""
    return re.sub(r"SCRAM-SHA-256\$[^'\"\s]*", "********", text)


def _keys(password: str, salt: bytes, iterations: int) -> tuple[bytes, bytes]:
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    return hashlib.sha256(client_key).digest(), hmac.digest(salted, b"Server Key", "sha256")


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()
