"""Check the ports that services publish: a port of a server belongs to one service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bedstone_control.checks.topology import ports_of
from bedstone_control.settings.published_ports import ALL, Published, parse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bedstone_control.checks.context import Context
    from bedstone_control.checks.problems import Problem
    from bedstone_control.settings.root import Settings

EXAMPLE = {"publish": ["5222:5222", "127.0.0.1:8125:8125/udp"]}


def check(context: Context, settings: Settings) -> Iterator[Problem]:
    """Check that what is published is a port, is free, and is held by one container."""
    holders = list(_of_the_host(context))
    for index, app in enumerate(settings.apps):
        for name, service in app.services.items():
            place = ("bedstone_apps", index, "services", name)
            if service.publish and service.port is not None:
                message = (
                    "A service with a `port` can't publish others: in a release two containers of "
                    "it run side by side, and a published port is held by one. Publish it by a "
                    "service without `port`, which is stopped before its successor starts."
                )
                example = {"gateway": {"command": "python gateway.py", **EXAMPLE}}
                yield context.problem((*place, "publish"), message, example)
            if service.publish and service.replicas > 1:
                message = "A published port is held by one container: no `replicas` with `publish`."
                yield context.problem((*place, "replicas"), message, {"replicas": 1})
            for number, text in enumerate(service.publish):
                where = (*place, "publish", number)
                if (entry := parse(text)) is None:
                    message = f"{text!r} is no [ADDRESS:]PORT:PORT_IN_THE_CONTAINER[/udp]."
                    yield context.problem(where, message, EXAMPLE)
                    continue
                taken = next((by for one, by in holders if one.overlaps(entry)), None)
                if taken is not None:
                    message = f"Port {entry.port}/{entry.protocol} of the server is {taken}'s."
                    yield context.problem(where, message, EXAMPLE)
                holders.append((entry, f"{app.name}/{name}"))


def _of_the_host(context: Context) -> Iterator[tuple[Published, str]]:
    """Yield what listens on the servers that run apps."""
    for host in context.groups.get("app", []):
        variables = context.host_variables.get(host, {})
        for port in ports_of(context, host):
            number = str(variables.get(port.variable, port.default))
            if number.isdigit():
                yield Published(ALL, int(number), int(number), port.protocol), f"`{port.variable}`"
