"""The configuration of Alertmanager in role prometheus: alerts go where failures are told."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from bedstone_control.roles.alert_rules import WATCHDOG

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

UNIT = "bedstone-alertmanager.service"
DIRECTORY = "/etc/bedstone/alertmanager"
SECRETS = f"{DIRECTORY}/secrets"
TEMPLATE = f"{DIRECTORY}/bedstone.tmpl"
USER = "bedstone-alertmanager"
# Alertmanager's receivers that tell no one.
_NONE = "none"
_HEARTBEAT = "heartbeat"
_MAIL_PASSWORD = "mail-password"  # noqa: S105 - names a file
_IMPLICIT_TLS_PORT = 465


def receiving(hooks: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the hooks that hear of alerts, each with its name: those of failures.

    Alertmanager starts no programs: hooks with a command have none.

    Args:
        hooks: the role's `prometheus_hooks`.

    """
    for number, hook in enumerate(hooks, start=1):
        if "failure" in hook["events"] and (hook.get("webhook") or hook.get("mail")):
            yield f"hook-{number}", hook


def secrets(
    hooks: Iterable[Mapping[str, Any]], mail: Mapping[str, Any] | None, heartbeat: str
) -> dict[str, str]:
    """Return what Alertmanager reads from files that only it and root can read, by their names.

    Args:
        hooks: the role's `prometheus_hooks`.
        mail: its `prometheus_mail`.
        heartbeat: its `prometheus_heartbeat_url`.

    Raises:
        ValueError: the heartbeat's address is no URL.

    """
    chosen = list(receiving(hooks))
    found = {name: str(hook["webhook"]) for name, hook in chosen if hook.get("webhook")}
    if mail and mail.get("password") and any(hook.get("mail") for _, hook in chosen):
        found[_MAIL_PASSWORD] = str(mail["password"])
    if heartbeat:
        if not re.fullmatch(r"https?://[^\s/]+\S*", heartbeat):
            # Not shown: a client that knows it can keep the watchdog silent.
            raise ValueError(
                "prometheus_heartbeat_url is no URL. Example: https://hc.example.com/ping/…"
            )
        found[_HEARTBEAT] = heartbeat
    return found


def configuration(
    hooks: Iterable[Mapping[str, Any]],
    mail: Mapping[str, Any] | None,
    heartbeat: str,
    wait_seconds: int,
) -> dict[str, Any]:
    """Return the content of alertmanager.yml; it holds no secrets.

    Args:
        hooks: the role's `prometheus_hooks`.
        mail: its `prometheus_mail`.
        heartbeat: its `prometheus_heartbeat_url`.
        wait_seconds: its `prometheus_wait_seconds`.

    Raises:
        ValueError: mail can't be sent as the settings have it.

    """
    chosen = list(receiving(hooks))
    receivers: list[dict[str, Any]] = [{"name": _NONE}]
    watchdog: dict[str, Any] = {"receiver": _NONE, "matchers": [f'alertname="{WATCHDOG}"']}
    if heartbeat:
        watchdog |= {"receiver": _HEARTBEAT, "group_wait": "0s", "group_interval": "30s"}
        # Less than two intervals, so that each second one sends: at 60 s it would be skipped where
        # the last message is a moment younger.
        watchdog["repeat_interval"] = "55s"
        receiver = {"url_file": f"{SECRETS}/{_HEARTBEAT}", "send_resolved": False}
        receivers.append({"name": _HEARTBEAT, "webhook_configs": [receiver]})
    routes = [watchdog]
    for name, hook in chosen:
        receivers.append({"name": name, **_receiver(name, hook, mail)})
        routes.append({"receiver": name, "continue": True, **_matchers(hook)})
    return {
        "templates": [TEMPLATE],
        "route": {
            "receiver": _NONE,
            "group_by": ["alertname", "instance", "app"],
            "group_wait": f"{wait_seconds}s",
            "group_interval": f"{10 * wait_seconds}s",
            "repeat_interval": "12h",
            "routes": routes,
        },
        # Of a server that is down its other alerts tell nothing.
        "inhibit_rules": [
            {
                "source_matchers": ['alertname="ServerDown"'],
                "target_matchers": ['alertname!="ServerDown"', 'instance!=""'],
                "equal": ["instance"],
            }
        ],
        "receivers": receivers,
    }


def _matchers(hook: Mapping[str, Any]) -> dict[str, Any]:
    """Return which alerts a hook gets: of its apps, and of the servers."""
    if hook.get("apps") is None:
        return {}
    # A label that is not there is empty.
    return {"matchers": [f'app=~"|{"|".join(hook["apps"])}"']}


def _receiver(name: str, hook: Mapping[str, Any], mail: Mapping[str, Any] | None) -> dict[str, Any]:
    if hook.get("webhook"):
        # Slack's format, which Mattermost shows as well.
        slack = {
            "api_url_file": f"{SECRETS}/{name}",
            "send_resolved": True,
            "title": '{{ template "bedstone.title" . }}',
            "title_link": "",
            "fallback": '{{ template "bedstone.title" . }}',
            "text": '{{ template "bedstone.text" . }}',
        }
        return {"slack_configs": [slack]}
    if mail is None:
        raise ValueError("prometheus_hooks has one with mail, and prometheus_mail is missing.")
    common = _mail(mail)
    return {"email_configs": [{"to": address, **common} for address in hook["mail"]]}


def _mail(mail: Mapping[str, Any]) -> dict[str, Any]:
    server, port, security = mail["server"], int(mail["port"]), mail["security"]
    # Alertmanager begins with TLS on this port, and on no other.
    if (security == "tls") != (port == _IMPLICIT_TLS_PORT):
        raise ValueError(
            f"Alertmanager can't send mail by {server} with security {security} on port {port}: "
            f"it uses tls on port {_IMPLICIT_TLS_PORT} alone, and nothing else there. Example: "
            "bedstone_mail: {port: 587, security: starttls}."
        )
    login = {}
    if mail.get("user"):
        login = {
            "auth_username": mail["user"],
            "auth_password_file": f"{SECRETS}/{_MAIL_PASSWORD}",
        }
    return {
        "from": mail["sender"],
        "smarthost": f"[{server}]:{port}" if ":" in server else f"{server}:{port}",
        **login,
        "require_tls": security == "starttls",
        "send_resolved": True,
        "headers": {"Subject": '{{ template "bedstone.title" . }}'},
        "html": "",
        "text": '{{ template "bedstone.text" . }}',
    }
