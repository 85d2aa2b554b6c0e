"""Read and write POSIX access control lists in the kernel's format.

Debian's ``acl`` package isn't on every server, and the programs in it take paths, where root has
to use descriptors. The format is that of acl(5) in ``linux/posix_acl_xattr.h``: a version, then
tag, permissions and id of each entry, sorted by tag and id.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

ACCESS = "system.posix_acl_access"
DEFAULT = "system.posix_acl_default"
_VERSION = 2
_HEADER = struct.Struct("<I")
_ENTRY = struct.Struct("<HHI")
_NO_ID = 0xFFFFFFFF
_OWNER, _USER, _OWNING_GROUP, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
ALL = 7
# What a directory passes on to new files in place of the usual umask, 022.
_READ = 5

# Tag and id of an entry -> its permissions.
Acl = dict[tuple[int, int], int]


def from_mode(mode: int) -> Acl:
    """Return the list that says what a mode says."""
    bits = stat.S_IMODE(mode)
    return {
        (_OWNER, _NO_ID): bits >> 6 & ALL,
        (_OWNING_GROUP, _NO_ID): bits >> 3 & ALL,
        (_OTHER, _NO_ID): bits & ALL,
    }


def inherited() -> Acl:
    """Return what a directory passes on where nothing was set: as with the usual umask."""
    return from_mode(ALL << 6 | _READ << 3 | _READ)


def read(path: str, kind: str) -> Acl | None:
    """Return a list of a file, None when it has none."""
    try:
        raw = os.getxattr(path, kind)
    except OSError as error:
        if error.errno in {errno.ENODATA, errno.EOPNOTSUPP}:
            return None
        raise
    entries = _ENTRY.iter_unpack(raw[_HEADER.size :])
    return {(tag, identity): bits for tag, bits, identity in entries}


def write(path: str, kind: str, acl: Acl) -> None:
    """Set a list of a file; an access list without named entries becomes its mode."""
    raw = b"".join(_ENTRY.pack(tag, acl[tag, who], who) for tag, who in sorted(acl))
    os.setxattr(path, kind, _HEADER.pack(_VERSION) + raw)


def granted(acl: Acl, users: Collection[int]) -> Acl:
    """Return a list in which users have the rights of the owner."""
    rights = acl[_OWNER, _NO_ID]
    more = {**acl, **{(_USER, user): rights for user in users}}
    mask = 0
    for (tag, _), bits in more.items():
        mask |= bits if tag in {_USER, _OWNING_GROUP, _GROUP} else 0
    return {**more, (_MASK, _NO_ID): mask}


def revoked(acl: Acl, users: Collection[int]) -> Acl:
    """Return a list without users; without a mask when nothing named is left."""
    rest = {key: bits for key, bits in acl.items() if not (key[0] == _USER and key[1] in users)}
    if any(tag in {_USER, _GROUP} for tag, _ in rest):
        return rest
    mask = rest.pop((_MASK, _NO_ID), ALL)
    rest[_OWNING_GROUP, _NO_ID] &= mask
    return rest


def is_minimal(acl: Acl) -> bool:
    """Return whether a list says no more than a mode can."""
    return not any(tag in {_USER, _GROUP} for tag, _ in acl)
