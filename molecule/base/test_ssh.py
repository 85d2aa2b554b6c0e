"""sshd's cryptography, by ssh-audit and by clients; and that no controller is locked out by it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator

import pytest
from again import applied, refused
from testinfra.host import Host

Login = Callable[..., subprocess.CompletedProcess[str]]

UNITS = ["ssh.service"]
FILE = "/etc/ssh/sshd_config.d/11-bedstone.conf"


@pytest.fixture
def algorithms_again(host: Host) -> Iterator[None]:
    """Converge the server after a test that took the algorithms away."""
    yield
    applied(str(host.backend.get_hostname()))


def audit(peer: Host, server_name: str) -> list[str]:
    """Return what ssh-audit fails or warns of."""
    done = peer.run("ssh-audit --json --skip-rate-test %s", server_name)
    found = json.loads(done.stdout)
    assert found["kex"], done.stdout
    return [
        f"{part} {entry['algorithm']}: {note}"
        for part in ("kex", "key", "enc", "mac")
        for entry in found[part]
        for level in ("fail", "warn")
        for note in entry["notes"].get(level, [])
    ]


def test_ssh_audit_warns_of_nothing(peer: Host, server_name: str) -> None:
    assert audit(peer, server_name) == []


@pytest.mark.usefixtures("algorithms_again")
def test_debian_offers_what_ssh_audit_warns_of(host: Host, peer: Host, server_name: str) -> None:
    applied(server_name, base_ssh_algorithms="debian")
    assert host.file(FILE).exists
    assert any("nistp256" in warning for warning in audit(peer, server_name))


@pytest.mark.parametrize(
    ("options", "refused_for"),
    [
        (["KexAlgorithms=ecdh-sha2-nistp256"], "key exchange method"),
        (["MACs=hmac-sha1,umac-64@openssh.com", "Ciphers=aes128-ctr"], "MAC"),
        (["HostKeyAlgorithms=ecdsa-sha2-nistp256"], "host key type"),
    ],
)
def test_old_algorithms_are_refused(
    host: Host,
    login: Login,
    wait_until: Callable[..., None],
    options: list[str],
    refused_for: str,
) -> None:
    journal = "journalctl --unit=ssh --output=cat --cursor-file=/run/molecule-ssh-cursor"
    host.check_output(f"journalctl --sync; {journal} --quiet > /dev/null")
    assert login("olivia", options=tuple(options)).returncode != 0
    said: list[str] = []

    def is_refused() -> bool:
        # sshd's line may come after the client has gone.
        said.append(host.check_output(f"journalctl --sync; {journal} --quiet"))
        return f"no matching {refused_for} found" in "".join(said)

    wait_until(is_refused, what=f"sshd refuses it for its {refused_for}")


@pytest.mark.parametrize(
    "option", ["KexAlgorithms=curve25519-sha256", "HostKeyAlgorithms=rsa-sha2-512"]
)
def test_clients_of_the_last_ten_years_still_come_in(login: Login, option: str) -> None:
    assert login("olivia", options=(option,)).returncode == 0


@pytest.mark.usefixtures("algorithms_again")
def test_controller_that_can_not_use_them_is_locked_out_for_a_minute_only(
    host: Host, login: Login, server_name: str, wait_until: Callable[..., None]
) -> None:
    applied(server_name, base_ssh_algorithms="debian")
    previous = host.file(FILE).content_string
    old = "-o ControlPath=none -o KexAlgorithms=ecdh-sha2-nistp256"
    # Its later tasks need new logins, too: it has no way to mend what it did. The timer is as if
    # that had been an earlier run's.
    host.check_output("/usr/local/lib/bedstone/ssh-trial try 600")
    said = refused(server_name, ansible_ssh_extra_args=old)
    assert "goes back to the previous ones" in said
    assert "base_ssh_algorithms" in said
    options = ("KexAlgorithms=ecdh-sha2-nistp256",)
    assert login("olivia", options=options).returncode != 0
    wait_until(
        lambda: login("olivia", options=options).returncode == 0,
        seconds=180,
        what="the server has its previous algorithms",
    )
    assert host.file(FILE).content_string == previous


def test_trial_that_an_earlier_run_left_is_ended_by_a_login(host: Host, server_name: str) -> None:
    host.check_output("/usr/local/lib/bedstone/ssh-trial try 600")
    applied(server_name)
    assert host.run("systemctl is-active bedstone-ssh-back.timer").rc != 0
    assert not host.file("/run/bedstone-ssh-previous.conf").exists
    assert "trial of sshd's algorithms is over" in (
        host.run("/usr/local/lib/bedstone/ssh-trial keep").stderr
    )


def test_new_algorithms_stay_once_the_controller_has_logged_in(host: Host) -> None:
    assert host.file(FILE).exists
    assert host.run("systemctl is-active bedstone-ssh-back.timer").rc != 0


def test_guesses_cost_an_address_time_and_trusted_networks_nothing(
    server_name: str, peer: Host
) -> None:
    applied(server_name, base_ssh_trusted_networks=["192.0.2.0/24"])
    key = "/root/.ssh/id_ed25519"
    peer.check_output(f"test -e {key} || ssh-keygen -q -t ed25519 -N '' -f {key}")
    # Testinfra takes 255 for the end of its own connection.
    guess = "ssh -o BatchMode=yes -o StrictHostKeyChecking=no -o ConnectTimeout=5 root@%s || true"
    said = [peer.run(guess, server_name).stderr for _ in range(12)]
    assert "Permission denied" in said[0]
    assert "Permission denied" not in said[-1]
    address = peer.check_output("hostname -I").split()[0]
    applied(server_name, base_ssh_trusted_networks=[f"{address}/32"])
    # A penalty that runs counts for an address in the list no more.
    assert "Permission denied" in peer.run(guess, server_name).stderr
    applied(server_name)
