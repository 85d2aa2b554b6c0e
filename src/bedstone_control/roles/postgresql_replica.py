"""Role postgresql_replica: a copy of the databases on another host, which follows the primary.

The copy itself is role postgresql's, by its argument `postgresql_primary`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bedstone_control import names
from bedstone_control.roles import postgresql, reach
from bedstone_control.roles.groups import POSTGRESQL_REPLICA
from bedstone_control.roles.role import FurtherPort, Offer, Placeholder, Role, Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bedstone_control.roles.site import Site
    from bedstone_control.settings.app import App


def _placeholder_values(site: Site, app: App, _migrate: bool) -> dict[str, str]:  # noqa: FBT001 - see Offer
    """Return the placeholders `database.replica.*`; a standby refuses to write to any role."""
    place = names.DATABASE_REPLICA_HOST, str(site.port("postgresql_port"))
    values = postgresql.login_values(site, app, place, migrate=False)
    return {f"database.replica.{name}": values[name] for name in ("url", "host", "port")}


def further_ports(site: Site) -> Iterator[FurtherPort]:
    """Yield the port of role postgresql, which apps read from."""
    port = site.port("postgresql_port")
    yield FurtherPort("PostgreSQL's copy", port, postgresql.clients(site))


_OFFER = Offer(
    needs="a copy of its database to read from",
    setting={"database": {"replica": True}},
    used_by=lambda app: app.database is not None and app.database.replica,
    placeholders={
        "database.replica.url": Placeholder(
            "`database.url` of the copy: the same database, role and password on another host, "
            "where nothing can be written",
            secret=True,
            login=True,
        ),
        "database.replica.host": Placeholder("name of the copy's host"),
        "database.replica.port": Placeholder("its port"),
    },
    variables={"DATABASE_REPLICA_URL": "${database.replica.url}"},
    values=_placeholder_values,
    hosts=lambda site: {names.DATABASE_REPLICA_HOST: reach.address(site, POSTGRESQL_REPLICA)},
)

ROLE = Role(
    name="postgresql_replica",
    group=POSTGRESQL_REPLICA,
    stage=Stage.DATA,
    further_ports=further_ports,
    certificates=postgresql.certificates,
    offers=(_OFFER,),
)
