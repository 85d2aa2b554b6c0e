"""The release of an app, with every step failing once."""

from __future__ import annotations

import copy
import json
import os
import signal
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bedstone.apps import config, containers, slots
from bedstone.core import lock, paths
from bedstone.core.errors import BedstoneError, ConfigError
from bedstone.ledger import database, releases
from bedstone.release import operations
from bedstone.release.changes import REBUILT, would_change
from bedstone.release.context import ReleaseOptions
from bedstone.release.steps import image as steps_image
from bedstone.system import docker
from tests.unit.fixtures.server import APP, Server, declare

if TYPE_CHECKING:
    from bedstone.release.outcome import Outcome

BLUE = {"web": "172.20.0.129:8000", "api": "172.20.0.130:9000"}
UNITS = {f"bedstone-shop-{key}.service" for key in ("web@blue", "api@blue", "worker@1", "worker@2")}

STARTS = (["systemctl", "start"], ["systemctl", "restart"])

# What is broken, at which step the release then fails, and words of the message.
FAILURES = [
    pytest.param("build", "image", "no space left on device", id="build"),
    pytest.param("check", "check", "`manage check` failed in the image", id="check"),
    pytest.param("migrate", "migrate", "migrate: it is broken", id="migrate"),
    pytest.param("static", "static", "`manage collect` failed", id="static"),
    pytest.param("web@green", "start", "didn't get healthy", id="never healthy"),
    pytest.param("api@green", "start", "bedstone-shop-api@green.service", id="second service"),
    pytest.param("nginx", "switch", "unknown directive", id="nginx refuses"),
    pytest.param("front door", "verify", "answered 500", id="500 behind nginx"),
    pytest.param("worker@2", "workers", "bedstone-shop-worker@2.service", id="worker"),
]


def release(server: Server, *, if_changed: bool = False) -> Outcome:
    return operations.release("shop", if_changed=if_changed, host=server.host())


def test_first_release_serves(server: Server) -> None:
    outcome = release(server)
    assert outcome.ok
    assert outcome.changed
    names = [step.name for step in outcome.steps]
    assert names == [
        *("prepare", "image", "network", "check", "plan", "restore_point", "migrate"),
        *("static", "workers", "start", "switch", "verify", "record", "drain", "prune"),
    ]
    assert server.active == server.enabled == UNITS
    assert server.upstreams() == {"shop-web": BLUE["web"], "shop-api": BLUE["api"]}
    assert server.static() == outcome.release
    assert server.front_doors == [
        ("shop.example.com", "/health/"),
        ("shop.example.com", "/api/"),
    ]


def started(server: Server) -> list[str]:
    """Return the units in the order in which they were started."""
    given = [call[2:] for call in server.calls if call[:2] in STARTS]
    return [
        unit.removeprefix("bedstone-shop-").removesuffix(".service") for u in given for unit in u
    ]


def test_workers_run_before_the_first_health_check_and_after_the_later_ones(
    server: Server,
) -> None:
    release(server)
    assert started(server) == ["worker@1", "worker@2", "web@blue", "api@blue"]
    server.calls.clear()
    declare(server, source="two")
    release(server)
    assert started(server) == ["web@green", "api@green", "worker@1", "worker@2"]


def test_first_release_that_is_not_healthy_leaves_no_worker(server: Server) -> None:
    server.broken = {"web@blue"}
    outcome = release(server)
    assert outcome.failed_step == "start"
    assert not server.active
    assert not server.enabled
    assert not server.slots()


def test_second_release_moves_to_the_other_slot_and_stops_the_first(server: Server) -> None:
    first = release(server)
    declare(server, source="two")
    second = release(server)
    assert second.previous == first.release
    assert set(server.serves().values()) == {second.release}
    assert set(server.serves()) == {"web@green", "api@green", "worker@1", "worker@2"}
    assert server.enabled == {unit.replace("blue", "green") for unit in UNITS}
    assert server.upstreams()["shop-web"] not in BLUE.values()
    third = release(server)
    assert server.upstreams()["shop-web"] == BLUE["web"], "addresses of a slot never change"
    assert set(server.serves().values()) == {third.release}


def test_old_slot_serves_until_nginx_has_switched(server: Server) -> None:
    release(server)
    declare(server, source="two")
    seen: list[set[str]] = []
    server.during["static"] = lambda: seen.append(set(server.active))
    release(server)
    assert seen == [UNITS]
    assert len(server.reloads) == 1, "only the first release makes upstreams"


def with_port(port: int) -> dict[str, Any]:
    app = copy.deepcopy(APP)
    app["services"]["web"]["port"] = port
    return app


def test_another_port_reloads_nginx_before_requests_go_there(server: Server) -> None:
    release(server)
    declare(server, app=with_port(8080), source="two")
    release(server)
    assert [told["shop-web"] for told in server.reloads] == ["127.0.0.1:9 down", BLUE["web"]]
    assert server.upstreams()["shop-web"] == "172.20.0.131:8080"
    declare(server, source="three")
    release(server)
    assert server.upstreams()["shop-web"] == BLUE["web"]
    assert len(server.reloads) == 2, "the other slot kept its port"


def test_nginx_that_does_not_reload_leaves_the_old_release_serving(server: Server) -> None:
    first = release(server)
    before = (server.serves(), server.upstreams(), server.static(), set(server.enabled))
    declare(server, app=with_port(8080), source="two")
    server.broken = {"reload"}
    failed = release(server)
    assert failed.failed_step == "switch"
    assert "reload failed" in f"{failed.error} {failed.details}"
    assert (server.serves(), server.upstreams(), server.static(), set(server.enabled)) == before
    assert failed.release == first.release
    server.broken = set()
    assert release(server).ok


def test_kill_before_nginx_has_reloaded_is_made_up_for(server: Server) -> None:
    first = release(server)
    paths.reload_owed("shop").touch()
    assert release(server, if_changed=True).changed
    assert len(server.reloads) == 2
    assert not paths.reload_owed("shop").exists()
    assert release(server).previous == first.release


@pytest.mark.parametrize("linked", [False, True], ids=["new role", "old role"])
def test_server_with_nginx_files_of_an_earlier_version_goes_on(
    server: Server,
    linked: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Its upstreams hold the serving slot alone; its site asks them by the plain name."""
    first = release(server)
    nginx = server.root / "etc/nginx/bedstone"
    (nginx / "serving/shop").unlink()
    for name in ("web", "api"):
        text = f"upstream shop-{name} {{\n    server {BLUE[name]};\n    keepalive 16;\n}}\n"
        (nginx / f"upstreams/shop-{name}.conf").write_text(text)
    (nginx / "sites").mkdir()
    site = "http://shop-web;" if linked else "http://shop-web$bedstone_slot;"
    (nginx / "sites/shop.conf").write_text(site)
    declare(server, source="two")
    second = release(server)
    assert second.ok
    assert second.previous == first.release
    text = (nginx / "upstreams/shop-web.conf").read_text()
    plain = text.partition("upstream shop-web {")[2].partition("server ")[2].partition(";")[0]
    assert server.upstreams()["shop-web"] == "172.20.0.131:8000"
    assert plain == ("172.20.0.131:8000" if linked else "127.0.0.1:9 down")
    assert not release(server, if_changed=True).changed


@pytest.mark.parametrize(
    ("status", "accepted", "ok"), [(400, [], False), (400, [400], True), (404, [], True)]
)
def test_answer_of_a_route_is_judged_unless_it_is_declared(
    server: Server,
    status: int,
    accepted: list[int],
    ok: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    app = copy.deepcopy(APP)
    app["services"] = {"web": {"port": 8000, "route": "/", "accept_status": accepted}}
    declare(server, app=app)
    server.front_status = status
    outcome = release(server)
    assert outcome.ok is ok
    if not ok:
        assert outcome.failed_step == "verify"
        assert "ALLOWED_HOSTS" in str(outcome.hint)
        assert "accept_status: [400]" in str(outcome.hint)


def test_health_path_answers_2xx_at_the_domain_as_well(server: Server) -> None:
    server.front_status = 404
    outcome = release(server)
    assert outcome.failed_step == "verify"
    assert "/health/ answered 404" in str(outcome.error)


def test_release_goes_to_the_destinations_in_the_background(server: Server) -> None:
    path = server.root / "etc/bedstone/destinations.json"
    local = {"name": "local", "type": "local", "pgbackrest": None, "restic": "/var/backups/x"}
    offsite = {"name": "offsite", "type": "sftp", "host": "b.example.com", "path": "/srv/bedstone"}
    entries = [local, {**offsite, "port": 22, "user": "bedstone", "pgbackrest": None}]
    path.write_text(
        json.dumps({"schema": 1, "point_in_time": None, "destinations": entries}), encoding="utf-8"
    )
    outcome = release(server)
    assert outcome.ok
    assert (outcome.steps[-1].name, outcome.steps[-1].said) == (
        "copy",
        "to offsite, in the background",
    )
    assert ["systemctl", "start", "--no-block", "bedstone-copy.service"] in server.calls


def test_release_serves_though_nobody_can_tell_the_destinations(server: Server) -> None:
    (server.root / "etc/bedstone/destinations.json").write_text("{", encoding="utf-8")
    outcome = release(server)
    assert outcome.ok
    assert any(warning.startswith("copy: ") for warning in outcome.warnings)
    assert server.static() == outcome.release


@pytest.mark.parametrize(("broken", "step", "words"), FAILURES)
def test_failed_step_leaves_the_old_release_serving(
    server: Server, broken: str, step: str, words: str
) -> None:
    first = release(server)
    server.good = {first.release}
    before = (server.serves(), server.upstreams(), server.static(), set(server.enabled))
    images = {name for name in server.images if name.startswith("bedstone/")}
    declare(server, source="two")
    server.broken = {broken}
    failed = release(server)
    assert not failed.ok
    assert failed.failed_step == step
    assert words in f"{failed.error} {failed.details}"
    assert failed.release == failed.previous == first.release
    assert not failed.warnings or broken == "reload", "all else could be undone"
    after = (server.serves(), server.upstreams(), server.static(), set(server.enabled))
    assert after == before
    assert {name for name in server.images if name.startswith("bedstone/")} == images
    assert [p.name for p in (server.root / "srv/bedstone/shop/static").iterdir()] != []

    server.broken = set()
    again = release(server)
    assert again.ok, "the next release works"
    assert set(server.serves().values()) == {again.release}


@pytest.mark.parametrize(("broken", "step", "words"), FAILURES)
def test_failed_first_release_leaves_nothing_running(
    server: Server, broken: str, step: str, words: str
) -> None:
    server.broken = {broken.replace("green", "blue")}
    failed = release(server)
    assert failed.failed_step == step
    assert words.replace("green", "blue") in f"{failed.error} {failed.details}"
    assert failed.release is None
    assert server.active == set()
    assert server.enabled == set()
    assert server.static() is None
    assert server.slots() == set()


def test_failed_step_is_in_the_ledger(server: Server) -> None:
    server.broken = {"migrate"}
    release(server)
    with database.opened() as connection:
        (entry,) = releases.entries(connection, "shop")
    assert (entry.state, entry.failed_step) == ("failed", "migrate")
    assert "manage migrate" in str(entry.error)


def test_failed_start_shows_the_lines_of_its_journal(server: Server) -> None:
    server.broken = {"web@blue"}
    server.journal = "Traceback\nOperationalError: no password supplied\n"
    assert "OperationalError" in release(server).details


def test_release_that_can_not_be_recorded_is_undone(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = release(server)
    declare(server, source="two")

    def full(*_: object, **_more: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(releases, "commit", full)
        patch.setattr(releases, "fail", full)
        outcome = release(server)
    assert outcome.failed_step == "record"
    assert "disk is full" in str(outcome.error)
    assert set(server.serves().values()) == {first.release}
    assert release(server).ok


@pytest.mark.parametrize("signalled", [True, False])
def test_nothing_is_undone_once_it_is_recorded(
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    signalled: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    release(server)
    declare(server, source="two")
    real = releases.commit

    def commit(*arguments: Any) -> None:
        real(*arguments)
        if signalled:
            os.kill(os.getpid(), signal.SIGTERM)
        raise OSError("the wire was cut")

    with monkeypatch.context() as patch:
        patch.setattr(releases, "commit", commit)
        outcome = release(server)
    assert outcome.ok
    assert set(server.serves()) == {"web@green", "api@green", "worker@1", "worker@2"}
    assert set(server.serves().values()) == {outcome.release}
    assert [step.name for step in outcome.steps][-3:] == ["record", "drain", "prune"]
    assert not release(server, if_changed=True).changed


def test_journal_that_can_not_be_written_stops_the_release(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = release(server)
    real = releases.step

    def full(*arguments: Any) -> None:
        row = arguments[2]
        if row.name in {"switch", "start"} or row.state != "running":
            raise sqlite3.OperationalError("database or disk is full")
        real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(releases, "step", full)
        assert not release(server).ok
    assert set(server.serves().values()) == {first.release}


def test_nothing_changed_does_nothing(server: Server) -> None:
    first = release(server)
    server.calls.clear()
    second = release(server, if_changed=True)
    assert not second.changed
    assert second.release == first.release
    verbs = {tuple(call[:2]) for call in server.calls}
    assert verbs == {("systemctl", "show"), ("docker", "ps")}


@pytest.mark.parametrize(
    "path",
    [
        "etc/bedstone/apps/shop/app.env",
        "etc/bedstone/apps/shop/migrate.env",
        "etc/bedstone/tls/ca.crt",
        "var/lib/bedstone/apps/shop/source.tar.gz",
    ],
)
def test_a_changed_file_is_released(server: Server, path: str) -> None:
    release(server)
    if path.endswith(".tar.gz"):
        declare(server, source="two")
    else:
        with (server.root / path).open("a") as handle:
            handle.write("NEW=1\n")
    assert would_change("shop", server.host()).changed
    assert release(server, if_changed=True).changed


def test_a_changed_setting_is_released(server: Server) -> None:
    release(server)
    app = copy.deepcopy(APP)
    app["services"]["web"]["memory_mb"] = 512
    declare(server, app=app)
    outcome = release(server, if_changed=True)
    assert outcome.changed
    assert outcome.reason == "its source, settings or environment have changed"


def test_stopped_unit_is_started_again_without_a_release(server: Server) -> None:
    first = release(server)
    server.active.discard("bedstone-shop-worker@2.service")
    server.enabled.discard("bedstone-shop-web@blue.service")
    forecast = would_change("shop", server.host())
    assert forecast.changed
    assert "worker@2 doesn't run" in forecast.put_right
    second = release(server, if_changed=True)
    assert second.changed
    assert second.release == first.release
    assert server.active == server.enabled == UNITS
    assert not release(server, if_changed=True).changed


def test_upstream_that_somebody_changed_is_put_right(server: Server) -> None:
    release(server)
    path = server.root / "etc/nginx/bedstone/upstreams/shop-web.conf"
    path.write_text("upstream shop-web { server 127.0.0.1:9 down; }")
    assert release(server, if_changed=True).changed
    assert server.upstreams()["shop-web"] == BLUE["web"]


def test_unit_that_does_not_start_fails_without_a_new_release(server: Server) -> None:
    release(server)
    server.active.clear()
    server.broken = {"worker@1"}
    outcome = release(server, if_changed=True)
    assert outcome.failed_step == "settle"
    server.broken = set()
    declare(server, source="cure")
    assert release(server, if_changed=True).ok


def test_killed_release_is_cleared_away(server: Server) -> None:
    first = release(server)
    declare(server, source="two")

    class KilledError(BaseException):
        pass

    # As kill -9 does it: no step is undone.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "bedstone.release.transaction._undo", lambda *_: (_ for _ in ()).throw(KilledError())
        )
        server.broken = {"front door"}
        with pytest.raises(KilledError):
            release(server)
    server.broken = set()
    assert set(server.serves().values()) != {first.release}
    declare(server, source="one")
    settled = release(server, if_changed=True)
    assert settled.release == first.release
    assert "killed" in settled.warnings[0]
    assert set(server.serves().values()) == {first.release}
    assert server.upstreams()["shop-web"] == BLUE["web"]
    assert server.static() == first.release
    assert server.enabled == UNITS
    with database.opened() as connection:
        assert releases.entries(connection, "shop")[0].failed_step == "verify"


def test_drain_that_fails_leaves_no_old_slot(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    release(server)
    declare(server, source="two")

    failed: list[bool] = []

    def fail_once(*_: object) -> bool:
        if not failed:
            failed.append(True)
            raise BedstoneError("nginx doesn't answer")
        return True

    with monkeypatch.context() as patch:
        patch.setattr("bedstone.system.nginx.Nginx.wait_until_drained", fail_once)
        outcome = release(server)
    assert outcome.ok
    assert outcome.warnings == ["drain: nginx doesn't answer"]
    assert "web@blue runs although it doesn't serve" in outcome.put_right
    assert set(server.serves()) == {"web@green", "api@green", "worker@1", "worker@2"}
    assert server.enabled == server.active


def test_container_to_look_into_an_image_has_a_name_to_be_found_by(server: Server) -> None:
    release(server)
    made = [call for call in server.calls if call[:2] == ["docker", "create"]]
    assert made
    for call in made:
        assert call[2:6] == ["--name", "bedstone-shop-look", "--label", "bedstone.app=shop"]
    assert server.removed_containers.count("bedstone-shop-look") > len(made)


def test_files_of_a_killed_release_go(server: Server) -> None:
    release(server)
    declare(server, source="two")

    def killed() -> None:
        raise KilledError

    class KilledError(BaseException):
        pass

    server.during["static"] = killed
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "bedstone.release.transaction._undo", lambda *_: (_ for _ in ()).throw(KilledError())
        )
        with pytest.raises(KilledError):
            release(server)
    static, runtime = server.root / "srv/bedstone/shop/static", server.root / "run/bedstone"
    # As a kill leaves it: the file is removed as soon as its command has ended.
    (runtime / "environment-bedstone-shop-static.x1y2").write_text("SECRET=tell-nobody")
    (runtime / "environment-bedstone-wiki-static.x1y2").write_text("somebody else's")
    assert list(static.glob(".*"))
    operations.put_right("shop", host=server.host())
    assert list(static.glob(".*")) == []
    assert [path.name for path in runtime.glob("environment-*")] == [
        "environment-bedstone-wiki-static.x1y2"
    ]


def test_signal_undoes_the_release(server: Server) -> None:
    first = release(server)
    declare(server, source="two")
    server.during["migrate"] = lambda: os.kill(os.getpid(), signal.SIGTERM)
    outcome = release(server)
    assert outcome.failed_step == "migrate"
    assert "SIGTERM" in str(outcome.error)
    assert set(server.serves().values()) == {first.release}
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_two_at_once_never_run(server: Server) -> None:
    with (
        lock.held("shop", "bedstone release shop"),
        pytest.raises(lock.LockedError, match=r"`bedstone release shop` \(process \d+"),
    ):
        release(server)
    assert server.calls == []


def test_removed_services_are_stopped(server: Server) -> None:
    release(server)
    app = copy.deepcopy(APP)
    del app["services"]["api"]
    app["services"]["worker"]["replicas"] = 1
    declare(server, app=app)
    release(server)
    assert set(server.serves()) == {"web@green", "worker@1"}
    assert server.enabled == {"bedstone-shop-web@green.service", "bedstone-shop-worker@1.service"}


def test_ten_releases_are_kept(server: Server) -> None:
    for number in range(12):
        declare(server, source=str(number))
        assert release(server).ok
    tags = [name for name in server.images if name.startswith("bedstone/shop:")]
    assert len(tags) == 10
    assert len(list((server.root / "var/lib/bedstone/apps/shop/releases").iterdir())) == 10
    assert len(list((server.root / "srv/bedstone/shop/static").iterdir())) == 11


def test_pulled_images_go_with_the_releases_that_had_them(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(releases, "KEPT_RELEASES", 2)
    name = "registry.example.com/shop"
    # Not ours: of the same repository, but never released.
    server.images[f"{name}:by-hand"] = "sha256:" + "b" * 64
    for number in range(1, 5):
        reference = f"{name}:{number}"
        server.registry[reference] = f"sha256:{number:064d}"
        declare(server, app=APP | {"image": {"kind": "pull", "reference": reference}})
        assert release(server).ok
    left = sorted(n for n in server.images if n.startswith(name))
    assert left == [f"{name}:3", f"{name}:4", f"{name}:by-hand"]


def test_image_that_another_app_has_stays(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(releases, "KEPT_RELEASES", 1)
    name = "registry.example.com/shop"
    server.registry = {f"{name}:1": f"sha256:{1:064d}", f"{name}:2": f"sha256:{2:064d}"}
    with database.opened() as connection:
        new = releases.NewRelease("1", "f")
        other, operation = releases.begin(connection, "wiki", new)
        releases.set_image(connection, "wiki", other, server.registry[f"{name}:1"])
        releases.commit(connection, "wiki", other, "blue", operation)
    for number in (1, 2):
        image = {"kind": "pull", "reference": f"{name}:{number}"}
        declare(server, app=APP | {"image": image})
        assert release(server).ok
    assert f"{name}:1" in server.images


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("shop", "shop"),
        ("localhost:5000/team/shop", "localhost:5000/team/shop"),
        ("localhost:5000/team/shop:2.1", "localhost:5000/team/shop"),
        ("shop:2.1@sha256:" + "1" * 64, "shop"),
    ],
)
def test_repository_of_a_reference(reference: str, said: str) -> None:
    assert steps_image.repository(reference) == said


def test_secrets_stay_out_of_arguments_and_open_files(server: Server) -> None:
    outcome = release(server)
    assert not [call for call in server.calls if "tell-nobody" in " ".join(call)]
    assert "tell-nobody" not in json.dumps(outcome.as_json())
    kept = server.root / f"var/lib/bedstone/apps/shop/releases/{outcome.release}"
    for path in kept.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path
    assert [entry["mode"] for entry in server.environments] == ["0o100600"] * 3
    assert list((server.root / "run/bedstone").glob("environment-*")) == []


@pytest.mark.parametrize("value", ["two\nlines", "from Windows\r", "long" * 20_000])
def test_value_that_dockers_file_can_not_hold_goes_by_the_environment(
    server: Server, value: str
) -> None:
    app = config.parse(APP)
    made = slots.Made("sha256:1", 1, 1)
    wanted = containers.for_command(
        app, "r1", made, {"ODD": value, "PLAIN": "x"}, ("true",), kind="run-1"
    )
    with docker._environment_file(wanted) as (arguments, variables):
        assert arguments[2:] == ["--env", "ODD"]
        assert variables == {"ODD": value}
        assert Path(arguments[1]).read_text() == "PLAIN=x\n"
    assert not list((server.root / "run/bedstone").glob("environment-*"))


def test_migrations_get_their_own_environment(server: Server) -> None:
    release(server)
    by_name = {entry[""]: entry["file"] for entry in server.environments}
    assert "ROLE=migrate" in by_name["migrate"]
    assert "ROLE=migrate" not in by_name["check"]
    assert "CERTIFICATE" not in by_name["check"], "a value with a line break goes another way"


def test_release_ids_sort_by_time(server: Server) -> None:
    ids = [release(server).release for _ in range(3)]
    assert ids == sorted(ids, key=str)
    assert len(set(ids)) == 3


def test_worker_only_app_needs_no_nginx(server: Server) -> None:
    app = copy.deepcopy(APP)
    app["services"] = {"worker": APP["services"]["worker"]}
    app["domains"] = []
    app["static"] = app["media"] = None
    declare(server, app=app)
    outcome = release(server)
    assert outcome.ok
    assert "switch" not in [step.name for step in outcome.steps]
    assert server.reloads == []
    assert release(server).ok


def test_static_files_of_the_build_are_kept_and_may_be_missing(server: Server) -> None:
    first = release(server)
    static = server.root / f"srv/bedstone/shop/static/{first.release}"
    assert sorted(path.name for path in static.iterdir()) == ["copied.css", "site.css"]
    server.in_image = []
    declare(server, source="two")
    second = release(server)
    assert second.ok
    own = server.root / f"var/lib/bedstone/apps/shop/releases/{second.release}/static.txt"
    assert own.read_text() == "site.css\n"


def test_image_and_static_files_are_on_the_disk_before_they_are_used(server: Server) -> None:
    (server.root / "var/lib/docker").mkdir(parents=True)
    outcome = release(server)
    assert server.synced == {
        "docker": [],
        f".{outcome.release}.partial": ["copied.css", "site.css"],
    }
    order = [call[:2] for call in server.calls]
    assert order.index(["docker", "build"]) < order.index(["sync", "--file-system"])
    assert order.index(["sync", "--file-system"]) < order.index(["docker", "tag"])
    release(server)
    assert sum(call[0] == "sync" for call in server.calls) == 3, "the image is the same"


def test_disk_that_takes_nothing_fails_the_release(server: Server) -> None:
    first = release(server).release
    declare(server, source="two")
    server.broken = {"disk"}
    assert release(server).failed_step == "static"
    assert set(server.serves().values()) == {first}


def test_unknown_app_is_refused_with_the_known_ones(server: Server) -> None:
    with pytest.raises(ConfigError, match=r"No app is called 'ship'.*Declared: shop"):
        operations.release("ship", host=server.host())


def test_missing_source_says_what_to_do(server: Server) -> None:
    (server.root / "var/lib/bedstone/apps/shop/source.tar.gz").unlink()
    with pytest.raises(ConfigError, match=r"source\.tar\.gz can't be read") as caught:
        release(server)
    assert "site.yml" in str(caught.value.hint)


def test_source_without_dockerfile_is_told(server: Server) -> None:
    app = copy.deepcopy(APP)
    app["image"]["dockerfile"] = "docker/Dockerfile"
    declare(server, app=app)
    outcome = release(server)
    assert outcome.error == "The source of shop has no docker/Dockerfile."


def test_nginx_that_is_not_set_up_is_told(server: Server) -> None:
    (server.root / "etc/nginx/bedstone/upstreams").rmdir()
    outcome = release(server)
    assert outcome.failed_step == "switch"
    assert "nginx hasn't been set up" in str(outcome.error)


@pytest.mark.parametrize(("url", "mode"), [("/media/", 0o755), (None, 0o700)])
def test_uploads_are_readable_only_if_they_are_served(
    server: Server, root: Path, url: str | None, mode: int
) -> None:
    declare(server, app=APP | {"media": {"path": "/app/media", "url": url}})
    release(server)
    assert (root / "srv/bedstone/shop/media").stat().st_mode & 0o777 == mode


def _with_data(server: Server) -> None:
    path = server.root / "etc/bedstone/backup.json"
    path.write_text(
        json.dumps(
            {
                "schema": 1,
                "directory": "/backups",
                "keep_days": 30,
                "keep_at_least": 2,
                "reserve_mb": 0,
                "jobs": 1,
                "socket": "/nowhere",
                "port": 5432,
                "databases": [{"app": "shop", "name": "shop", "owner": "shop_owner"}],
                "media": [],
            }
        )
    )


def test_first_release_begins_the_first_backup_and_waits_for_none(server: Server) -> None:
    _with_data(server)
    outcome = operations.release("shop", host=server.host())
    assert outcome.ok
    (command,) = [call for call in server.calls if call[0] == "systemd-run"]
    assert "--no-block" in command
    assert "--unit=bedstone-first-backup-shop.service" in command
    assert (
        "--property=OnFailure=bedstone-failed@bedstone-first-backup-shop.service.service" in command
    )
    place = command.index("--")
    assert command[place + 1 :] == [
        "/usr/local/bin/bedstone", "backup", "shop", "--label", "first"
    ]  # fmt: skip
    assert "backup" in [step.name for step in outcome.steps]


def test_first_backup_that_cannot_begin_is_told_and_fails_no_release(server: Server) -> None:
    _with_data(server)
    server.broken.add("systemd-run")
    outcome = operations.release("shop", host=server.host())
    assert outcome.ok
    assert [warning for warning in outcome.warnings if warning.startswith("backup: ")]


def test_app_without_data_here_has_no_first_backup(server: Server) -> None:
    outcome = operations.release("shop", host=server.host())
    assert "backup" not in [step.name for step in outcome.steps]


def test_rebuild_releases_the_same_source_again_but_not_what_was_rolled_back(
    server: Server,
) -> None:
    def rebuild() -> Outcome:
        assert would_change("shop", server.host(), rebuild=True).changed is expected
        options = ReleaseOptions(rebuild=True)
        return operations.release("shop", if_changed=True, options=options, host=server.host())

    release(server)
    expected = True
    outcome = rebuild()
    assert (outcome.changed, outcome.reason) == (True, REBUILT)
    assert operations.rollback("shop", host=server.host()).ok
    expected = False
    assert not rebuild().changed
