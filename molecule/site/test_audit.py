"""audit.yml and drift.yml, run as an operator runs them, on the converged server."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testinfra.host import Host

ROOT = Path(__file__).resolve().parents[2]
INVENTORY = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "production"
UNITS = ["nginx.service"]


def playbook(name: str, *options: str) -> tuple[int, str]:
    """Run a playbook with the scenario's inventory; return its exit code and all it printed."""
    done = subprocess.run(
        [
            *("ansible-playbook", f"playbooks/{name}.yml", "--inventory", INVENTORY),
            *("--vault-password-file", INVENTORY / ".vault-password", *options),
        ],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


@contextmanager
def served_by_hand(host: Host, port: int) -> Iterator[None]:
    """A program that an operator started, and a hole in the firewall for it."""
    unit = f"molecule-served-{port}"
    host.check_output(f"systemd-run --unit {unit} python3 -m http.server {port}")
    host.check_output(f"nft insert rule inet bedstone input tcp dport {port} accept")
    try:
        yield
    finally:
        host.check_output(f"systemctl stop {unit}")
        host.check_output("systemctl reload-or-restart bedstone-firewall")


def test_audit_passes_on_the_converged_server() -> None:
    code, said = playbook("audit")
    assert code == 0, said
    assert "checks passed." in said
    assert "FAIL" not in said


def test_audit_names_the_port_that_was_opened_by_hand_and_nothing_else(
    host: Host, tmp_path: Path
) -> None:
    result = tmp_path / "audit.json"
    with served_by_hand(host, 8080):
        code, said = playbook("audit", "-e", "ports=8000-8100", "-e", f"json={result}")
    assert code == 2, said
    content = json.loads(result.read_text())
    failed = [(row["check"], row["found"]) for row in content["checks"] if not row["ok"]]
    assert failed == [("other ports", "open: 8080")]
    assert content["ok"] is False


def test_converged_server_has_no_drift() -> None:
    code, said = playbook("drift")
    assert code == 0, said
    assert "No drift." in said


BY_HAND = "made-by-hand-4711"
FILES = {
    "/etc/nginx/bedstone/headers.conf": "# by hand",
    "/etc/bedstone/apps/guestbook/app.env": f"SECRET={BY_HAND}",
}
SUDOERS, TIMER = "/etc/sudoers.d/50-bedstone-alice", "bedstone-backup.timer"


@contextmanager
def changed_by_hand(host: Host) -> Iterator[None]:
    """Two files with a further line, one for all to read, and a timer that was stopped."""
    for path, line in FILES.items():
        host.check_output(f"cp --preserve {path} /root/molecule-kept && echo '{line}' >> {path}")
        host.check_output(f"mv /root/molecule-kept /root/molecule{path.replace('/', '-')}")
    host.check_output(f"chmod 0644 {SUDOERS} && systemctl stop {TIMER}")
    try:
        yield
    finally:
        for path in FILES:
            host.check_output(f"mv /root/molecule{path.replace('/', '-')} {path}")
        host.check_output(f"chmod 0440 {SUDOERS} && systemctl start {TIMER}")


def test_drift_is_named_with_its_diff_without_a_secret_and_without_a_change(
    host: Host, tmp_path: Path
) -> None:
    result = tmp_path / "drift.json"
    named = "sed -nE 's/^[A-Z_]*(PASSWORD|SECRET|KEY)=//p' /etc/bedstone/apps/*/*.env"
    secrets = host.check_output(named)
    assert len(secrets.split()) > 4
    with changed_by_hand(host):
        begun = host.check_output("date +@%s.%N")
        code, said = playbook(
            *("drift", "-vvv", "--tags", "base,nginx,backup,app", "-e", f"json={result}")
        )
        # Not the testbed's images, which other checkouts link and unlink.
        places = "/etc /opt /srv /usr/local -path /opt/testbed -prune -o"
        assert host.check_output(f"find {places} -newerct {begun} -print") == ""
        assert not host.service(TIMER).is_running
    assert code == 2, said
    content = json.loads(result.read_text())
    found = {each["what"]: each["diff"] for each in content["findings"]}
    assert content["failures"] == []
    assert found.keys() == {*FILES, SUDOERS, TIMER, "app guestbook"}
    assert "-# by hand" in found["/etc/nginx/bedstone/headers.conf"]
    assert found[SUDOERS][-2:] == ["-root:root 0644", "+root:root 0440"]
    for secret in [BY_HAND, *secrets.split()]:
        assert secret not in said + result.read_text()


def test_failed_comparison_has_another_exit_code_than_drift() -> None:
    # No server is asked: the settings are refused first.
    code, said = playbook("drift", "-e", '{"bedstone_timezone": "Nowhere"}')
    assert code == 4, said
    assert "The comparison failed" in said
    assert "'Nowhere' is no time zone" in said
