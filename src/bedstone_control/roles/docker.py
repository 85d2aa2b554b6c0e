"""Role docker: daemon.json from the role's arguments and the operator's own settings."""

from __future__ import annotations

from ipaddress import ip_interface, ip_network
from typing import TYPE_CHECKING, Any

from bedstone_control.roles.groups import APP
from bedstone_control.roles.role import Role, Stage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bedstone_control.roles.site import Site

# These take max-size and max-file; another driver refuses to start a container with them.
DRIVERS_WITH_LIMITS = ("local", "json-file")


def docker_daemon(
    settings: Mapping[str, Any],
    *,
    bridge_address: str,
    address_pools: Sequence[Mapping[str, Any]],
    log_max_mb: int,
    log_files: int,
    build_cache_gb: int,
    registry_mirrors: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the content of daemon.json.

    Args:
        settings: the operator's own; a dict is merged into ours, anything else replaces it, and
            null takes a setting of ours away.
        bridge_address: address and prefix length of docker0, `172.17.0.1/16`.
        address_pools: where the networks of the apps come from: `base`, a network, and `size`,
            the prefix length of each.
        log_max_mb: size of one log file of a container, in MB.
        log_files: how many of them a container keeps.
        build_cache_gb: how much build cache the daemon keeps, in GB.
        registry_mirrors: URLs asked before Docker Hub.

    Raises:
        ValueError: an address, a pool or a setting that the daemon would stumble over
            only when it starts.

    """
    _check_bridge(bridge_address)
    _check_pools(address_pools, bridge_address)
    if "hosts" in settings:
        raise ValueError(
            "docker_daemon_settings has `hosts`, which Debian's unit gives on the command line "
            "already: Docker would not start. Reach the daemon over ssh instead: "
            "`docker -H ssh://operator@server ps`."
        )
    config: dict[str, Any] = {
        "bip": bridge_address,
        "builder": {"gc": {"enabled": True, "defaultKeepStorage": f"{build_cache_gb}GB"}},
        "default-address-pools": [
            {"base": str(pool["base"]), "size": int(pool["size"])} for pool in address_pools
        ],
        "features": {"buildkit": True},
        "live-restore": True,
        "log-driver": "local",
        "log-opts": {"max-file": str(log_files), "max-size": f"{log_max_mb}m"},
        "no-new-privileges": True,
    }
    if registry_mirrors:
        config["registry-mirrors"] = list(registry_mirrors)
    if settings.get("log-driver", "local") not in DRIVERS_WITH_LIMITS:
        del config["log-opts"]
    return _merged(config, settings)


def _merged(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(ours)
    for key, value in theirs.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = _merged(result[key], value)
        else:
            result[key] = value
    return result


def _check_bridge(address: str) -> None:
    try:
        interface = ip_interface(address)
    except ValueError as error:
        raise ValueError(f"docker_bridge_address: {error}. Example: 172.17.0.1/16.") from None
    if "/" not in address or interface.ip == interface.network.network_address:
        raise ValueError(
            f"docker_bridge_address is {address!r}, which is not the address of one host with the "
            "length of its network. Example: 172.17.0.1/16."
        )


def _check_pools(pools: Sequence[Mapping[str, Any]], bridge_address: str) -> None:
    bridge = ip_interface(bridge_address).network
    for pool in pools:
        try:
            network = ip_network(str(pool["base"]))
        except ValueError as error:
            raise ValueError(
                f"docker_address_pools: {error}. Example: {{base: 172.20.0.0/14, size: 24}}."
            ) from None
        if not network.prefixlen <= int(pool["size"]) <= network.max_prefixlen:
            raise ValueError(
                f"docker_address_pools: {network} can't be cut into networks of /{pool['size']}."
            )
        if network.version == bridge.version and network.overlaps(bridge):
            raise ValueError(
                f"docker_address_pools has {network}, which overlaps docker_bridge_address "
                f"({bridge_address}): Docker would hand out addresses twice."
            )


def bridge_address(site: Site) -> str:
    """Return the address of this host on its own Docker bridge."""
    return str(ip_interface(site.variables["docker_bridge_address"]).ip)


def networks(site: Site) -> list[str]:
    """Return the networks of this host's containers."""
    bridge = ip_interface(site.variables["docker_bridge_address"]).network
    return [str(bridge), *(str(pool["base"]) for pool in site.variables["docker_address_pools"])]


ROLE = Role(
    name="docker",
    group=APP,
    stage=Stage.MACHINE,
    variables={
        "docker_bridge_address": "172.17.0.1/16",
        "docker_address_pools": [{"base": "172.20.0.0/14", "size": 24}],
    },
    filters=(docker_daemon,),
)
