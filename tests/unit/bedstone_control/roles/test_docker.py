from __future__ import annotations

from typing import Any

import pytest

from bedstone_control.roles.docker import docker_daemon


def daemon(settings: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "bridge_address": "172.17.0.1/16",
        "address_pools": [{"base": "172.20.0.0/14", "size": 24}],
        "log_max_mb": 10,
        "log_files": 5,
        "build_cache_gb": 5,
        **changes,
    }
    return docker_daemon(settings or {}, **arguments)


def test_arguments_become_settings() -> None:
    assert daemon() == {
        "bip": "172.17.0.1/16",
        "builder": {"gc": {"enabled": True, "defaultKeepStorage": "5GB"}},
        "default-address-pools": [{"base": "172.20.0.0/14", "size": 24}],
        "features": {"buildkit": True},
        "live-restore": True,
        "log-driver": "local",
        "log-opts": {"max-file": "5", "max-size": "10m"},
        "no-new-privileges": True,
    }


def test_own_settings_are_added_replaced_and_taken_away() -> None:
    result = daemon({"debug": True, "live-restore": False, "default-address-pools": None})
    assert result["debug"] is True
    assert result["live-restore"] is False
    assert "default-address-pools" not in result


def test_dicts_are_merged() -> None:
    result = daemon({"log-opts": {"max-size": "50m"}})
    assert result["log-opts"] == {"max-file": "5", "max-size": "50m"}


def test_another_log_driver_gets_none_of_our_options() -> None:
    result = daemon({"log-driver": "journald", "log-opts": {"tag": "x"}})
    assert result["log-opts"] == {"tag": "x"}
    assert "log-opts" not in daemon({"log-driver": "journald"})


def test_mirrors_are_named_only_when_there_are_some() -> None:
    assert "registry-mirrors" not in daemon()
    mirrors = ["https://mirror.example"]
    assert daemon(registry_mirrors=mirrors)["registry-mirrors"] == mirrors


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bridge_address": "172.17.0.300/16"}, "docker_bridge_address"),
        ({"bridge_address": "172.17.0.1"}, "not the address of one host"),
        ({"bridge_address": "172.17.0.0/16"}, "not the address of one host"),
        ({"address_pools": [{"base": "nonsense", "size": 24}]}, "docker_address_pools"),
        ({"address_pools": [{"base": "10.1.2.0/24", "size": 20}]}, "can't be cut"),
        ({"address_pools": [{"base": "172.16.0.0/12", "size": 24}]}, "overlaps"),
    ],
)
def test_addresses_docker_would_stumble_over_are_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        daemon(**changes)


def test_hosts_is_refused_because_docker_would_not_start() -> None:
    with pytest.raises(ValueError, match="would not start"):
        daemon({"hosts": ["tcp://0.0.0.0:2375"]})
