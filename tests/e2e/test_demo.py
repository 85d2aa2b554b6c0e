"""The README's first command, end to end."""

from __future__ import annotations

import json
import re
import subprocess

from tests.browser import log_in
from tests.e2e.conftest import Demo, make


def on_server(demo: Demo, command: str) -> str:
    """Run a command on the demo's server, in the way that the demo's last words say."""
    return subprocess.run(
        ["python3", "-m", "testbed", "ssh", "demo", command],
        cwd=demo.checkout,
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def test_printed_url_answers_over_verified_tls(demo: Demo) -> None:
    page = demo.browser().get("/")
    assert page.status == 200
    assert "Sign in" in page.text


def test_payment_is_created_approved_and_paid(demo: Demo) -> None:
    rosa, arthur = demo.browser(), demo.browser()
    log_in(rosa, "rosa", demo.logins["rosa"])
    log_in(arthur, "arthur", demo.logins["arthur"])
    page = rosa.submit(
        "/requests/new/", payee="Demo Ltd", purpose="To see", amount="99.95", currency="EUR"
    )
    path = page.url.removeprefix(rosa.origin)
    arthur.submit(path, f"{path}approve/", note="")
    assert "Paid by" in arthur.submit(path, f"{path}paid/", note="A-1").text


def test_backup_made_by_the_timers_unit_is_listed(demo: Demo) -> None:
    on_server(demo, "systemctl start bedstone-backup.service")
    listed = json.loads(on_server(demo, "bedstone backups payments --json"))
    # At night the timer has made another one.
    assert {backup["state"] for backup in listed} == {"complete"}


def test_status_shows_the_last_backup_and_what_was_verified(demo: Demo) -> None:
    on_server(demo, "bedstone verify payments")
    shown = on_server(demo, "bedstone status")
    assert re.search(r"backup +backup_\d{8}_\d{6}, .* ago", shown), shown
    assert re.search(r"verified .* ago \(backup_\d{8}_\d{6}\)", shown), shown
    assert "Needs attention" not in shown, shown


def test_timer_that_stood_still_for_a_day_turns_red_and_is_told(demo: Demo) -> None:
    on_server(demo, "systemctl stop bedstone-backup.timer")
    on_server(demo, "apt-get install --yes --quiet --no-install-recommends faketime")
    # A day later, the hourly look finds no newer backup. Programs alone see that time.
    on_server(demo, "faketime -f +28h /usr/local/bin/bedstone destinations --check --tell")
    shown = on_server(demo, "faketime -f +28h /usr/local/bin/bedstone status || true")
    assert re.search(r"the last backup is .* old", shown), shown
    told = on_server(demo, "journalctl --sync; journalctl --identifier bedstone-told --output cat")
    assert "Backups aren't where they should be" in told, told
    on_server(demo, "systemctl start bedstone-backup.timer")


def test_second_run_changes_nothing_and_says_so(demo: Demo) -> None:
    said = make(demo.checkout, "demo")
    assert "nothing had to be changed" in said
    assert re.search(r"\bchanged=0\b", said)
    assert not re.search(r"\bchanged=[1-9]", said)


def test_release_by_hand_and_the_way_back(demo: Demo) -> None:
    first = json.loads(on_server(demo, "bedstone status --json"))["apps"][0]["release"]
    said = on_server(demo, "bedstone release payments")
    assert "it goes on when this terminal is gone" in said
    assert " of payments serves, after " in said
    back = json.loads(on_server(demo, "bedstone rollback payments --json"))
    assert (back["ok"], back["release"]) == (True, first)
    assert demo.browser().get("/").status == 200
    log_in(demo.browser(), "rosa", demo.logins["rosa"])


def test_demo_down_removes_the_server_and_its_secrets(demo: Demo) -> None:
    """Last: there is no demo afterwards."""
    make(demo.checkout, "demo-down")
    left = subprocess.run(
        ["podman", "ps", "-aq", "--filter", f"label=bedstone.testbed.root={demo.checkout}"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert not left
    assert not (demo.checkout / "inventories/demo/.vault-password").exists()
    assert not (demo.checkout / "inventories/demo/group_vars/all/vault.yml").exists()
