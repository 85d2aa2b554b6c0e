"""Pinned host keys: ssh's arguments, and which keys are refused."""

from __future__ import annotations

from typing import Any

import pytest

from bedstone_control.checks import host_keys as checks
from bedstone_control.checks import server
from bedstone_control.checks.context import Context
from bedstone_control.inventory import host_keys
from tests.unit.fixtures.destinations import HOST_KEY

OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPfpIppFLYRnn2CJrSMpseyBg6L+od2BYnIzeZFbVzHk"


def problems(**variables: Any) -> list[Any]:
    """Return what is wrong with a host that has these variables."""
    return list(checks.check(Context({}, host_variables={"web1": variables})))


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"host_keys": HOST_KEY}, "a list of at least one"),
        ({"host_keys": []}, "a list of at least one"),
        ({"host_keys": ["ssh-ed25519 AAAA"]}, "damaged"),
        ({"host_keys": [HOST_KEY, 5]}, "5 is no public ssh key"),
        ({"host_keys": ["SHA256:mEt0pTWLegy"]}, "no public ssh key"),
        ({"host_key": HOST_KEY}, "Did you mean `host_keys`?"),
        ({"host_keys": [HOST_KEY], "ansible_ssh_args": "-C"}, "ansible_ssh_common_args"),
        ({"host_keys": [HOST_KEY], "ansible_connection": "paramiko"}, "checked by ssh"),
    ],
)
def test_wrong_key_is_told_with_its_host_file_and_a_right_one(
    variables: dict[str, Any], words: str
) -> None:
    (problem,) = problems(**variables)
    assert words in problem.message
    assert "web1" in problem.where
    assert problem.file.endswith("hosts.yml")
    assert "web1:" in problem.example


@pytest.mark.parametrize("line", [HOST_KEY, f"192.0.2.1 {HOST_KEY}", f"{HOST_KEY} root@web1"])
def test_keys_are_taken_as_they_are_found(line: str) -> None:
    assert problems(host_keys=[line]) == []
    assert host_keys.ssh_arguments([line]) == host_keys.ssh_arguments([HOST_KEY])


def test_each_set_of_keys_has_connections_of_its_own() -> None:
    assert host_keys.fingerprint([HOST_KEY]) != host_keys.fingerprint([OTHER_KEY])
    assert host_keys.fingerprint([HOST_KEY, OTHER_KEY]) == host_keys.fingerprint(
        [OTHER_KEY, HOST_KEY]
    )


def test_machine_with_another_key_is_told_with_its_fingerprint() -> None:
    said = "The fingerprint is\nSHA256:mEt0pTWLegy++I\nHost key verification failed."
    assert server.has_other_key(said)
    problem = server.other_key("web1", "192.0.2.1", said)
    assert "192.0.2.1 has none of the `host_keys` of web1" in problem.message
    assert "SHA256:mEt0pTWLegy++I" in problem.message
