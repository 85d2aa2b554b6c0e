"""The uploads while a release of another user comes, and once it has failed."""

from __future__ import annotations

import copy
import os
import stat
from pathlib import Path

import pytest

from bedstone.apps import slots
from bedstone.apps.slots import Made
from bedstone.core import acl
from bedstone.release.steps import uploads
from tests.unit.bedstone.release.test_operations_release import release
from tests.unit.fixtures.server import APP, Server, declare

OTHER = 4000


@pytest.fixture
def media(root: Path) -> Path:
    return root / "srv/bedstone/shop/media"


def as_another_user(server: Server) -> None:
    app = copy.deepcopy(APP)
    app["user"] = f"{OTHER}:{OTHER}"
    declare(server, app=app)


def users(path: Path, kind: str = acl.ACCESS) -> set[int]:
    return {who for tag, who in acl.read(str(path), kind) or {} if tag == 0x02}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def fill(media: Path) -> dict[str, int]:
    """Put into the uploads what an app may; return each file's mode."""
    (media / "d").mkdir()
    for name, bits in (("open", 0o644), ("d/closed", 0o600)):
        (media / name).write_text(name)
        (media / name).chmod(bits)
    (media / "dangling").symlink_to("/nowhere")
    return {str(path): mode(path) for path in (media, *media.rglob("[!d]*"), media / "d")}


def test_both_users_can_write_until_the_old_release_is_gone(server: Server, media: Path) -> None:
    release(server)
    modes = fill(media)
    as_another_user(server)
    seen = {}

    def look() -> None:
        for name in (".", "d", "open", "d/closed"):
            seen[name] = users(media / name)
        seen["inherited"] = users(media / "d", acl.DEFAULT)
        (media / "d/made").write_text("by the new release")
        seen["made"] = users(media / "d/made")

    server.during["check"] = look
    outcome = release(server)
    assert outcome.ok, outcome.error
    for name, found in seen.items():
        assert {10001, OTHER} <= found, name
    assert [
        step.said.partition("uploads ")[2] for step in outcome.steps if step.name == "drain"
    ] == [f"from user {os.getuid()} to {OTHER}"]
    assert {path: mode(Path(path)) for path in modes} == modes
    assert not any(users(path) for path in (media, *media.rglob("[!d]*")))
    assert users(media / "d", acl.DEFAULT) == set()
    assert uploads.pending("shop") is None


@pytest.mark.parametrize("broken", ["check", "web@green", "front door", "static"])
def test_failed_release_of_another_user_leaves_the_uploads_as_they_were(
    server: Server, media: Path, broken: str
) -> None:
    first = release(server).release
    modes = fill(media)
    as_another_user(server)
    server.broken = {broken}
    assert not release(server).ok
    assert set(server.serves().values()) == {first}
    assert {path: mode(Path(path)) for path in modes} == modes
    assert not any(users(path) for path in (media, *media.rglob("[!d]*")))
    assert users(media, acl.DEFAULT) == set()
    assert uploads.pending("shop") is None


@pytest.mark.parametrize("recorded", [True, False])
def test_killed_hand_over_is_finished_or_undone_by_the_next_operation(
    server: Server,
    media: Path,
    recorded: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    release(server)
    modes = fill(media)
    as_another_user(server)
    kept: list[uploads.Shared | None] = []
    server.during["check"] = lambda: kept.append(uploads.pending("shop"))
    release(server)
    (shared,) = kept
    assert shared is not None
    # As it stands in the middle, on disk.
    uploads._write("shop", shared)
    for path in (media, media / "open", media / "d"):
        acl.write(str(path), acl.ACCESS, acl.granted(acl.from_mode(mode(path)), shared.users))
    serving = Made("image", OTHER, OTHER) if recorded else Made("image", shared.uid, shared.gid)
    uploads.settle("shop", shared, serving)
    assert {path: mode(Path(path)) for path in modes} == modes
    assert users(media) == set()
    assert uploads.pending("shop") is None


def test_settling_puts_shared_uploads_right(server: Server, media: Path) -> None:
    serving = release(server).release
    made = slots.read_made("shop", str(serving))
    shared = uploads.Shared(made.uid, made.gid, OTHER, OTHER, (made.uid, OTHER))
    uploads._write("shop", shared)
    acl.write(str(media), acl.ACCESS, acl.granted(acl.from_mode(0o755), shared.users))
    outcome = release(server)
    assert outcome.put_right == ["the uploads were being shared with a release of another user"]
    assert users(media) == set()
    assert uploads.pending("shop") is None


def test_list_of_the_operators_own_stays(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = str(tmp_path / "file")
    acl.write(path, acl.ACCESS, acl.granted(acl.from_mode(0o640), [1234]))
    own = acl.read(path, acl.ACCESS)
    assert own is not None
    acl.write(path, acl.ACCESS, acl.granted(own, [OTHER, 10001]))
    both = acl.read(path, acl.ACCESS)
    assert both is not None
    acl.write(path, acl.ACCESS, acl.revoked(both, [OTHER, 10001]))
    assert acl.read(path, acl.ACCESS) == own


def test_image_with_a_loose_volume_is_refused_before_anything_changes(
    server: Server, media: Path
) -> None:
    first = release(server).release
    server.volumes = {"/app/media/cache/": {}, "/tmp": {}, "/app/media": {}, "/data": {}}
    declare(server, source="two")
    outcome = release(server)
    assert outcome.failed_step == "image"
    assert "a VOLUME at /app/media/cache/, /data, and no setting of shop says" in str(outcome.error)
    assert "/app/media/cache is a part of `media` (/app/media)" in str(outcome.hint)
    assert "`tmpfs: [/tmp, /data]`" in str(outcome.hint)
    assert set(server.serves().values()) == {first}
    assert media.is_dir()
