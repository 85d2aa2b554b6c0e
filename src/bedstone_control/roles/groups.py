"""Name the inventory's groups that several roles share: the topology."""

from __future__ import annotations

from bedstone_control.roles.role import Group

EVERY_HOST = Group("all", "is every host", lambda _settings: False)
APP = Group("app", "runs the containers", lambda _settings: True)
POSTGRESQL = Group(
    "postgresql",
    "keeps the databases",
    lambda settings: any(app.database for app in settings.apps),
)
POSTGRESQL_REPLICA = Group(
    "postgresql_replica",
    "keeps copies of the databases, to read from and to promote",
    lambda settings: any(app.database and app.database.replica for app in settings.apps),
)
REDIS = Group(
    "redis",
    "runs the apps' Redis instances",
    lambda settings: any(app.redis for app in settings.apps),
)
RABBITMQ = Group(
    "rabbitmq",
    "runs the message broker",
    lambda settings: any(app.rabbitmq for app in settings.apps),
)
PROXY = Group(
    "proxy",
    "answers for the domains",
    lambda settings: any(app.domains for app in settings.apps),
)
MONITORING = Group(
    "monitoring",
    "collects the servers' metrics",
    lambda _settings: False,
)
