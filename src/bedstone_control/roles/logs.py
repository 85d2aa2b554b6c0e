"""Role logs: the journal and nginx's log of requests, sent to a collector on another host."""

from __future__ import annotations

import json
import re
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from bedstone.core import names as host_names
from bedstone_control.roles.groups import EVERY_HOST, PROXY
from bedstone_control.roles.role import Role, Stage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bedstone_control.roles.site import Site

UNIT = "bedstone-logs.service"
DIRECTORY = "/etc/bedstone/logs"
CONFIGURATION = f"{DIRECTORY}/rsyslog.conf"
SERVICES = f"{DIRECTORY}/services.json"
SYSTEM_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
# Of a name in a certificate, too: rsyslog reads `*` and `|` there as patterns.
HOST = re.compile(r"[A-Za-z0-9:]([A-Za-z0-9.:_-]{0,251}[A-Za-z0-9])?")
_LARGEST_PORT = 65535
_JOURNAL = ("all", "apps")


def collector(site: Site) -> dict[str, Any] | None:
    """Return the collector with its files on the controller; None without the setting."""
    if site.settings.logs is None:
        return None
    given = site.settings.logs.to
    client = given.client
    return {
        "host": given.host,
        "port": given.port,
        "name": given.name,
        "tls": given.tls,
        "ca": given.ca and site.path(given.ca),
        "certificate": client and site.path(client.certificate),
        "key": client and site.path(client.key),
    }


def journal(site: Site) -> str:
    """Return which lines of the journal are sent."""
    return site.settings.logs.journal if site.settings.logs else "all"


def requests(site: Site) -> bool:
    """Return whether the host's log of requests is sent: where nginx is."""
    return bool(site.settings.logs and site.settings.logs.requests and site.has(PROXY.name))


def apps(site: Site) -> list[dict[str, Any]]:
    """Return the apps with their services and jobs, which name their units."""
    if site.settings.logs is None:
        return []
    return [
        {"name": app.name, "services": sorted(app.services), "jobs": sorted(app.jobs)}
        for app in site.settings.apps
    ]


def is_loopback(host: str) -> bool:
    """Return whether a host is the server itself, by its address or as `localhost`."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_address(host: str) -> bool:
    """Return whether a host is named by its IP address."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def logs_collector(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the collector, complete and checked, for the configuration.

    Args:
        given: the role's `logs_to`.

    Raises:
        ValueError: a name or port that can't be one, no TLS to another host, or half of a client's
            certificate.

    """
    host, name = given["host"], given.get("name") or given["host"]
    tls = given.get("tls") is not False
    for key, value in (("host", host), ("name", name)):
        if not HOST.fullmatch(value):
            raise ValueError(
                f"logs_to.{key} is {value!r}, which can't be a host's name. "
                "Example: logs.example.com."
            )
    port = int(given.get("port") or 6514)
    if not 1 <= port <= _LARGEST_PORT:
        raise ValueError(f"logs_to.port is {port}; use 1 to {_LARGEST_PORT}. Example: 6514.")
    if not tls and not is_loopback(host):
        raise ValueError(
            f"logs_to.tls is false and {host} is another host: the logs would travel in plain "
            "text. Leave `tls` out, or send to a program on 127.0.0.1."
        )
    if tls and is_address(name):
        raise ValueError(
            f"logs_to.host is the address {host}: the collector's certificate is verified by its "
            "name. Set `name`. Example: logs.example.com."
        )
    certificate, private = given.get("certificate"), given.get("key")
    if bool(certificate) != bool(private):
        raise ValueError("logs_to has one of `certificate` and `key`; a client needs both.")
    if not tls and (certificate or given.get("ca")):
        raise ValueError("logs_to has certificates, and its tls is false: leave one of both out.")
    return {
        "host": host,
        "port": port,
        "name": name,
        "tls": tls,
        "ca": f"{DIRECTORY}/ca.crt" if given.get("ca") else SYSTEM_AUTHORITIES,
        "client": bool(private),
    }


def logs_files(given: Mapping[str, Any] | None, lines: str) -> list[dict[str, Any]]:
    """Return the role's files, in the form of converge's `files`.

    Args:
        given: the role's `logs_to`.
        lines: the role's `logs_journal`.

    Raises:
        ValueError: the collector can't be one.

    """
    if not given:
        return []
    if lines not in _JOURNAL:
        raise ValueError(f"logs_journal is {lines!r}, not {' or '.join(_JOURNAL)}.")
    variables = {"collector": logs_collector(given)}
    files: list[dict[str, Any]] = [
        {"path": CONFIGURATION, "template": "rsyslog.conf.j2", "variables": variables},
        {"path": SERVICES, "template": "services.json.j2"},
        # The host program adds a line a start of a container.
        {
            "path": "/var/lib/bedstone/runs/releases.json",
            "content": _table({}),
            "create_only": True,
        },
    ]
    files += [
        {"path": f"/etc/systemd/system/{unit}", "template": f"{unit}.j2", "variables": variables}
        for unit in (UNIT, "bedstone-logs-reload.service", "bedstone-logs-reload.path")
    ]
    files += [
        {"path": f"{DIRECTORY}/{name}", "source": given[key]}
        for key, name in (("ca", "ca.crt"), ("certificate", "client.crt"))
        if given.get(key)
    ]
    if given.get("key"):
        secret = {"group": "bedstone-logs", "mode": "0640", "sensitive": True}
        files.append({"path": f"{DIRECTORY}/client.key", "source": given["key"], **secret})
    return files


def logs_services(given: Iterable[Mapping[str, Any]]) -> str:
    """Return the table from which a line gets its app and service: rsyslog's lookup_table.

    Args:
        given: the role's `logs_apps`.

    """
    table: dict[str, str] = {}
    for app in given:
        name = app["name"]
        for service in app["services"]:
            # Without the slot: it is one of several.
            unit = host_names.slot_unit_template(name, service).partition("@")[0]
            table[unit] = f' app="{name}" service="{service}"'
        for job in app.get("jobs") or ():
            table[host_names.job_unit(name, job)] = f' app="{name}" job="{job}"'
        table[host_names.operation_unit(name)] = f' app="{name}"'
    return _table(table)


def _table(entries: Mapping[str, str]) -> str:
    rows = [{"index": index, "value": value} for index, value in sorted(entries.items())]
    table = {"version": 1, "nomatch": "", "type": "string", "table": rows}
    return json.dumps(table, indent=1) + "\n"


def logs_units(given: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return the units, in the form of converge's `units`.

    Args:
        given: the role's `logs_to`.

    """
    if not given:
        return []
    directory = "/etc/systemd/system"
    return [
        {
            "name": UNIT,
            "enabled": True,
            "state": "started",
            "restart_on": [f"{DIRECTORY}/**", f"{directory}/{UNIT}"],
        },
        {
            "name": "bedstone-logs-reload.path",
            "enabled": True,
            "state": "started",
            "restart_on": [f"{directory}/bedstone-logs-reload.*"],
        },
    ]


ROLE = Role(
    name="logs",
    group=EVERY_HOST,
    stage=Stage.FRONT,
    arguments={
        "logs_to": collector,
        "logs_journal": journal,
        "logs_requests": requests,
        "logs_apps": apps,
    },
    filters=(logs_files, logs_services, logs_units),
)
