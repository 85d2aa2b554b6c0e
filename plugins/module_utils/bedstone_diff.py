"""Differences as `--diff` shows them; never the content of a sensitive file."""

from __future__ import annotations

import grp
import pwd
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from bedstone_files import WantedDirectory, WantedFile, WantedLink, below, status_of
else:
    from ansible.module_utils.bedstone_files import below, status_of

LONGEST_SHOWN_BYTES = 512 * 1024
Entry = dict[str, str]


def of_file(root: Path, wanted: WantedFile, differences: list[str]) -> list[Entry]:
    """Describe a file's change: one entry for the content, one for owner and mode."""
    place = below(root, wanted.path)
    status = status_of(place)
    entries = []
    if {"created", "content", "type"} & set(differences):
        if wanted.sensitive:
            verb = "is new" if status is None else "changes"
            entries.append(_prepared(f"{wanted.path} {verb} (sensitive, its content is not shown)"))
        else:
            entries.append(
                {
                    "before_header": wanted.path,
                    "after_header": wanted.path,
                    "before": _before(place, status),
                    "after": _shown(wanted.content, wanted.size),
                }
            )
    if status is not None and {"mode", "owner", "group"} & set(differences):
        entries.append(_attributes(wanted, status))
    return entries


def of_directory(root: Path, wanted: WantedDirectory) -> list[Entry]:
    """Describe a directory's change."""
    status = status_of(below(root, wanted.path))
    if status is None:
        after = f"directory {wanted.owner}:{wanted.group} {wanted.mode:04o}"
        return [_prepared(f"{wanted.path} is new ({after})")]
    return [_attributes(wanted, status)]


def of_link(root: Path, wanted: WantedLink) -> list[Entry]:
    """Describe a link's change."""
    place = below(root, wanted.path)
    status = status_of(place)
    return [
        {
            "before_header": f"{wanted.path} (link)",
            "after_header": f"{wanted.path} (link)",
            "before": _before(place, status) if status else "",
            "after": f"link to {wanted.target}\n",
        }
    ]


def of_removal(path: str) -> Entry:
    """Describe a removal; whether the content was sensitive is not known any more."""
    return _prepared(f"{path} is removed")


def _before(place: Path, status: os.stat_result | None) -> str:
    if status is None:
        return ""
    if stat.S_ISLNK(status.st_mode):
        return f"link to {place.readlink()}\n"
    if not stat.S_ISREG(status.st_mode):
        return "(neither file nor link)\n"
    content = place.read_bytes() if status.st_size <= LONGEST_SHOWN_BYTES else None
    return _shown(content, status.st_size)


def _shown(content: bytes | None, size: int) -> str:
    if content is not None and b"\0" not in content and len(content) <= LONGEST_SHOWN_BYTES:
        try:
            return content.decode()
        except UnicodeDecodeError:
            pass
    return f"(binary, {size} bytes)\n"


def _attributes(wanted: WantedFile | WantedDirectory, status: os.stat_result) -> Entry:
    owner, group = _user_name(status.st_uid), _group_name(status.st_gid)
    return {
        "before_header": f"{wanted.path} (owner and mode)",
        "after_header": f"{wanted.path} (owner and mode)",
        "before": f"{owner}:{group} {stat.S_IMODE(status.st_mode):04o}\n",
        "after": f"{wanted.owner}:{wanted.group} {wanted.mode:04o}\n",
    }


def _prepared(text: str) -> Entry:
    return {"prepared": f"{text}\n"}


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
