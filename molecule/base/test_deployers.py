"""An account for CI: it runs three commands of named apps as root, and nothing else."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator

import pytest
from again import applied
from testinfra.host import Host

Login = Callable[..., subprocess.CompletedProcess[str]]

PROGRAM = "/usr/local/bin/bedstone"
# In place of the host program, which role base doesn't install: says how it was called.
STAND_IN = """\
#!/usr/bin/python3 -I
import json, os, sys
print(json.dumps({"arguments": sys.argv[1:], "user": os.getuid(), "names": sorted(os.environ)}))
"""
RELEASE = "20261120_101500-v1.4.2"


@pytest.fixture(scope="module", autouse=True)
def program(host: Host) -> Iterator[None]:
    host.check_output(f"test ! -e {PROGRAM}")
    host.check_output(f"printf %s '{STAND_IN}' > {PROGRAM} && chmod 0755 {PROGRAM}")
    yield
    host.check_output(f"rm {PROGRAM}")


@pytest.mark.parametrize(
    "arguments",
    [
        "release payments",
        "release pay-roll --if-changed --json",
        "release payments --dry-run --verbose",
        "rollback payments",
        f"rollback payments {RELEASE} --json",
        "rollback payments 20261120 --verbose",
        "status payments",
        "status pay-roll --json",
    ],
)
def test_command_of_a_named_app_runs_as_root(login: Login, arguments: str) -> None:
    run = login("deploy", f"BEDSTONE_ROOT=/tmp PYTHONPATH=/tmp sudo -n bedstone {arguments}")
    assert run.returncode == 0, run.stderr
    called = json.loads(run.stdout)
    assert called["arguments"] == arguments.split()
    assert called["user"] == 0
    assert not {"BEDSTONE_ROOT", "PYTHONPATH"} & set(called["names"])


REFUSED = [
    # another app, or none
    "bedstone release shop",
    "bedstone release payments-2",
    "bedstone release payment",
    "bedstone release payments shop",
    "bedstone release",
    "bedstone rollback shop",
    "bedstone status shop",
    "bedstone status",
    "bedstone status --json",
    # another command
    "bedstone",
    "bedstone --help",
    "bedstone restore payments",
    "bedstone backup payments",
    "bedstone retire payments --yes",
    "bedstone exec payments web -- sh",
    "bedstone run payments -- sh",
    "bedstone console payments",
    "bedstone maintenance payments on",
    "bedstone restart payments",
    "bedstone releases payments",
    "bedstone operation payments",
    # an option that weakens a check, or anything behind the allowed
    "bedstone release payments --accept payments.0007_drop_note",
    "bedstone release --accept payments.0007_drop_note payments",
    "bedstone release payments --accept=payments.0007_drop_note",
    "bedstone release payments --json=x",
    "bedstone release payments --jso",
    "bedstone release payments --json --foreground",
    "bedstone release payments --rebuild",
    "bedstone release payments -- sh",
    "bedstone release payments '--json --accept x'",
    "bedstone release 'payments|x'",
    "bedstone release $'payments\\n--foreground'",
    "bedstone release $'payments --json\\nx'",
    "bedstone release payments ''",
    "bedstone release 'payments '",
    "bedstone 'release  payments'",
    "bedstone rollback payments --keep-schema",
    "bedstone rollback payments --old-secrets",
    f"bedstone rollback payments {RELEASE} --keep-schema",
    "bedstone rollback payments ../../shop",
    "bedstone rollback payments 1/../../shop",
    f"bedstone rollback payments {RELEASE} {RELEASE}",
    "bedstone status payments --json --json",
    # another program, account or environment
    "bash",
    "sh -c id",
    "-i",
    "-s",
    "su",
    "-u olivia id",
    "-u olivia bedstone status payments",
    "-g adm bedstone status payments",
    "-D /tmp bedstone status payments",
    "-R /tmp bedstone status payments",
    "BEDSTONE_ROOT=/tmp bedstone status payments",
    "--preserve-env=BEDSTONE_ROOT bedstone status payments",
    "-E bedstone status payments",
    "-e /etc/passwd",
    "/usr/bin/python3 /usr/local/bin/bedstone status payments",
    "./bedstone status payments",
    "/usr/bin/env bedstone status payments",
    "systemctl restart nginx",
]
# What sudo says when it refuses; anything else would be the program, or a mistake of this test.
REFUSALS = ("password is required", "not allowed", "not permitted")


def test_everything_else_is_refused(login: Login) -> None:
    # In one login; each command's end is marked, since some of what is refused would be a shell.
    tries = [f"sudo -n {command} 2>&1 < /dev/null; echo '<end>'" for command in REFUSED]
    prepared = "cd $(mktemp -d); ln -s /bin/true bedstone; export BEDSTONE_ROOT=/tmp"
    run = login("deploy", "\n".join([prepared, *tries]))
    answers = run.stdout.split("<end>\n")[:-1]
    assert len(answers) == len(REFUSED), run.stdout + run.stderr
    ran = {
        command: answer
        for command, answer in zip(REFUSED, answers, strict=True)
        if not any(each in answer for each in REFUSALS) or "arguments" in answer
    }
    assert ran == {}


def test_words_that_sudo_joins_reach_the_program_as_they_were_given(login: Login) -> None:
    # sudo compares the arguments with blanks between them. Split differently they are no command
    # and no app: the program refuses them.
    run = login("deploy", "sudo -n bedstone 'release payments'")
    assert json.loads(run.stdout)["arguments"] == ["release payments"]


def test_program_of_that_name_elsewhere_is_not_run(login: Login) -> None:
    evil = "cd $(mktemp -d); printf '#!/bin/sh\\nid' > bedstone; chmod +x bedstone"
    run = login("deploy", f"{evil}; PATH=$PWD:$PATH sudo -n bedstone status payments")
    assert json.loads(run.stdout)["arguments"] == ["status", "payments"]


def test_key_forwards_nothing_and_has_no_terminal(login: Login) -> None:
    run = login("deploy", options=("PermitLocalCommand=no", "StdinNull=yes"))
    assert run.returncode == 0, run.stderr
    assert "PTY allocation request failed" in login("deploy", options=("RequestTTY=force",)).stderr


def test_account_is_in_no_group_and_has_no_password(host: Host, login: Login) -> None:
    assert login("deploy", "id -Gn").stdout.split() == ["deploy"]
    assert host.check_output("passwd --status deploy").split()[1] == "L"


@pytest.mark.parametrize(
    "command",
    [
        f"echo >> {PROGRAM}",
        "cat /etc/sudoers.d/55-bedstone-deploy",
        "echo >> ~/.ssh/authorized_keys",
        "mv ~/.ssh ~/other",
        "mv ~ /home/other",
    ],
)
def test_account_can_change_none_of_what_limits_it(login: Login, command: str) -> None:
    run = login("deploy", command)
    assert run.returncode != 0
    assert "Permission denied" in run.stderr


def test_deployer_that_is_no_longer_declared_loses_keys_and_sudo(host: Host, login: Login) -> None:
    server, before = str(host.backend.get_hostname()), host.check_output("cat /home/deploy/.ssh/*")
    try:
        applied(server, base_deployers=[])
        assert login("deploy").returncode == 255
        assert not host.file("/etc/sudoers.d/55-bedstone-deploy").exists
    finally:
        applied(server)
    assert host.check_output("cat /home/deploy/.ssh/*") == before
    assert login("deploy", "sudo -n bedstone status payments").returncode == 0
