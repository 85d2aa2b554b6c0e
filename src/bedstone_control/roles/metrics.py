"""Role metrics: the exporters of each server, and the one port that gives them to Prometheus."""

from __future__ import annotations

import ipaddress
import json
import re
from typing import TYPE_CHECKING, Any

from bedstone_control import names
from bedstone_control.roles import rabbitmq, redis
from bedstone_control.roles.groups import (
    APP,
    EVERY_HOST,
    MONITORING,
    POSTGRESQL,
    POSTGRESQL_REPLICA,
    PROXY,
    RABBITMQ,
    REDIS,
)
from bedstone_control.roles.role import FurtherPort, Role, Stage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from bedstone_control.roles.site import Site

PORT = 9443
# Each exporter listens on localhost alone; Prometheus' own conventions give the ports.
PORTS = {"node": 9100, "nginx": 3903, "postgresql": 9187, "redis": 9121, "rabbitmq": 15692}
PROXY_UNIT = "bedstone-metrics-proxy.service"
_UNITS = {
    "node": "bedstone-exporter-node.service",
    "mtail": "bedstone-exporter-mtail.service",
    "postgresql": "bedstone-exporter-postgresql.service",
    "redis": "bedstone-exporter-redis.service",
}
LIVE = "bedstone-live-metrics"
DIRECTORY = "/etc/bedstone/metrics"
LOCAL = "127.0.0.1"
_PACKAGES = {
    "node": "prometheus-node-exporter",
    "nginx": "mtail",
    "postgresql": "prometheus-postgres-exporter",
    "redis": "prometheus-redis-exporter",
}
# mtail counts PostgreSQL's refused logins, too: its log has them.
_BY_MTAIL = ("nginx", "postgresql")
_GROUPS = {
    "nginx": (PROXY,),
    "postgresql": (POSTGRESQL, POSTGRESQL_REPLICA),
    "redis": (REDIS,),
    "rabbitmq": (RABBITMQ,),
}
# A queue's name is a pattern in Redis' rights, and a label.
_QUEUE = re.compile(r"[A-Za-z0-9_.:@-]{1,128}")


def exporters(site: Site, host: str | None = None) -> list[str]:
    """Return the exporters of a host, none where the settings ask for no metrics.

    Args:
        site: the input of all functions.
        host: the host; this one without it.

    """
    settings = site.settings
    if settings.metrics is None:
        return []
    used = {
        "redis": any(app.redis for app in settings.apps),
        "rabbitmq": any(app.rabbitmq for app in settings.apps),
    }
    return [
        "node",
        *(
            name
            for name, groups in _GROUPS.items()
            if used.get(name, True)
            and any((host or site.host) in site.groups.get(group.name, []) for group in groups)
        ),
    ]


def listen_address(site: Site, host: str | None = None) -> str | None:
    """Return where a host gives out its metrics; None where no Prometheus asks for them.

    It is localhost where the only host of the group `monitoring` is this one.
    """
    asking = site.groups.get(MONITORING.name, [])
    if not asking or not exporters(site, host):
        return None
    own = host or site.host
    return site.addresses[own] if any(one != own for one in asking) else LOCAL


def targets(site: Site, host: str) -> list[dict[str, Any]]:
    """Return what Prometheus scrapes of a host.

    Args:
        site: the input of all functions.
        host: any host of the inventory.

    Returns:
        for each target `job`, `address` (with the port), `path`, `params` and `labels`; none
        where there are no metrics. The connection is TLS with a certificate of our authority whose
        common name is `names.METRICS_CLIENT`; the host's own names its address.

    """
    address = listen_address(site, host)
    if address is None:
        return []
    port = site.port("metrics_port")
    common = {"address": f"[{address}]:{port}" if ":" in address else f"{address}:{port}"}
    found = []
    for exporter in exporters(site, host):
        params = {"module": exporter}
        target = {"job": exporter, **common, "path": "/proxy", "params": params, "labels": {}}
        if exporter != "redis":
            found.append(target)
            continue
        for instance in redis_instances(site):
            address = instance_address(instance["port"], tls=redis.has_tls(site))
            labels = {"app": instance["app"], "redis": instance["kind"]}
            found.append({**target, "params": {**params, "target": address}, "labels": labels})
    return found


def redis_instances(site: Site) -> list[dict[str, Any]]:
    """Return the instances of Redis that the exporter asks."""
    if site.settings.metrics is None:
        return []
    return [
        {
            "name": f"{app.name}-{kind}",
            "app": app.name,
            "kind": kind,
            "port": redis.port(app.name, kind, settings.port),
        }
        for app in site.settings.apps
        for kind, settings in redis.kinds(app).items()
    ]


def instance_address(port: int, *, tls: bool) -> str:
    """Return the URL under which the exporter knows an instance."""
    # Its certificate names localhost, no address.
    return f"rediss://localhost:{port}" if tls else f"redis://{LOCAL}:{port}"


def queues(site: Site) -> list[dict[str, str]]:
    """Return the queues whose length this host measures."""
    wanted = exporters(site)
    found: list[dict[str, str]] = []
    for app in site.settings.apps:
        if "redis" in wanted and app.redis and app.redis.store:
            instance = f"{app.name}-store"
            found += [
                {"app": app.name, "queue": queue, "redis": instance}
                for queue in app.redis.store.queues
            ]
        if "rabbitmq" in wanted and app.rabbitmq:
            found += [
                {"app": app.name, "queue": queue, "vhost": rabbitmq.vhost(app)}
                for queue in app.rabbitmq.queues
            ]
    return found


def buckets(site: Site) -> list[float]:
    """Return the upper limits of the histogram of requests, in seconds."""
    return list(site.settings.metrics.buckets) if site.settings.metrics else []


def further_ports(site: Site) -> Iterator[FurtherPort]:
    """Yield the port of the metrics, where another host asks for them."""
    if listen_address(site) is None:
        return
    asking = [
        ipaddress.ip_address(site.addresses[host])
        for host in site.groups.get(MONITORING.name, [])
        if host != site.host
    ]
    networks = sorted(f"{address}/{address.max_prefixlen}" for address in asking)
    yield FurtherPort("Metrics, over TLS", site.port("metrics_port"), networks)


def certificates(site: Site) -> list[dict[str, Any]]:
    """Return the certificate of the metrics' port."""
    address = listen_address(site)
    if address is None:
        return []
    answers_to = [site.host, address, LOCAL, "localhost"]
    return [
        {
            "name": "metrics",
            "common_name": site.host,
            "names": list(dict.fromkeys(answers_to)),
            "usage": "server",
            "reload": [PROXY_UNIT],
        }
    ]


def metrics_packages(given: Sequence[str], listen: str | None) -> list[str]:
    """Return the Debian packages of exporters.

    Args:
        given: the role's `metrics_exporters`.
        listen: the role's `metrics_listen_address`.

    """
    found = {_PACKAGES[name] for name in given if name in _PACKAGES}
    if set(given) & set(_BY_MTAIL):
        found.add("mtail")
    if given and listen:
        found.add("prometheus-exporter-exporter")
    return sorted(found)


def metrics_files(
    given: Sequence[str],
    listen: str | None,
    instances: Iterable[Mapping[str, Any]],
    password: str | None,
    *,
    tls: bool,
    live: Iterable[dict[str, Any]] = (),
) -> list[dict[str, Any]]:
    """Return the files of exporters, in the form of converge's `files`.

    Args:
        given: the role's `metrics_exporters`.
        listen: the role's `metrics_listen_address`.
        instances: the role's `metrics_redis_instances`.
        password: the role's `metrics_redis_password`.
        tls: the role's `metrics_redis_tls`.
        live: the files of what is measured each minute, which follow. (Of a sum of two lists in a
            template Ansible hides why one of them failed.)

    Raises:
        ValueError: an exporter that there is none of, or Redis without a password.

    """
    unknown = sorted(set(given) - set(PORTS))
    if unknown:
        raise ValueError(
            f"metrics_exporters has {', '.join(unknown)}, which is none: use {', '.join(PORTS)}."
        )
    units = [name for name in _PACKAGES if name in given and name != "nginx"]
    files: list[dict[str, Any]] = [_unit(name) for name in units]
    if set(given) & set(_BY_MTAIL):
        files.append(_unit("mtail"))
    files += [
        {"path": f"{DIRECTORY}/mtail/{name}.mtail", "template": f"{name}.mtail.j2"}
        for name in _BY_MTAIL
        if name in given
    ]
    if "redis" in given:
        if not password or len(password) < 16:  # noqa: PLR2004
            raise ValueError(
                "metrics_redis_password is missing or too short: 16 characters or more. "
                "`python -m bedstone_control secrets INVENTORY` makes it."
            )
        by_address = {
            _with_user(instance_address(int(one["port"]), tls=tls)): password for one in instances
        }
        files.append(
            {
                "path": f"{DIRECTORY}/redis.json",
                "content": json.dumps(by_address, indent=1, sort_keys=True) + "\n",
                "group": names.METRICS_SYSTEM_USER,
                "mode": "0640",
                "sensitive": True,
            }
        )
        files.append(
            {
                "path": f"{DIRECTORY}/redis.password",
                "content": f"{password}\n",
                "mode": "0600",
                "sensitive": True,
            }
        )
    if given and listen:
        files += [
            {
                "path": f"{DIRECTORY}/proxy.yml",
                "template": "proxy.yml.j2",
                "variables": {"modules": {name: PORTS[name] for name in given}},
            },
            {
                "path": f"/etc/systemd/system/{PROXY_UNIT}",
                "template": "exporter.service.j2",
                "variables": {"exporter": "proxy", "client": names.METRICS_CLIENT},
            },
        ]
    return [*files, *live]


def metrics_live_files(
    queues: Iterable[Mapping[str, Any]], *, containers: bool
) -> list[dict[str, Any]]:
    """Return the files of what is measured each minute, in the form of converge's `files`.

    Args:
        queues: the role's `metrics_queues`.
        containers: the role's `metrics_containers`.

    Raises:
        ValueError: a name can't be that of a queue.

    """
    found = [dict(queue) for queue in queues]
    for queue in found:
        if not _QUEUE.fullmatch(queue["queue"]):
            raise ValueError(
                f"metrics_queues: {queue['queue']!r} can't be a queue's name here: letters, digits "
                "and the characters _ . : @ -. Example: celery."
            )
        if bool(queue.get("redis")) == bool(queue.get("vhost")):
            raise ValueError(
                f"metrics_queues: {queue['queue']} of {queue['app']} needs one of redis and vhost."
            )
    if not found and not containers:
        return []
    content = {
        "schema": 1,
        "containers": containers,
        "queues": [_queue(queue) for queue in found],
    }
    return [
        {
            "path": f"{DIRECTORY}/live.json",
            "content": json.dumps(content, indent=1, sort_keys=True) + "\n",
        },
        *(
            {"path": f"/etc/systemd/system/{LIVE}.{kind}", "template": f"live.{kind}.j2"}
            for kind in ("service", "timer")
        ),
    ]


def metrics_units(given: Sequence[str], listen: str | None, live: Iterable[Any]) -> list[Any]:
    """Return the units of exporters, in the form of converge's `units`.

    Args:
        given: the role's `metrics_exporters`.
        listen: the role's `metrics_listen_address`.
        live: the files of what is measured each minute.

    """
    # Debian's own listen on all addresses, and start with their packages.
    found: list[dict[str, Any]] = [
        {"name": f"{package}.service", "masked": True, "state": "stopped"}
        for package in metrics_packages(given, listen)
    ]
    running = [name for name in _PACKAGES if name in given and name != "nginx"]
    further = {"redis": [f"{DIRECTORY}/redis.json"]}
    if set(given) & set(_BY_MTAIL):
        running.append("mtail")
        further["mtail"] = [f"{DIRECTORY}/mtail/*"]
    units = [(unit(name), further.get(name, [])) for name in running]
    if given and listen:
        units.append((PROXY_UNIT, [f"{DIRECTORY}/proxy.yml"]))
    if list(live):
        units.append((f"{LIVE}.timer", []))
    found += [
        {
            "name": name,
            "enabled": True,
            "state": "started",
            "restart_on": [f"/etc/systemd/system/{name}", *paths],
        }
        for name, paths in units
    ]
    return found


def unit(exporter: str) -> str:
    """Return the unit of an exporter."""
    return _UNITS[exporter]


def _unit(exporter: str) -> dict[str, Any]:
    path = f"/etc/systemd/system/{unit(exporter)}"
    return {
        "path": path,
        "template": "exporter.service.j2",
        "variables": {"exporter": exporter, "ports": PORTS, "role": names.METRICS_ROLE},
    }


def _with_user(address: str) -> str:
    return address.replace("://", f"://{names.METRICS_REDIS_USER}@")


def _queue(queue: Mapping[str, Any]) -> dict[str, Any]:
    found = {"app": queue["app"], "queue": queue["queue"]}
    if queue.get("vhost"):
        return {**found, "vhost": queue["vhost"], "port": PORTS["rabbitmq"]}
    return {
        **found,
        "socket": f"/run/redis-{queue['redis']}/redis.sock",
        "user": names.METRICS_REDIS_USER,
        "password_file": f"{DIRECTORY}/redis.password",
    }


ROLE = Role(
    name="metrics",
    group=EVERY_HOST,
    stage=Stage.FRONT,
    arguments={
        "metrics_exporters": exporters,
        "metrics_listen_address": listen_address,
        "metrics_containers": lambda site: bool(exporters(site)) and site.has(APP.name),
        "metrics_queues": queues,
        "metrics_buckets": buckets,
        "metrics_redis_instances": redis_instances,
        "metrics_redis_tls": redis.has_tls,
        "metrics_redis_password": lambda site: site.secrets.get(redis.METRICS_SECRET),
        "metrics_postgresql_port": lambda site: site.port("postgresql_port"),
    },
    variables={"metrics_port": PORT},
    further_ports=further_ports,
    certificates=certificates,
    targets=targets,
    filters=(metrics_files, metrics_live_files, metrics_packages, metrics_units),
)
