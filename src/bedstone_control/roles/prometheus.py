"""Role prometheus: it watches the servers, and alerts where the hooks say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from bedstone_control import names
from bedstone_control.ansible_support.plain import plain
from bedstone_control.roles import alert_rules, alertmanager, host_program
from bedstone_control.roles.groups import EVERY_HOST, MONITORING
from bedstone_control.roles.role import Port, Role, Stage, local

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bedstone_control.roles.site import Site

PORT = 9090
ALERTMANAGER_PORT = 9093
UNIT = "bedstone-prometheus.service"
DIRECTORY = "/etc/bedstone/prometheus"
RULES = f"{DIRECTORY}/rules"
USERS = "/etc/sysusers.d/bedstone-prometheus.conf"
# The certificate with which it asks the servers for their metrics.
CERTIFICATE = "prometheus"
_TLS = "/etc/bedstone/tls"
_MOST_SCRAPE_SECONDS = 10
_UNITS = "/etc/systemd/system"


def certificates(_site: Site) -> list[dict[str, Any]]:
    """Return the certificate of a client, which the servers ask for."""
    return [{"name": CERTIFICATE, "common_name": names.METRICS_CLIENT, "usage": "client"}]


def prometheus_configuration(
    targets: Iterable[Mapping[str, Any]],
    own: Mapping[str, Any],
    scrape_seconds: int,
    rule_files: Sequence[str],
) -> str:
    """Return the content of prometheus.yml.

    Args:
        targets: the role's `prometheus_targets`, and further ones.
        own: `host` and the ports `prometheus` and `alertmanager` of this server.
        scrape_seconds: the role's `prometheus_scrape_seconds`.
        rule_files: the role's `prometheus_rule_files`.

    Raises:
        ValueError: two targets can't be told apart.

    """
    alerts = f"127.0.0.1:{own['alertmanager']}"
    every = [
        {"job": "prometheus", "host": own["host"], "address": f"127.0.0.1:{own['prometheus']}"},
        {"job": "alertmanager", "host": own["host"], "address": alerts},
        *targets,
    ]
    configuration = {
        "global": {
            "scrape_interval": f"{scrape_seconds}s",
            "scrape_timeout": f"{min(scrape_seconds, _MOST_SCRAPE_SECONDS)}s",
            "evaluation_interval": f"{scrape_seconds}s",
        },
        "rule_files": [f"{RULES}/bedstone.yml", *(file["path"] for file in _own(rule_files))],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alerts]}]}]},
        "scrape_configs": _jobs(every),
    }
    return _yaml(configuration)


def _jobs(targets: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    jobs: dict[str, list[dict[str, Any]]] = {}
    for target in targets:
        # What begins with two underscores says how it is asked, and ends up in no metric.
        labels = {
            "instance": str(target["host"]),
            **(target.get("labels") or {}),
            "__metrics_path__": str(target.get("path") or "/metrics"),
            "__scheme__": "https" if target.get("tls") else "http",
            **{f"__param_{name}": str(text) for name, text in (target.get("params") or {}).items()},
        }
        entry = {"targets": [str(target["address"])], "labels": labels}
        entries = jobs.setdefault(str(target["job"]), [])
        if any(_shown(entry) == _shown(other) for other in entries):
            raise ValueError(
                f"prometheus_targets: two of the job {target['job']} on {target['host']} have the "
                "same labels. Give one of them another: labels: {part: second}."
            )
        entries.append(entry)
    tls = {
        "ca_file": f"{_TLS}/ca.crt",
        "cert_file": f"{_TLS}/{CERTIFICATE}.crt",
        "key_file": f"{_TLS}/{CERTIFICATE}.key",
    }
    return [
        {
            "job_name": name,
            **({"tls_config": tls} if any(_is_tls(entry) for entry in entries) else {}),
            "static_configs": entries,
        }
        for name, entries in jobs.items()
    ]


def _shown(entry: Mapping[str, Any]) -> dict[str, str]:
    """Return the labels that the metrics of a target have."""
    return {name: text for name, text in entry["labels"].items() if not name.startswith("__")}


def _is_tls(entry: Mapping[str, Any]) -> bool:
    return bool(entry["labels"]["__scheme__"] == "https")


def prometheus_files(
    rules: Mapping[str, Any],
    rule_files: Sequence[str],
    alerts: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Return the files that follow from the role's arguments, in the form of converge's `files`.

    Args:
        rules: `thresholds` and `without`: the role's `prometheus_thresholds` and
            `prometheus_without_rules`.
        rule_files: the role's `prometheus_rule_files`.
        alerts: `hooks`, `mail`, `heartbeat` and `wait_seconds` of the role.

    Raises:
        ValueError: an argument can't be used.

    """
    hooks, mail = list(alerts["hooks"]), alerts["mail"]
    heartbeat = str(alerts["heartbeat"] or "")
    secrets = alertmanager.secrets(hooks, mail, heartbeat)
    group = alert_rules.rule_group(rules["thresholds"], rules["without"])
    receivers = alertmanager.configuration(hooks, mail, heartbeat, int(alerts["wait_seconds"]))
    return [
        {"path": f"{DIRECTORY}/prometheus.yml", "template": "prometheus.yml.j2"},
        *(
            {"path": f"{_UNITS}/{unit}", "template": f"{unit}.j2"}
            for unit in (UNIT, alertmanager.UNIT)
        ),
        {"path": f"{RULES}/bedstone.yml", "content": _yaml(group)},
        *_own(rule_files),
        {"path": f"{alertmanager.DIRECTORY}/alertmanager.yml", "content": _yaml(receivers)},
        {"path": alertmanager.TEMPLATE, "source": "bedstone.tmpl"},
        {"path": f"{DIRECTORY}/consoles/apps.html", "source": "apps.html"},
        *(
            {
                "path": f"{alertmanager.SECRETS}/{name}",
                "content": text,
                "group": alertmanager.USER,
                "mode": "0640",
                "sensitive": True,
            }
            for name, text in secrets.items()
        ),
    ]


def _own(rule_files: Sequence[str]) -> list[dict[str, str]]:
    """Return the operator's rules files, under names that can't collide."""
    return [
        {"path": f"{RULES}/own-{number}.yml", "source": str(path)}
        for number, path in enumerate(rule_files, start=1)
    ]


def _yaml(content: Mapping[str, Any]) -> str:
    # Ansible's texts and lists are of types of its own.
    return yaml.safe_dump(plain(dict(content)), sort_keys=False, width=100)


def prometheus_validators(state: str) -> list[dict[str, list[str]]]:
    """Return the programs that accept the files first, in the form of converge's `validate`.

    Args:
        state: the role's `prometheus_state`.

    """
    if state != "present":
        return []
    return [
        {"command": ["/usr/bin/promtool", "check", "config", f"{DIRECTORY}/prometheus.yml"]},
        {
            "command": [
                "/usr/bin/amtool",
                "check-config",
                f"{alertmanager.DIRECTORY}/alertmanager.yml",
            ]
        },
    ]


def prometheus_units(state: str) -> list[dict[str, Any]]:
    """Return the units, in the form of converge's `units`.

    Args:
        state: the role's `prometheus_state`.

    """
    if state != "present":
        return []
    return [
        # Debian's own listen on all addresses.
        {"name": "prometheus.service", "masked": True, "state": "stopped"},
        {"name": "prometheus-alertmanager.service", "masked": True, "state": "stopped"},
        {
            "name": alertmanager.UNIT,
            "enabled": True,
            "state": "started",
            "reload_on": [
                f"{alertmanager.DIRECTORY}/alertmanager.yml",
                alertmanager.TEMPLATE,
            ],
            # Secrets are read for each message.
            "restart_on": [f"{_UNITS}/{alertmanager.UNIT}"],
        },
        {
            "name": UNIT,
            "enabled": True,
            "state": "started",
            "reload_on": [f"{DIRECTORY}/prometheus.yml", f"{RULES}/*"],
            "restart_on": [f"{_UNITS}/{UNIT}"],
        },
    ]


def targets(site: Site) -> list[dict[str, Any]]:
    """Return role prometheus's targets: what the roles of every server give out."""
    return [
        {**target, "host": host, "tls": True}
        for host in site.groups.get(EVERY_HOST.name, [])
        for role in site.roles
        for target in role.targets(site, host)
    ]


ROLE = Role(
    name="prometheus",
    group=MONITORING,
    stage=Stage.FRONT,
    arguments={
        "prometheus_targets": targets,
        "prometheus_hooks": host_program.entries,
        "prometheus_mail": host_program.mail,
    },
    ports=(
        Port("prometheus_port", PORT, "Prometheus", ("prometheus",), reach=local),
        Port(
            "prometheus_alertmanager_port",
            ALERTMANAGER_PORT,
            "Alertmanager",
            ("prometheus-alertmanager", "prometheus-aler"),
            reach=local,
        ),
    ),
    certificates=certificates,
    filters=(prometheus_configuration, prometheus_files, prometheus_units, prometheus_validators),
)
