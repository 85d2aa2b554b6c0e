"""audit.yml, run as an operator runs them, on the converged server."""

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
