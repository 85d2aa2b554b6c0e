"""Which accounts can log in, and that the operator is never locked out during the change."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from again import applied, refused
from testinfra.host import Host

Login = Callable[..., subprocess.CompletedProcess[str]]

UNITS = ["ssh.service"]
SETTINGS = "/etc/ssh/sshd_config.d/10-bedstone.conf"
ONLY_PASSWORD = (
    "PreferredAuthentications=password,keyboard-interactive",
    "PubkeyAuthentication=no",
)
AS_OLIVIA = {"ansible_user": "olivia", "ansible_ssh_extra_args": "-o ControlPath=none"}


@pytest.fixture
def open_server(host: Host, converged_again: None) -> None:  # noqa: ARG001
    """Give sshd the settings it came with."""
    host.check_output(f"rm -f {SETTINGS} && systemctl reload ssh")


@pytest.fixture(scope="module")
def converged_again(host: Host) -> Iterator[None]:
    """Converge the server when all tests that leave it open have ended."""
    yield
    host.run("userdel --force --remove mallory; rm /etc/sudoers.d/50-bedstone-mallory")
    applied(str(host.backend.get_hostname()))


def offered(login: Login) -> str:
    """Return the methods that sshd names when it refuses a login."""
    return login("root", options=ONLY_PASSWORD).stderr


def test_operator_logs_in_and_is_root_by_sudo(login: Login) -> None:
    assert login("olivia", "id -un; sudo -n id -un").stdout.split() == ["olivia", "root"]


def test_operator_reads_the_logs_without_sudo(login: Login) -> None:
    assert "sshd" in login("olivia", "journalctl --lines=200 --unit=ssh").stdout


def test_operator_has_no_password(host: Host) -> None:
    assert host.check_output("passwd --status olivia").split()[1] == "L"


def test_keys_are_the_operators_alone(host: Host) -> None:
    file = host.file("/home/olivia/.ssh/authorized_keys")
    assert (file.user, file.group, file.mode) == ("olivia", "olivia", 0o600)


def test_passwords_are_not_asked_for(login: Login) -> None:
    assert "Permission denied (publickey)" in offered(login)


def test_root_still_comes_in_by_key_because_the_inventory_does(login: Login) -> None:
    assert login("root").returncode == 0


def test_root_is_closed_once_the_inventory_connects_as_the_operator(
    login: Login, server_name: str
) -> None:
    applied(server_name, **AS_OLIVIA)
    assert "Permission denied" in login("root").stderr
    assert login("olivia", "sudo -n true").returncode == 0
    assert "changed=0 " in applied(server_name, **AS_OLIVIA)
    applied(server_name, base_ssh_root_login="prohibit-password", **AS_OLIVIA)
    assert login("root").returncode == 0


def test_strangers_are_refused(login: Login, strange_key: Path) -> None:
    assert "Permission denied" in login("olivia", key=strange_key).stderr


def test_key_taken_from_the_list_can_not_log_in_any_more(
    login: Login, server_name: str, strange_key: Path, host: Host
) -> None:
    ours = host.check_output("grep ssh-ed25519 /home/olivia/.ssh/authorized_keys")
    public = strange_key.with_suffix(".pub").read_text()
    applied(server_name, base_operator_authorized_keys=[ours, public])
    assert login("olivia", key=strange_key).returncode == 0
    applied(server_name)
    assert "Permission denied" in login("olivia", key=strange_key).stderr
    assert login("olivia").returncode == 0


def test_keys_that_do_not_let_the_controller_in_are_taken_back(
    host: Host, login: Login, server_name: str, strange_key: Path
) -> None:
    path = "/home/olivia/.ssh/authorized_keys"
    before = host.file(path).content_string
    public = strange_key.with_suffix(".pub").read_text()
    said = refused(server_name, base_operator_authorized_keys=[public])
    assert "can't log in" in said
    assert host.file(path).content_string == before
    assert login("olivia", "sudo -n true").returncode == 0
    assert "Permission denied" in login("olivia", key=strange_key).stderr


def test_operator_that_nobody_could_use_is_refused_first(host: Host, server_name: str) -> None:
    said = refused(server_name, base_operator_name="nobodys", base_operator_authorized_keys=[])
    assert "nobody could log in as nobodys" in said
    assert not host.user("nobodys").exists


def test_run_without_changes_makes_no_further_login(host: Host, server_name: str) -> None:
    # The last test's logins may be on their way into the journal.
    count = (
        "journalctl --sync; "
        "journalctl --unit=ssh --output=cat | grep --count 'Accepted publickey for olivia'"
    )
    before = host.check_output(count)
    assert "changed=0 " in applied(server_name)
    assert host.check_output(count) == before


def test_check_mode_neither_logs_in_nor_closes_anything(
    host: Host, server_name: str, strange_key: Path
) -> None:
    path = "/home/olivia/.ssh/authorized_keys"
    before = host.file(path).content_string
    public = strange_key.with_suffix(".pub").read_text()
    said = applied(server_name, "--check", base_operator_authorized_keys=[public])
    assert "changed=1 " in said
    assert host.file(path).content_string == before


# The tests below leave sshd open; the module's end converges the server again.


@pytest.mark.usefixtures("open_server")
def test_nothing_is_closed_when_the_operator_can_not_log_in(
    host: Host, login: Login, server_name: str, strange_key: Path
) -> None:
    said = refused(
        server_name,
        base_operator_name="mallory",
        base_operator_authorized_keys=[strange_key.with_suffix(".pub").read_text()],
        base_ssh_root_login="no",
    )
    assert "can't log in" in said
    assert "Permission denied" in said
    assert "mallory" in said
    assert not host.file(SETTINGS).exists
    assert not host.file("/home/mallory/.ssh/authorized_keys").exists
    assert "password" in offered(login)
    assert login("root").returncode == 0
    assert login("olivia", "sudo -n true").returncode == 0


@pytest.mark.usefixtures("open_server")
def test_nothing_is_closed_when_the_operator_can_not_become_root(
    host: Host, login: Login, server_name: str
) -> None:
    host.check_output("echo 'olivia ALL=(ALL) ALL' > /etc/sudoers.d/90-later-and-stricter")
    try:
        said = refused(server_name)
    finally:
        host.check_output("rm /etc/sudoers.d/90-later-and-stricter")
    assert "become root" in said
    assert "password is required" in said
    assert not host.file(SETTINGS).exists
    assert "password" in offered(login)


@pytest.mark.usefixtures("open_server")
def test_setting_that_would_have_no_effect_is_refused(
    host: Host, login: Login, server_name: str
) -> None:
    earlier = "/etc/ssh/sshd_config.d/00-somebodys.conf"
    host.check_output(f"echo 'PasswordAuthentication yes' > {earlier}")
    try:
        said = refused(server_name)
    finally:
        host.check_output(f"rm {earlier}")
    assert "passwordauthentication would be yes, not no" in said
    assert not host.file(SETTINGS).exists
    assert login("root").returncode == 0
