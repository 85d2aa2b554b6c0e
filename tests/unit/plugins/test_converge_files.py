"""What a converge does with files, directories, links and what is no longer declared."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from bedstone_run import ConvergeError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.fixtures.fake_server import FakeServer

CONF = {"path": "/etc/web/web.conf", "content": "port = 1\n"}


def test_file_is_made_with_parents_mode_and_content(server: FakeServer) -> None:
    result = server.converge({"files": [{**CONF, "mode": "0640"}]})
    assert result.changed_paths == ["/etc/web/web.conf"]
    assert server.read("/etc/web/web.conf") == "port = 1\n"
    assert server.mode("/etc/web/web.conf") == "0640"
    assert server.mode("/etc/web") == "0755"


def test_second_run_changes_nothing_and_writes_nothing(server: FakeServer) -> None:
    declared = {
        "files": [CONF],
        "directories": [{"path": "/srv/web", "mode": "0750"}],
        "links": [{"path": "/etc/web/link", "target": "web.conf"}],
    }
    assert server.converge(declared).changed
    manifest = server.path("/var/lib/bedstone/converge/web.json")
    before = manifest.stat().st_mtime_ns
    assert not server.converge(declared).changed
    assert manifest.stat().st_mtime_ns == before


@pytest.mark.parametrize("check", [True, False], ids=["check mode", "real run"])
def test_mode_alone_is_a_change(server: FakeServer, *, check: bool) -> None:
    server.converge({"files": [CONF]})
    server.path("/etc/web/web.conf").chmod(0o666)
    result = server.converge({"files": [CONF]}, check=check)
    assert result.changed_paths == ["/etc/web/web.conf"]
    assert server.mode("/etc/web/web.conf") == ("0666" if check else "0644")


def test_owner_alone_is_a_change(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.converge({"files": [CONF]})
    given: list[tuple[str, int]] = []
    # Only root can give files away, and who tests need not be.
    monkeypatch.setattr("os.chown", lambda path, uid, _gid, **_: given.append((str(path), uid)))
    declared = {"files": [{**CONF, "owner": "1234"}]}
    assert server.converge(declared, check=True).changed_paths == ["/etc/web/web.conf"]
    assert given == []
    assert server.converge(declared).changed_paths == ["/etc/web/web.conf"]
    assert given == [(str(server.path("/etc/web/web.conf")), 1234)]


def test_changed_content_replaces_the_file_and_leaves_no_temporary(server: FakeServer) -> None:
    server.converge({"files": [CONF]})
    inode = server.path("/etc/web/web.conf").stat().st_ino
    server.converge({"files": [{**CONF, "content": "port = 2\n"}]})
    assert server.read("/etc/web/web.conf") == "port = 2\n"
    assert server.path("/etc/web/web.conf").stat().st_ino != inode
    assert os.listdir(server.path("/etc/web")) == ["web.conf"]  # noqa: PTH208


def test_binary_content_survives(server: FakeServer) -> None:
    server.converge({"files": [{"path": "/x", "base64": "AP+A"}]})
    assert server.path("/x").read_bytes() == b"\x00\xff\x80"


def test_check_mode_changes_nothing_at_all(server: FakeServer) -> None:
    server.write("/etc/web/old.conf", "old")
    before = sorted(server.root.rglob("*"))
    result = server.converge(
        {
            "packages": ["nginx"],
            "files": [CONF],
            "directories": [{"path": "/srv/web"}],
            "links": [{"path": "/etc/web/link", "target": "web.conf"}],
            "absent": ["/etc/web/old.conf"],
            "commands": [{"command": ["x"], "when_changed": ["/etc/web/*"]}],
            "units": [{"name": "nginx.service", "enabled": True, "state": "started"}],
        },
        check=True,
    )
    assert result.changed_paths == ["/srv/web", "/etc/web/web.conf", "/etc/web/link"]
    assert result.removed_paths == ["/etc/web/old.conf"]
    assert result.packages == ["nginx"]
    assert result.commands == [["x"]]
    assert result.units == {"enable": ["nginx.service"], "start": ["nginx.service"]}
    assert sorted(server.root.rglob("*")) == before
    assert {call[0] for call in server.calls} <= {"dpkg-query", "systemctl"}
    assert all(call[1] == "show" for call in server.calls if call[0] == "systemctl")


def test_link_is_made_changed_and_replaces_a_file(server: FakeServer) -> None:
    server.write("/etc/localtime", "not a link")
    link = {"path": "/etc/localtime", "target": "/usr/share/zoneinfo/UTC"}
    assert server.converge({"links": [link]}).changed
    assert str(server.path("/etc/localtime").readlink()) == "/usr/share/zoneinfo/UTC"
    assert server.converge({"links": [{**link, "target": "other"}]}).changed
    assert not server.converge({"links": [{**link, "target": "other"}]}).changed


def test_file_replaces_a_link_and_not_what_it_points_to(server: FakeServer) -> None:
    server.write("/usr/share/default.conf", "the package's")
    server.path("/etc/web").mkdir(parents=True)
    server.path("/etc/web/web.conf").symlink_to("/usr/share/default.conf")
    server.converge({"files": [CONF]})
    assert not server.path("/etc/web/web.conf").is_symlink()
    assert server.read("/usr/share/default.conf") == "the package's"


@pytest.mark.parametrize(
    "declared",
    [
        {"files": [{"path": "/etc/web", "content": ""}]},
        {"links": [{"path": "/etc/web", "target": "x"}]},
        {"directories": [{"path": "/etc/web/web.conf"}]},
        {"files": [{"path": "/etc/web/web.conf/x", "content": ""}]},
        {"absent": ["/etc/web"]},
    ],
    ids=["file", "link", "directory", "parent", "absent"],
)
def test_what_lies_in_the_way_is_an_error_and_stays(
    server: FakeServer, declared: dict[str, list[str]]
) -> None:
    server.write("/etc/web/web.conf", "precious")
    with pytest.raises(ConvergeError, match=r"/etc/web"):
        server.converge(declared)
    assert server.read("/etc/web/web.conf") == "precious"


def test_unknown_owner_is_an_error_before_anything_changes(server: FakeServer) -> None:
    other = {"path": "/b", "content": "", "owner": "nobody-such"}
    with pytest.raises(ConvergeError, match=r"no user 'nobody-such' .* own /b"):
        server.converge({"files": [{"path": "/a", "content": ""}, other]})
    assert not server.path("/a").exists()


def test_unknown_owner_is_a_warning_in_check_mode(server: FakeServer) -> None:
    declared = {"files": [{"path": "/b", "content": "", "owner": "nobody-such"}]}
    result = server.converge(declared, check=True)
    assert result.changed_paths == ["/b"]
    assert "nobody-such" in result.warnings[0]


def test_create_only_file_is_made_once_and_then_left_alone(server: FakeServer) -> None:
    seed = {"path": "/etc/web/seed", "content": "first\n", "create_only": True}
    assert server.converge({"files": [seed]}).changed
    server.write("/etc/web/seed", "somebody's own\n", 0o600)
    assert not server.converge({"files": [{**seed, "content": "second\n"}]}).changed
    assert server.read("/etc/web/seed") == "somebody's own\n"


# What is no longer declared


def test_file_no_longer_declared_is_removed_with_its_directory(server: FakeServer) -> None:
    other = {"path": "/etc/web/sites/b.conf", "content": "b"}
    server.converge({"files": [CONF, other]})
    result = server.converge({"files": [CONF]})
    assert result.removed_paths == ["/etc/web/sites/b.conf", "/etc/web/sites"]
    assert not server.path("/etc/web/sites").exists()
    assert server.path("/etc/web/web.conf").exists()
    assert not server.converge({"files": [CONF]}).changed


def test_link_no_longer_declared_is_removed_even_if_it_points_to_a_directory(
    server: FakeServer,
) -> None:
    server.path("/srv").mkdir()
    server.converge({"links": [{"path": "/current", "target": str(server.path("/srv"))}]})
    assert server.converge({}).removed_paths == ["/current"]
    assert server.path("/srv").is_dir()


def test_directory_with_somebody_elses_file_stays(server: FakeServer) -> None:
    server.converge({"files": [CONF]})
    server.write("/etc/web/theirs", "x")
    assert server.converge({}).removed_paths == ["/etc/web/web.conf"]
    assert server.read("/etc/web/theirs") == "x"


def test_directory_that_was_there_before_stays(server: FakeServer) -> None:
    server.path("/etc/web").mkdir(parents=True)
    server.converge({"files": [CONF]})
    server.converge({})
    assert server.path("/etc/web").is_dir()


def test_file_that_was_never_ours_stays(server: FakeServer) -> None:
    server.converge({"files": [CONF]})
    server.write("/etc/web/theirs.conf", "x")
    server.converge({"files": [CONF]})
    assert server.path("/etc/web/theirs.conf").exists()


def test_file_that_another_converge_declares_now_stays(server: FakeServer) -> None:
    server.converge({"name": "old", "files": [CONF]})
    server.converge({"name": "new", "files": [{**CONF, "content": "new"}]})
    assert server.converge({"name": "old"}).removed_paths == []
    assert server.read("/etc/web/web.conf") == "new"


def test_changed_seed_no_longer_declared_stays_with_a_warning(server: FakeServer) -> None:
    seeds = [
        {"path": f"/etc/web/{name}", "content": "x", "create_only": True} for name in ("a", "b")
    ]
    server.converge({"files": seeds})
    server.write("/etc/web/a", "changed")
    result = server.converge({})
    assert result.removed_paths == ["/etc/web/b"]
    assert "/etc/web/a is not declared any more" in result.warnings[0]
    assert server.read("/etc/web/a") == "changed"


def test_seed_found_on_the_server_is_not_taken_for_ours(server: FakeServer) -> None:
    server.write("/etc/web/seed", "theirs")
    declared = {"files": [{"path": "/etc/web/seed", "content": "ours", "create_only": True}]}
    assert not server.converge(declared).changed
    server.converge({})
    assert server.read("/etc/web/seed") == "theirs"


def test_unit_is_stopped_before_its_file_is_removed(server: FakeServer) -> None:
    unit = {"path": "/etc/systemd/system/a@.service", "content": "[Service]"}
    server.path("/etc/systemd/system").mkdir(parents=True)
    server.converge({"files": [unit]})
    server.forget_calls()
    there: list[bool] = []
    server.before_call = lambda call: (
        there.append(server.path(unit["path"]).exists()) if call[1] == "stop" else None
    )
    assert server.converge({}).removed_paths == [unit["path"]]
    assert there == [True]
    assert server.called("systemctl", "stop", "--", "a@*.service")
    assert server.called("systemctl", "daemon-reload")


def test_kept_path_stays_known_until_a_run_no_longer_keeps_it(server: FakeServer) -> None:
    units = [
        {"path": f"/etc/systemd/system/web-{name}@.service", "content": "[Service]"}
        for name in ("a", "b")
    ]
    server.path("/etc/systemd/system").mkdir(parents=True)
    server.converge({"files": [*units, CONF]})
    server.forget_calls()
    kept = {"files": [units[0]], "keep": ["/etc/systemd/system/web-*@.service"]}
    result = server.converge(kept)
    assert result.kept_paths == [units[1]["path"]]
    assert units[1]["path"] not in result.removed_paths
    assert "/etc/web/web.conf" in result.removed_paths, "only what fits the pattern is kept"
    assert not server.called("systemctl", "stop", "--", "web-b@*.service")
    again = server.converge(kept)
    assert (again.changed, again.kept_paths) == (False, [units[1]["path"]])
    assert server.converge({"files": [units[0]]}).removed_paths == [units[1]["path"]]
    assert server.called("systemctl", "stop", "--", "web-b@*.service")


def test_kept_path_that_is_declared_again_is_as_any_other(server: FakeServer) -> None:
    server.converge({"files": [CONF]})
    server.converge({"keep": ["/etc/web/*"]})
    result = server.converge({"files": [CONF], "keep": ["/etc/web/*"]})
    assert (result.changed, result.kept_paths) == (False, [])


# Uploads


def upload_of(tmp_path: Path, content: bytes) -> tuple[dict[str, object], dict[str, str]]:
    import hashlib

    place = tmp_path / "upload"
    place.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    return {"path": "/opt/x", "sha256": digest, "size": len(content)}, {"/opt/x": str(place)}


def test_upload_is_asked_for_before_anything_changes(server: FakeServer, tmp_path: Path) -> None:
    entry, uploads = upload_of(tmp_path, b"data")
    declared = {"packages": ["nginx"], "files": [CONF, entry]}
    asked = server.converge(declared)
    assert asked.needs_uploads == ["/opt/x"]
    assert server.everything() == {}
    assert server.calls == []
    assert server.converge(declared, uploads=uploads).changed
    assert server.path("/opt/x").read_bytes() == b"data"
    assert server.converge(declared).needs_uploads == []


def test_upload_of_the_same_size_with_other_content_is_asked_for(
    server: FakeServer, tmp_path: Path
) -> None:
    server.write("/opt/x", "DATA")
    entry, _ = upload_of(tmp_path, b"data")
    assert server.converge({"files": [entry]}).needs_uploads == ["/opt/x"]


def test_damaged_upload_is_refused(server: FakeServer, tmp_path: Path) -> None:
    entry, uploads = upload_of(tmp_path, b"data")
    (tmp_path / "upload").write_bytes(b"dat")
    with pytest.raises(ConvergeError, match="arrived damaged"):
        server.converge({"files": [entry]}, uploads=uploads)


def test_upload_whose_mode_alone_differs_is_not_asked_for(
    server: FakeServer, tmp_path: Path
) -> None:
    entry, uploads = upload_of(tmp_path, b"data")
    server.converge({"files": [entry]}, uploads=uploads)
    result = server.converge({"files": [{**entry, "mode": "0755"}]})
    assert result.changed_paths == ["/opt/x"]
    assert server.mode("/opt/x") == "0755"


def test_check_mode_without_validators_transfers_nothing(
    server: FakeServer, tmp_path: Path
) -> None:
    entry, _ = upload_of(tmp_path, b"data")
    result = server.converge({"files": [entry]}, check=True)
    assert result.needs_uploads == []
    assert result.changed_paths == ["/opt/x"]


# Differences


def test_diff_shows_content_before_and_after(server: FakeServer) -> None:
    server.converge({"files": [CONF]})
    result = server.converge({"files": [{**CONF, "content": "port = 2\n"}]}, with_diff=True)
    assert result.diff == [
        {
            "before_header": "/etc/web/web.conf",
            "after_header": "/etc/web/web.conf",
            "before": "port = 1\n",
            "after": "port = 2\n",
        }
    ]


def test_diff_shows_mode(server: FakeServer) -> None:
    server.converge({"files": [CONF]})
    (entry,) = server.converge({"files": [{**CONF, "mode": "0600"}]}, with_diff=True).diff
    assert entry["before"].endswith(" 0644\n")
    assert entry["after"].endswith(" 0600\n")


def test_nothing_of_a_sensitive_file_is_shown(server: FakeServer) -> None:
    secret = {"path": "/etc/web/password", "content": "hunter22\n", "sensitive": True}
    first = server.converge({"files": [secret]}, with_diff=True)
    second = server.converge({"files": [{**secret, "content": "other333\n"}]}, with_diff=True)
    gone = server.converge({}, with_diff=True)
    for result in (first, second, gone):
        assert result.changed
        assert "/etc/web/password" in str(result.diff)
        assert "hunter22" not in str(result.as_dict())
        assert "other333" not in str(result.as_dict())
