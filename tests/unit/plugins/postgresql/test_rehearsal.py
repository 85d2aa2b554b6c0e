"""What the rehearsal looks at besides PostgreSQL's own start."""

from __future__ import annotations

from pathlib import Path

import pytest
from bedstone_postgresql_instance import Instance
from bedstone_postgresql_rehearsal import absent_addresses, overrides, rehearse
from bedstone_postgresql_tls import ServerError


def test_address_of_this_host_may_be_listened_on() -> None:
    assert absent_addresses("localhost, 127.0.0.1") == []
    assert absent_addresses("*") == []


def test_address_of_another_host_is_told() -> None:
    (problem,) = absent_addresses("127.0.0.1, 203.0.113.9")
    assert "this server has no address 203.0.113.9" in problem


def test_name_that_stands_for_nothing_is_told() -> None:
    assert absent_addresses("no-such-name.invalid") != []


def test_rehearsal_keeps_apart_from_the_real_server() -> None:
    settings = overrides(Path("/base"))
    assert settings["listen_addresses"] == ""
    assert settings["archive_mode"] == "off"
    for name in ("data_directory", "hba_file", "external_pid_file", "unix_socket_directories"):
        assert settings[name].startswith("/base/"), name


def test_cluster_that_is_not_there_is_not_rehearsed() -> None:
    assert rehearse(Instance("99", "main")) == []


@pytest.mark.parametrize("text", ["17", "main", "17/main", "-main", "17-"])
def test_name_of_no_cluster_is_refused(text: str) -> None:
    with pytest.raises(ServerError, match="names no cluster"):
        Instance.parse(text)


def test_instance_may_have_dashes_in_its_name() -> None:
    instance = Instance.parse("17-a-b")
    assert (instance.version, instance.cluster) == ("17", "a-b")
    assert instance.configuration == Path("/etc/postgresql/17/a-b")
