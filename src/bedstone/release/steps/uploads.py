"""Give a release of another user access to the uploads while the old one still serves.

Its owner is the user of the release that serves. A release that runs as another one gets access
next to it, by an access control list, from its first step until it is recorded and the old slot is
drained; only then the files become its own. The undo gives the files that it made to the old owner.
Changes that are still to be done are recorded in ``uploads.json`` of the app's state, for the run
after a kill.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from bedstone.apps import slots
from bedstone.core import acl, files, paths, safe_tree
from bedstone.core.errors import BedstoneError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from bedstone.apps.config import App
    from bedstone.apps.slots import Made
    from bedstone.core.safe_tree import Entry
    from bedstone.release.context import Rollout

PRIVATE, SERVED = 0o700, 0o755


@dataclass(frozen=True)
class Shared:
    """Uploads that two users may write; see :func:`share`.

    Attributes:
        uid: the owner, and that of the release that served when it began.
        gid: its group.
        new_uid: the user of the running operation's release.
        new_gid: its group.
        users: all users with access.

    """

    uid: int
    gid: int
    new_uid: int
    new_gid: int
    users: tuple[int, ...]


def directory(app: str) -> Path:
    """Return where an app's uploads are."""
    return paths.served(app) / "media"


def share(rollout: Rollout) -> None:
    """Make the directory of uploads, and let the release's user write all that is in it.

    Raises:
        BedstoneError: the file system has no access control lists.

    """
    app = rollout.app
    if app.media is None:
        return
    media = directory(app.name)
    if not media.is_dir():
        media.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        media.mkdir(mode=PRIVATE)
    status = media.lstat()
    serving = slots.read_made(app.name, rollout.old.release) if rollout.old else None
    if serving is None or serving.uid == rollout.uid:
        # An image that starts as root gives them to the user that it changes to.
        if serving is None or rollout.uid:
            safe_tree.give(media, rollout.uid, rollout.gid)
        if serving is None:
            _set_mode(app, media)
        return
    users = tuple(sorted({status.st_uid, serving.uid, rollout.uid}))
    shared = Shared(status.st_uid, status.st_gid, rollout.uid, rollout.gid, users)
    if status.st_uid == rollout.uid:
        # As after a restore of files from when the app had another user.
        shared = Shared(serving.uid, serving.gid, rollout.uid, rollout.gid, users)
    _write(app.name, shared)
    try:
        for entry in safe_tree.walk(media):
            _grant(entry, shared)
    except OSError as error:
        if error.errno not in {errno.EOPNOTSUPP, errno.ENOSYS}:
            raise
        raise BedstoneError(
            f"The uploads of {app.name} belong to user {status.st_uid}, and the release runs as"
            f" {rollout.uid}; the file system of {media} has no access control lists, by which both"
            " could write while one takes over.",
            hint=f'Keep the user that it had (`user: "{serving.uid}:{serving.gid}"`), or stop the'
            f" app and `chown -hR {rollout.uid}:{rollout.gid} {media}`.",
        ) from error


def unshare(rollout: Rollout) -> None:
    """Give the uploads back to the release that serves on."""
    shared = pending(rollout.app.name)
    if shared is not None:
        _give_back(rollout.app.name, shared)


def hand_over(rollout: Rollout) -> str:
    """Make the serving release the only owner of the uploads; return what changed."""
    app = rollout.app
    if app.media is None:
        return ""
    _set_mode(app, directory(app.name))
    shared = pending(app.name)
    if shared is None:
        return ""
    return _take_over(app.name, shared)


def pending(app: str) -> Shared | None:
    """Return what an operation has begun with the uploads of an app and not finished."""
    try:
        known = json.loads(_path(app).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return Shared(**{**known, "users": tuple(known["users"])})


def settle(app: str, shared: Shared, serving: Made) -> None:
    """Finish or undo what a killed operation has begun.

    Args:
        app: whose uploads.
        shared: what :func:`pending` returned.
        serving: the release that serves.

    """
    if (serving.uid, serving.gid) == (shared.new_uid, shared.new_gid):
        _take_over(app, shared)
    else:
        _give_back(app, shared)


def _take_over(app: str, shared: Shared) -> str:
    # Of an image that starts as root, only what was the old user's: the rest is whom it changes to.
    only = None if shared.new_uid else {shared.uid}
    _revoke(directory(app), shared.users, shared.new_uid, shared.new_gid, only)
    _path(app).unlink(missing_ok=True)
    return f"from user {shared.uid} to {shared.new_uid}"


def _give_back(app: str, shared: Shared) -> None:
    _revoke(directory(app), shared.users, shared.uid, shared.gid, {shared.new_uid})
    _path(app).unlink(missing_ok=True)


def _grant(entry: Entry, shared: Shared) -> None:
    if entry.is_directory:
        # First: what is made in it from now on inherits, and what was made before is seen.
        default = acl.read(entry.reference, acl.DEFAULT) or acl.inherited()
        acl.write(entry.reference, acl.DEFAULT, acl.granted(default, shared.users))
    elif not entry.is_file or not entry.belongs_to(shared.users):
        return
    access = acl.read(entry.reference, acl.ACCESS) or acl.from_mode(entry.status.st_mode)
    acl.write(entry.reference, acl.ACCESS, acl.granted(access, shared.users))


def _revoke(
    media: Path, users: Collection[int], uid: int, gid: int, only: Collection[int] | None
) -> None:
    """Give a tree to one user and take the others' access to it.

    Args:
        media: the tree.
        users: those with access by lists.
        uid: the user that gets it.
        gid: its group.
        only: whose files are given; None for everybody's.

    """
    for entry in safe_tree.walk(media):
        if not entry.belongs_to(users):
            continue
        if entry.is_directory:
            default = acl.read(entry.reference, acl.DEFAULT)
            if default is not None:
                rest = acl.revoked(default, users)
                if acl.is_minimal(rest):
                    os.removexattr(entry.reference, acl.DEFAULT)
                else:
                    acl.write(entry.reference, acl.DEFAULT, rest)
        if entry.is_directory or entry.is_file:
            access = acl.read(entry.reference, acl.ACCESS)
            if access is not None:
                acl.write(entry.reference, acl.ACCESS, acl.revoked(access, users))
        if only is None or entry.status.st_uid in only:
            entry.give(uid, gid)


def _set_mode(app: App, media: Path) -> None:
    """Give nginx read access to the uploads if it serves them; else to the container only."""
    assert app.media is not None
    wanted = PRIVATE if app.media.url is None else SERVED
    # While a list is there the bits of the group are its mask.
    others = stat.S_IRWXO
    for entry in safe_tree.walk(media):
        have = stat.S_IMODE(entry.status.st_mode)
        if acl.read(entry.reference, acl.ACCESS) is None and have != wanted:
            entry.set_mode(wanted)
        elif have & others != wanted & others:
            access = acl.read(entry.reference, acl.ACCESS) or acl.from_mode(have)
            minimal = acl.from_mode(wanted)
            acl.write(entry.reference, acl.ACCESS, {**access, **minimal})
        break


def _write(app: str, shared: Shared) -> None:
    files.write(_path(app), json.dumps(asdict(shared)) + "\n", mode=0o600)


def _path(app: str) -> Path:
    return paths.app_state(app) / "uploads.json"
