"""Role rabbitmq: one broker, in which each app has a virtual host and a user of its own."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from bedstone_control import names
from bedstone_control.roles import docker, reach
from bedstone_control.roles.groups import RABBITMQ
from bedstone_control.roles.role import (
    Offer,
    Placeholder,
    Port,
    Role,
    Rotation,
    Secret,
    Stage,
    token,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from bedstone_control.roles.site import Site
    from bedstone_control.settings.app import App
    from bedstone_control.settings.root import Settings

SECRET = "rabbitmq_password"  # noqa: S105 - its name
SHORTEST_PASSWORD = 16
# The program that brings users into line marks here that it did.
STATE = "/var/lib/bedstone/rabbitmq"
_LOGIN = Rotation("passwords", overlap="the previous user stays while a connection uses it")
# A worker that is late by a little is not stopped.
SPARE_MINUTES = 10


def users(site: Site) -> list[dict[str, str]]:
    """Return role rabbitmq's users: one for each app that uses RabbitMQ."""
    return [
        {
            "name": login(site, app),
            "password": site.app_secret(app, SECRET),
            "vhost": vhost(app),
        }
        for app in site.settings.apps
        if app.rabbitmq
    ]


def login(site: Site, app: App) -> str:
    """Return the user that an app logs in as.

    It has another name with each password: containers that hold the earlier one go on until no
    connection uses it (files/rabbitmq_accounts.py).
    """
    return names.broker_login(app.name, site.app_secret(app, SECRET))


def vhost(app: App) -> str:
    """Return the virtual host of an app."""
    return (app.rabbitmq and app.rabbitmq.vhost) or app.name


def longest_task_minutes(site: Site) -> int:
    """Return how long a task may take before it is acknowledged, of all apps."""
    return max(
        (app.rabbitmq.longest_task_minutes for app in site.settings.apps if app.rabbitmq),
        default=30,
    )


def listen_addresses(site: Site) -> list[str]:
    """Return where RabbitMQ listens without TLS: for its own host, and the containers there."""
    own = [docker.bridge_address(site)] if site.host in reach.clients(site, RABBITMQ) else []
    return ["127.0.0.1", *own]


def tls_addresses(site: Site) -> list[str]:
    """Return where it listens with TLS: for the app hosts."""
    if any(host != site.host for host in reach.clients(site, RABBITMQ)):
        return [site.addresses[site.host]]
    return []


def _container_networks(site: Site) -> list[str]:
    own = docker.networks(site)
    return [network for network in reach.networks(site, RABBITMQ) if network in own]


def _host_networks(site: Site) -> list[str]:
    own = docker.networks(site)
    return [network for network in reach.networks(site, RABBITMQ) if network not in own]


def rabbitmq_definitions(given: Iterable[Mapping[str, str]]) -> str:
    """Return users, virtual hosts and rights, as RabbitMQ imports them.

    Args:
        given: the role's `rabbitmq_users`.

    Raises:
        ValueError: a name is used twice, or a password is missing or short.

    """
    taken: set[str] = set()
    result: dict[str, list[dict[str, Any]]] = {"users": [], "vhosts": [], "permissions": []}
    for user in given:
        name, password, host = user["name"], user["password"], user["vhost"]
        if name in taken:
            raise ValueError(f"rabbitmq_users has {name!r} twice.")
        taken.add(name)
        if len(password) < SHORTEST_PASSWORD:
            raise ValueError(
                f"The password of {name} in rabbitmq_users is missing or too short: a random one "
                f"of {SHORTEST_PASSWORD} characters or more keeps others out."
            )
        result["users"].append(
            {
                "name": name,
                "password_hash": _hash(name, password),
                "hashing_algorithm": "rabbit_password_hashing_sha512",
                "tags": [],
            }
        )
        if not any(one["name"] == host for one in result["vhosts"]):
            result["vhosts"].append({"name": host})
        everything = dict.fromkeys(("configure", "write", "read"), ".*")
        result["permissions"].append({"user": name, "vhost": host, **everything})
    return json.dumps(result, indent=1, sort_keys=True) + "\n"


def rabbitmq_limits(memory_mb: int, longest_task_minutes: int) -> dict[str, int]:
    """Return the limits that follow from the role's arguments.

    Args:
        memory_mb: the role's `rabbitmq_memory_mb`.
        longest_task_minutes: the role's `rabbitmq_longest_task_minutes`.

    Returns:
        `process_mb`, the memory of all of Erlang, and `consumer_timeout`, in milliseconds.

    Raises:
        ValueError: a number is out of range.

    """
    for name, value, least, most in (
        ("rabbitmq_memory_mb", memory_mb, 128, 1048576),
        ("rabbitmq_longest_task_minutes", longest_task_minutes, 1, 43200),
    ):
        if not least <= value <= most:
            raise ValueError(f"{name} is {value}; use {least} to {most}.")
    return {
        # Collecting garbage needs as much again; Erlang itself some 120 MB.
        "process_mb": 2 * memory_mb + 256,
        "consumer_timeout": (longest_task_minutes + SPARE_MINUTES) * 60 * 1000,
    }


def rabbitmq_settled(given: Iterable[Mapping[str, str]]) -> str:
    """Return the path of the file that says that users are as declared.

    Args:
        given: the role's `rabbitmq_users`.

    """
    digest = hashlib.sha256(rabbitmq_definitions(given).encode()).hexdigest()
    return f"{STATE}/settled-{digest[:16]}"


def _hash(name: str, password: str) -> str:
    """Return RabbitMQ's hash of a password: four bytes of salt, SHA-512 of salt and password.

    The salt follows from both, so that a second run writes the same.
    """
    salt = hashlib.sha256(f"{name}\0{password}".encode()).digest()[:4]
    return base64.b64encode(salt + hashlib.sha512(salt + password.encode()).digest()).decode()


def certificates(site: Site) -> list[dict[str, Any]]:
    """Return the broker's certificate, where it speaks TLS."""
    if not tls_addresses(site):
        return []
    # Erlang reads the file again by itself, within two minutes.
    return [reach.certificate(site, "rabbitmq", names.RABBITMQ_HOST, [])]


def _secrets(settings: Settings) -> Iterator[Secret]:
    for app in settings.apps:
        if app.rabbitmq:
            place = ("apps", app.name, SECRET)
            yield Secret(
                place,
                "of the app in RabbitMQ",
                token(32),
                least=SHORTEST_PASSWORD,
                rotation=_LOGIN,
            )


def _values(site: Site, app: App, _migrate: bool) -> dict[str, str]:  # noqa: FBT001 - see Offer
    """Return the placeholders `rabbitmq.*`."""
    user, password, host = login(site, app), site.app_secret(app, SECRET), vhost(app)
    local = reach.address(site, RABBITMQ) == docker.bridge_address(site)
    scheme, variable = ("amqp", "rabbitmq_port") if local else ("amqps", "rabbitmq_tls_port")
    port = str(site.port(variable))
    place = f"{user}:{quote(password, safe='')}@{names.RABBITMQ_HOST}:{port}"
    return {
        "rabbitmq.url": f"{scheme}://{place}/{quote(host, safe='')}",
        "rabbitmq.host": names.RABBITMQ_HOST,
        "rabbitmq.port": port,
        "rabbitmq.user": user,
        "rabbitmq.password": password,
        "rabbitmq.vhost": host,
    }


_OFFER = Offer(
    needs="RabbitMQ",
    setting={"rabbitmq": True},
    used_by=lambda app: app.rabbitmq is not None,
    placeholders={
        "rabbitmq.url": Placeholder(
            "amqp://… with user, password, host, port and virtual host; amqps://… where the broker "
            "is on another host",
            secret=True,
        ),
        "rabbitmq.host": Placeholder("name of the broker's host"),
        "rabbitmq.port": Placeholder("its port"),
        "rabbitmq.user": Placeholder(
            "the user to log in as, another one with each password", login=True
        ),
        "rabbitmq.password": Placeholder("that user's password", secret=True),
        "rabbitmq.vhost": Placeholder("the app's virtual host"),
    },
    variables={"RABBITMQ_URL": "${rabbitmq.url}"},
    values=_values,
    hosts=lambda site: {names.RABBITMQ_HOST: reach.address(site, RABBITMQ)},
)

ROLE = Role(
    name="rabbitmq",
    group=RABBITMQ,
    # Backups hold no messages: a rebuild has nothing to restore here.
    stage=Stage.FRONT,
    arguments={
        "rabbitmq_users": users,
        "rabbitmq_longest_task_minutes": longest_task_minutes,
        "rabbitmq_listen_addresses": listen_addresses,
        "rabbitmq_tls_addresses": tls_addresses,
        "rabbitmq_after_units": reach.after_units,
        "rabbitmq_metrics": lambda site: site.settings.metrics is not None,
    },
    ports=(
        Port("rabbitmq_port", 5672, "RabbitMQ", ("beam.smp",), _container_networks),
        Port("rabbitmq_tls_port", 5671, "RabbitMQ, with TLS", ("beam.smp",), _host_networks),
    ),
    certificates=certificates,
    secrets=_secrets,
    offers=(_OFFER,),
    filters=(rabbitmq_definitions, rabbitmq_limits, rabbitmq_settled),
)
