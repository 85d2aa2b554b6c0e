"""Make and check the backup key, which encrypts all backups that leave a server.

It is made once and kept in the vault. Without it, no backup off the host can be read, so it has to
be held in a second place, too, and the settings have to show that it is: by its fingerprint.

"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets

# Without i, l, o and u: what is read from paper is not mistaken.
_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"
_GROUPS, _GROUP = 8, 5  # 40 letters of 5 bits: 200 bits
_OURS = re.compile(rf"[{_LETTERS}]{{{_GROUP}}}(?:-[{_LETTERS}]{{{_GROUP}}}){{{_GROUPS - 1}}}")
_SEEN_AS = str.maketrans("ilo", "110")
# It stands in the configuration of pgBackRest, where blanks, quotes and # have a meaning.
_PLAIN = re.compile(r"[A-Za-z0-9+/=_.:-]+")
_FEWEST, _FEWEST_DIFFERENT = 32, 8
_PURPOSE = b"bedstone: fingerprint of a backup key, 1"
_FINGERPRINT_BYTES = 10


def make() -> str:
    """Return a new key of 200 random bits, in groups that can be typed from paper."""
    groups = ("".join(secrets.choice(_LETTERS) for _ in range(_GROUP)) for _ in range(_GROUPS))
    return "-".join(groups)


def fault(key: object) -> str | None:
    """Return what is wrong with a key, None when nothing is; never shows it."""
    if not isinstance(key, str):
        return "is not a text; put it in quotes"
    if not _PLAIN.fullmatch(key):
        return "is not one word of letters, digits and + / = _ . : -"
    if len(key) < _FEWEST:
        return f"is too short: {len(key)} characters where {_FEWEST} are the least"
    if len(set(key.lower())) < _FEWEST_DIFFERENT:
        return "is too simple: it has hardly any different characters"
    return None


def fingerprint(key: str) -> str:
    """Return what stands for a key in a file that is not secret.

    It can't be turned back. scrypt, and not a plain hash, because a key may be a person's
    own, and this is what guesses would be tried against.
    """
    digest = hashlib.scrypt(
        key.encode(), salt=_PURPOSE, n=2**14, r=8, p=1, dklen=_FINGERPRINT_BYTES
    )
    number = int.from_bytes(digest)
    letters = "".join(_LETTERS[number >> 5 * place & 31] for place in reversed(range(16)))
    return "-".join(letters[start : start + 4] for start in range(0, 16, 4))


def same(typed: str, key: str) -> bool:
    """Return whether an operator typed the key, in a time that doesn't depend on the difference.

    Of a key of our making, blanks, dashes and capitals don't matter, and 1 and l are one.
    """
    if _OURS.fullmatch(key):
        typed = re.sub(r"[\s-]", "", typed).lower().translate(_SEEN_AS)
        key = key.replace("-", "")
    return hmac.compare_digest(typed.strip().encode(), key.encode())


def is_fingerprint(text: str, key: str) -> bool:
    """Return whether a text of the settings is the fingerprint of a key."""
    return hmac.compare_digest(text.strip().encode(), fingerprint(key).encode())


def held_line(key: str) -> str:
    """Return the line of the settings that says that the key is held elsewhere."""
    return f"key_held: {fingerprint(key)}"
