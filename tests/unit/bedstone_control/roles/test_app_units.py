"""The units that role app lays out, and what it says of a release."""

from __future__ import annotations

import configparser
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jinja2
import pytest

from bedstone_control.roles import app as app_layout
from bedstone_control.roles import sandbox
from plugins.modules import release
from tests.unit.fixtures.checkout import ROOT

TEMPLATES = ROOT / "roles" / "app" / "templates"
UNITS = "/etc/systemd/system"
JOBS = {
    "cleanup": {"command": ["clean"], "schedule": "*-*-* 03:00:00", "timeout_seconds": 60},
    "import": {"command": ["import"], "schedule": None, "timeout_seconds": 7200},
}
SHOP: dict[str, Any] = {
    "name": "shop",
    "config": {"image": {"kind": "pull"}, "services": {"web": {"port": 80}}, "jobs": JOBS},
}

WEB_UNIT = "bedstone-shop-web@.service"


def rendered(entry: dict[str, Any]) -> str:
    """Return the text of a laid out unit."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["systemd_sandbox"] = sandbox.systemd_sandbox
    environment.filters["systemd_kernel_sandbox"] = sandbox.systemd_kernel_sandbox
    return environment.get_template(entry["template"]).render(**entry.get("variables", {}))


def unit(entry: dict[str, Any]) -> configparser.ConfigParser:
    """Return a laid out unit as systemd would read it; a key that comes twice is an error."""
    text = rendered(entry)
    parsed = configparser.ConfigParser(interpolation=None, comment_prefixes="#")
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read_string(text)
    return parsed


def units_of(*apps: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        file["path"].removeprefix(f"{UNITS}/"): file
        for file in app_layout.files(list(apps))
        if file["path"].startswith(UNITS)
    }


def limited(**values: Any) -> dict[str, Any]:
    """Return the app with a limit of restarts on its service."""
    services = {"web": {"port": 80, **values}}
    return {**SHOP, "config": {**SHOP["config"], "services": services}}


def test_service_is_started_again_for_ever() -> None:
    parsed = unit(units_of(SHOP)[WEB_UNIT])
    assert parsed["Service"]["Restart"] == "always"
    assert parsed["Unit"]["StartLimitIntervalSec"] == "0"
    assert "OnFailure" not in parsed["Unit"], "systemd would tell the hooks of each crash"


def test_service_with_a_limit_of_restarts_stays_stopped_beyond_it() -> None:
    parsed = unit(units_of(limited(restarts={"most": 5, "within_seconds": 300}))[WEB_UNIT])
    assert parsed["Unit"]["StartLimitBurst"] == "5"
    assert parsed["Unit"]["StartLimitIntervalSec"] == "300"
    assert parsed["Unit"]["OnFailure"] == "bedstone-failed@%n.service"
    assert parsed["Service"]["Restart"] == "always"


def test_limit_of_restarts_is_reached_by_starts_that_never_get_healthy() -> None:
    app = limited(restarts={"most": 10, "within_seconds": None}, health_timeout_seconds=200)
    parsed = unit(units_of(app)[WEB_UNIT])
    assert int(parsed["Unit"]["StartLimitIntervalSec"]) > 10 * (200 + 30)


def test_job_has_a_unit_and_with_a_schedule_a_timer() -> None:
    units = units_of(SHOP)
    assert "bedstone-shop-job-cleanup.service" in units
    assert "bedstone-shop-job-import.service" in units
    assert [name for name in units if name.endswith(".timer")] == [
        "bedstone-shop-job-cleanup.timer"
    ]


def test_job_runs_in_the_foreground_with_time_beyond_its_own() -> None:
    parsed = unit(units_of(SHOP)["bedstone-shop-job-import.service"])
    service = parsed["Service"]
    assert service["Type"] == "oneshot"
    assert service["ExecStart"] == "/usr/local/bin/bedstone job shop import --foreground"
    assert int(service["TimeoutStartSec"]) > 7200
    assert parsed["Unit"]["OnFailure"] == "bedstone-failed@%n.service"
    assert "Install" not in parsed, "the timer starts it, not the boot"


def test_timer_makes_up_for_missed_times() -> None:
    parsed = unit(units_of(SHOP)["bedstone-shop-job-cleanup.timer"])
    assert parsed["Timer"]["OnCalendar"] == "*-*-* 03:00:00"
    assert parsed["Timer"]["Persistent"] == "true"
    assert parsed["Install"]["WantedBy"] == "timers.target"


def test_timers_run_and_restart_when_their_time_changes() -> None:
    wanted = {entry["name"]: entry for entry in app_layout.units([SHOP])}
    assert wanted["bedstone-shop-job-cleanup.timer"] == {
        "name": "bedstone-shop-job-cleanup.timer",
        "enabled": True,
        "state": "started",
        "restart_on": [f"{UNITS}/bedstone-shop-job-cleanup.timer"],
    }
    assert "bedstone-shop-job-import.timer" not in wanted


def test_systemd_judges_each_time_once() -> None:
    assert app_layout.validators([SHOP, {**SHOP, "name": "wiki"}]) == [
        {"command": ["systemd-analyze", "calendar", "--", "*-*-* 03:00:00"]}
    ]
    assert app_layout.validators([{**SHOP, "config": {"image": {}, "services": {}}}]) == []


def test_operation_is_put_right_whatever_ended_it_and_stops_before_what_it_needs() -> None:
    parsed = unit(units_of(SHOP)["bedstone-operation@.service"])
    service = parsed["Service"]
    assert service["Type"] == "exec"
    assert service["ExecStart"] == "/usr/local/bin/bedstone operation %i"
    assert service["ExecStopPost"] == "/usr/local/bin/bedstone settle %i"
    assert (service["KillMode"], service["Restart"]) == ("mixed", "no")
    for other in ("docker.service", "nginx.service", "postgresql.service"):
        assert other in parsed["Unit"]["After"].split()
    assert "Install" not in parsed


def test_operation_that_is_called_off_has_the_time_that_the_slowest_service_needs() -> None:
    slow = {"web": {"port": 80}, "worker": {"stop_seconds": 900, "health_timeout_seconds": 120}}
    wiki = {**SHOP, "name": "wiki", "config": {**SHOP["config"], "services": slow}}
    parsed = unit(units_of(SHOP, wiki)["bedstone-operation@.service"])
    # The previous worker has to end, the new one, too, and to get healthy again.
    assert int(parsed["Service"]["TimeoutStopSec"]) > 2 * 900 + 120
    parsed = unit(units_of()["bedstone-operation@.service"])
    assert int(parsed["Service"]["TimeoutStopSec"]) >= 180


def test_boot_settles_and_can_not_be_held_up_by_it_for_ever() -> None:
    parsed = unit(units_of(SHOP)["bedstone-settle.service"])
    assert parsed["Service"]["ExecStart"] == "/usr/local/bin/bedstone settle"
    assert parsed["Service"]["TimeoutStartSec"] == "15min"
    assert parsed["Install"]["WantedBy"] == "multi-user.target"
    assert app_layout.units([])[1] == {"name": "bedstone-settle.service", "enabled": True}


def test_server_without_apps_has_the_common_units_alone() -> None:
    assert sorted(units_of()) == sorted(app_layout.COMMON_UNITS)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("app", [SHOP, limited(restarts={"most": 10})], ids=["plain", "limited"])
def test_systemd_has_nothing_to_say_against_the_units(tmp_path: Path, app: dict[str, Any]) -> None:
    for name, entry in units_of(app).items():
        text = rendered(entry)
        # Its program isn't on this machine.
        (tmp_path / name).write_text(text.replace("/usr/local/bin/bedstone", "/bin/true"))
    names = [str(tmp_path / name.replace("@.", "@x.")) for name in units_of(SHOP)]
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *names],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
    )
    said = [line for line in checked.stderr.splitlines() if "bedstone-" in line]
    assert [line for line in said if "not-found" not in line and "not found" not in line] == []


def test_units_of_every_kept_release_are_named(tmp_path: Path) -> None:
    for app, name, text in (
        ("shop", "1", '{"services": {"web": {}, "worker": {}}}'),
        ("shop", "2", '{"services": {"web": {}}}'),
        ("wiki", "1", '{"services": {"web": {}}}'),
        ("wiki", "2", "{"),
    ):
        directory = tmp_path / app / "releases" / name
        directory.mkdir(parents=True)
        (directory / "app.json").write_text(text)
    assert release.service_units(str(tmp_path)) == [
        f"{UNITS}/bedstone-shop-web@.service",
        f"{UNITS}/bedstone-shop-worker@.service",
        f"{UNITS}/bedstone-wiki-web@.service",
    ]


def test_failure_is_told_with_all_that_helps() -> None:
    text = release.explain(
        {
            "app": "shop",
            "failed_step": "migrate",
            "error": "It failed.",
            "details": "line 1\nline 2",
            "hint": "Look at it.",
            "restore_point": "backup_1",
            "previous": "5",
        }
    )
    assert text.splitlines() == [
        "shop: the release failed at `migrate`: It failed.",
        "  | line 1",
        "  | line 2",
        "  hint: Look at it.",
        "  The data of before is in the restore point backup_1.",
        "  Release 5 serves on.",
    ]


class _Answers:
    """Stands for Ansible's module; answers what the program would print."""

    check_mode = False

    def __init__(self, **params: Any) -> None:
        self.params = {
            "program": "/bin/true",
            "pending_paths": [],
            "accept": [],
            "retire": [],
            "rebuild": False,
            **params,
        }
        self.warnings: list[str] = []
        self.calls: list[list[str]] = []
        self.limits: list[dict[str, Any]] = []

    def run_command(self, command: list[str], **options: Any) -> tuple[int, str, str]:
        self.calls.append(command)
        self.limits.append(options)
        answer: dict[str, Any] = {"ok": True, "app": command[2]}
        if command[1] == "retire":
            answer = {"undeclared": ["guestbook"], "retired": []}
        if "guestbook" in command:
            answer = {"undeclared": [], "retired": ["guestbook"]}
        return 0, json.dumps(answer), ""

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def exit_json(self, **result: Any) -> None:
        raise SystemExit(json.dumps(result))


def run_module(monkeypatch: pytest.MonkeyPatch, **params: Any) -> _Answers:
    module = _Answers(**params)
    monkeypatch.setattr(release, "AnsibleModule", lambda **_: module)
    with pytest.raises(SystemExit):
        release.main()
    return module


def test_what_is_accepted_goes_to_each_release(monkeypatch: pytest.MonkeyPatch) -> None:
    accept = ["payments.0007_drop_note", "drop-column"]
    module = run_module(monkeypatch, apps=["shop", "wiki"], accept=accept)
    options = ["--accept", accept[0], "--accept", accept[1]]
    assert module.calls[1:] == [
        ["/bin/true", "release", app, "--if-changed", "--json", *options]
        for app in ("shop", "wiki")
    ]


def test_only_what_is_named_is_retired(monkeypatch: pytest.MonkeyPatch) -> None:
    module = run_module(monkeypatch, apps=[], retire=["guestbook", "of-another-server"])
    assert module.calls == [
        ["/bin/true", "retire", "--json"],
        ["/bin/true", "retire", "--json", "guestbook"],
    ]
    assert module.warnings == []
    module = run_module(monkeypatch, apps=[])
    assert module.calls == [["/bin/true", "retire", "--json"]]
    assert "`-e retire=guestbook` stops it" in module.warnings[0]


def test_rebuild_goes_to_each_release(monkeypatch: pytest.MonkeyPatch) -> None:
    module = run_module(monkeypatch, apps=["shop"], rebuild=True)
    assert module.calls[1:] == [
        ["/bin/true", "release", "shop", "--if-changed", "--json", "--rebuild"]
    ]


def test_module_waits_for_a_release_as_long_as_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    module = run_module(monkeypatch, apps=["shop"])
    assert all(set(options) == {"environ_update"} for options in module.limits)


@pytest.mark.parametrize(
    ("given", "listed"),
    [([], []), ("", []), ("a", ["a"]), ("a, b,", ["a", "b"]), (["a", "b"], ["a", "b"])],
)
def test_lists_may_be_written_with_commas(given: Any, listed: list[str]) -> None:
    assert app_layout.listed(given) == listed
