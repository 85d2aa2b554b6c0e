"""Role redis: instances of Valkey or Redis, one for each purpose of each app.

An instance belongs to one app, so that no app evicts, fills or flushes what another one keeps.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from bedstone_control import names
from bedstone_control.roles import reach
from bedstone_control.roles.groups import REDIS
from bedstone_control.roles.role import (
    FurtherPort,
    Offer,
    Placeholder,
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
    from bedstone_control.settings.data import RedisCache, RedisStore
    from bedstone_control.settings.root import Settings

DIRECTORY = "/etc/bedstone/redis"
USER = "app"
ADMIN = "bedstone"
KINDS = ("cache", "store")
# Below the kernel's range of ports for outgoing connections, which begins at 32768.
FIRST_PORT, PORTS = 16400, 8192
# The rights of an app in its own instance: all but those over the server. Libraries ask for the
# list of clients (RQ) and for settings (BullMQ, Sidekiq).
RIGHTS = "~* &* +@all -@admin +client|list +config|get"
_NAME = re.compile(r"[a-z][a-z0-9-]{0,60}[a-z0-9]")
# Of an entry of redis_instances (meta/argument_specs.yml says the same).
_DEFAULTS = {"memory_mb": 64, "eviction": "noeviction", "persistent": True}
_APP = Rotation("passwords", overlap="the previous password is accepted until it is forgotten")
_ADMIN = Rotation("passwords", overlap="no app uses it; the instances restart")
METRICS_SECRET = "redis_metrics_password"  # noqa: S105 - its name
_METRICS = Rotation("passwords", overlap="no app uses it; instances load it without a restart")
# What the exporter asks, and the lengths of named lists: no value of a key, no change of anything.
_METRICS_RIGHTS = (
    "resetchannels -@all +ping +info +llen +client|setname +latency|latest +latency|histogram"
    " +slowlog|len"
)
_DISCONNECTED = "resetchannels -@all"


def port(app: str, kind: str, given: int | None = None) -> int:
    """Return an instance's port: the settings' own, or one that follows from its name.

    It stays the same when apps come and go. Two names may have the same (checks/apps.py).

    Args:
        app: the app's name.
        kind: `cache` or `store`.
        given: the port in the settings.

    """
    return given or FIRST_PORT + zlib.crc32(f"{app}-{kind}".encode()) % PORTS


def kinds(app: App) -> dict[str, RedisCache | RedisStore]:
    """Return an app's instances by kind."""
    if app.redis is None:
        return {}
    found = {kind: getattr(app.redis, kind) for kind in KINDS}
    return {kind: settings for kind, settings in found.items() if settings is not None}


def instances(site: Site) -> list[dict[str, Any]]:
    """Return role redis's instances."""
    return [
        {
            "name": f"{app.name}-{kind}",
            "port": port(app.name, kind, settings.port),
            "password": site.app_secret(app, _secret(kind)),
            # Running containers have it after a rotation.
            "previous_password": site.previous_secrets(app).get(_secret(kind)),
            "memory_mb": settings.memory_mb,
            "eviction": getattr(settings, "eviction", "noeviction"),
            "persistent": kind == "store",
            "metrics_password": metrics_password(site),
            "queues": list(getattr(settings, "queues", ())),
        }
        for app in site.settings.apps
        for kind, settings in kinds(app).items()
    ]


def listen_addresses(site: Site) -> list[str]:
    """Return where instances listen: where containers connect from."""
    return ["127.0.0.1", *reach.listen_addresses(site, REDIS)]


def has_tls(site: Site) -> bool:
    """Return whether instances speak TLS: they do when a container of another host uses them.

    To containers of their own host they speak through that host's bridge alone.
    """
    return reach.is_remote(site, REDIS)


def admin_password(site: Site) -> str | None:
    """Return the password of the user that manages the instances."""
    return site.secrets.get("redis_admin_password")


def metrics_password(site: Site) -> str | None:
    """Return the password of the user that reads metrics, None where there are none."""
    return site.secrets.get(METRICS_SECRET) if site.settings.metrics is not None else None


def redis_files(
    given: Iterable[Mapping[str, Any]], admin: str | None, program: str
) -> list[dict[str, Any]]:
    """Return the files of each instance, in the form of converge's `files`.

    Args:
        given: the role's `redis_instances`.
        admin: the role's `redis_admin_password`.
        program: `valkey` or `redis`; its user reads the files.

    Raises:
        ValueError: two instances have a name or a port in common, a name or a password can't be
            one, or the admin's password is missing.

    """
    files: list[dict[str, Any]] = []
    taken: dict[object, str] = {}
    for instance in given:
        name = instance["name"]
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"{name!r} can't be the name of an instance in redis_instances: small letters, "
                "digits and dashes. Example: shop-cache."
            )
        for value in (name, instance["port"]):
            if value in taken:
                raise ValueError(
                    f"redis_instances: {taken[value]} and {name} are both {value}. Give one of "
                    "them another."
                )
            taken[value] = name
        owner = {"group": program, "mode": "0640"}
        merged = {**_DEFAULTS, **instance}
        # Rewriting the log copies what changes in between: twice the memory at most.
        variables = {"instance": merged | {"process_mb": 2 * int(merged["memory_mb"]) + 64}}
        files += [
            {
                "path": f"{DIRECTORY}/{name}.conf",
                "template": "instance.conf.j2",
                "variables": variables,
                **owner,
            },
            {
                "path": f"{DIRECTORY}/{name}.acl",
                "content": _users(instance, admin),
                "sensitive": True,
                **owner,
            },
            {
                "path": f"/etc/systemd/system/{unit(name)}",
                "template": "instance.service.j2",
                "variables": variables,
            },
        ]
    if files:
        files.append(
            {
                "path": f"{DIRECTORY}/admin.password",
                "content": f"{admin}\n",
                "mode": "0600",
                "sensitive": True,
            }
        )
    return files


def redis_directories(given: Iterable[Mapping[str, Any]], program: str) -> list[dict[str, str]]:
    """Return the directories of the instances' data, in the form of converge's `directories`.

    Args:
        given: the role's `redis_instances`.
        program: `valkey` or `redis`; its user owns them.

    """
    owner = {"owner": program, "group": program, "mode": "0750"}
    return [{"path": f"/var/lib/{program}/{instance['name']}", **owner} for instance in given]


def redis_units(given: Iterable[Mapping[str, Any]], program: str) -> list[dict[str, Any]]:
    """Return the units of the instances, in the form of converge's `units`.

    Args:
        given: the role's `redis_instances`.
        program: `valkey` or `redis`.

    """
    units = [
        {
            "name": unit(instance["name"]),
            "enabled": True,
            "state": "started",
            "reload_on": [f"{DIRECTORY}/{instance['name']}.acl"],
            "restart_on": [
                f"{DIRECTORY}/{instance['name']}.conf",
                f"{DIRECTORY}/admin.password",
                f"/etc/systemd/system/{unit(instance['name'])}",
            ],
        }
        for instance in given
    ]
    # Debian's own instance has no password, and starts with the package.
    own = {"name": f"{program}-server.service", "masked": True, "state": "stopped"}
    return [own, *units] if units else []


def unit(name: str) -> str:
    """Return the unit of an instance."""
    return f"redis-{name}.service"


def _users(instance: Mapping[str, Any], admin: str | None) -> str:
    """Return an instance's users. Of passwords only a hash is kept: they are long and random."""
    name, password = instance["name"], instance["password"]
    given = [(f"the password of {name}", password), ("redis_admin_password", admin)]
    metrics = instance.get("metrics_password")
    if metrics:
        given.append((f"the metrics_password of {name}", metrics))
    for what, value in given:
        if not value or len(value) < 16:  # noqa: PLR2004
            raise ValueError(
                f"{what} is missing or too short: a random one of 16 characters or more keeps "
                "others out. `python -m bedstone_control secrets INVENTORY` makes it."
            )
    accepted = [password, instance.get("previous_password")]
    hashes = " ".join(f"#{_hash(each)}" for each in accepted if each)
    users = [
        ("default", f"off {_DISCONNECTED}"),
        (ADMIN, f"on #{_hash(str(admin))} ~* &* +@all"),
        (USER, f"on {hashes} {RIGHTS}"),
    ]
    if metrics:
        keys = "".join(f" %R~{queue}" for queue in instance.get("queues") or ())
        rights = f"on #{_hash(metrics)}{keys} {_METRICS_RIGHTS}"
        users.append((names.METRICS_REDIS_USER, rights))
    return "".join(f"user {user} {rights}\n" for user, rights in users)


def _hash(password: str) -> str:
    """Return the hash of a password as ACL files have it."""
    return hashlib.sha256(password.encode()).hexdigest()


def further_ports(site: Site) -> Iterator[FurtherPort]:
    """Yield the ports of all instances."""
    networks = reach.networks(site, REDIS)
    for app in site.settings.apps:
        for kind, settings in kinds(app).items():
            number = port(app.name, kind, settings.port)
            yield FurtherPort(f"Redis {kind} of {app.name}", number, networks)


def certificates(site: Site) -> list[dict[str, Any]]:
    """Return the certificate of the instances, where they speak TLS."""
    if not has_tls(site):
        return []
    units = [unit(f"{app.name}-{kind}") for app in site.settings.apps for kind in kinds(app)]
    return [reach.certificate(site, "redis", names.REDIS_HOST, units)]


def _secret(kind: str) -> str:
    return f"redis_{kind}_password"


def _secrets(settings: Settings) -> Iterator[Secret]:
    for app in settings.apps:
        for kind in kinds(app):
            place = ("apps", app.name, _secret(kind))
            yield Secret(
                place,
                f"of the app in its Redis {kind}",
                token(32),
                least=16,
                rotation=_APP,
                keeps_previous=True,
            )
    if any(app.redis for app in settings.apps):
        yield Secret(
            ("redis_admin_password",),
            "to manage Redis instances",
            token(32),
            least=16,
            rotation=_ADMIN,
        )
        if settings.metrics is not None:
            yield Secret(
                (METRICS_SECRET,),
                "with which metrics are read from Redis",
                token(32),
                least=16,
                rotation=_METRICS,
            )


def _values(kind: str, site: Site, app: App) -> dict[str, str]:
    """Return the placeholders of one kind."""
    settings = kinds(app).get(kind)
    if settings is None:
        return {}
    number = str(port(app.name, kind, settings.port))
    password = site.app_secret(app, _secret(kind))
    scheme, options = "redis", ""
    if has_tls(site):
        values = {"ssl_cert_reqs": "required", "ssl_ca_certs": names.CA_IN_CONTAINER}
        scheme, options = "rediss", f"?{urlencode(values, safe='/', quote_via=quote)}"
    place = f"{USER}:{quote(password, safe='')}@{names.REDIS_HOST}:{number}/0"
    return {
        f"redis.{kind}.url": f"{scheme}://{place}{options}",
        f"redis.{kind}.host": names.REDIS_HOST,
        f"redis.{kind}.port": number,
        f"redis.{kind}.user": USER,
        f"redis.{kind}.password": password,
    }


def _offer(kind: str, variable: str) -> Offer:
    return Offer(
        needs=f"a Redis {kind}",
        setting={"redis": {kind: True}},
        used_by=lambda app: kind in kinds(app),
        placeholders={
            f"redis.{kind}.url": Placeholder(
                "redis://… with user, password, host and port; rediss://… with the options of TLS "
                "where the instance is on another host",
                secret=True,
            ),
            f"redis.{kind}.host": Placeholder("name of its host"),
            f"redis.{kind}.port": Placeholder("its port"),
            f"redis.{kind}.user": Placeholder("the user to log in as"),
            f"redis.{kind}.password": Placeholder("that user's password", secret=True),
        },
        variables={variable: f"${{redis.{kind}.url}}"},
        values=lambda site, app, _migrate: _values(kind, site, app),
        hosts=lambda site: {names.REDIS_HOST: reach.address(site, REDIS)},
    )


ROLE = Role(
    name="redis",
    group=REDIS,
    # Backups hold no Redis data: a rebuild has nothing to restore here.
    stage=Stage.FRONT,
    arguments={
        "redis_instances": instances,
        "redis_listen_addresses": listen_addresses,
        "redis_tls": has_tls,
        "redis_admin_password": admin_password,
        "redis_after_units": reach.after_units,
    },
    further_ports=further_ports,
    certificates=certificates,
    secrets=_secrets,
    offers=(_offer("cache", "REDIS_URL"), _offer("store", "REDIS_STORE_URL")),
    filters=(redis_directories, redis_files, redis_units),
)
