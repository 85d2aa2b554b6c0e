"""playbooks/restore.yml on a server of the drill: from a destination, to a moment, by a release."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from testbed.errors import TestbedError
from tests.drill import world
from tests.drill.writers import FAILURES, Site, Writers

if TYPE_CHECKING:
    from collections.abc import Collection

    from testbed.servers import Server

LIMIT_SECONDS = 300
POLL_SECONDS = 0.5


def restore(*arguments: str) -> None:
    """Run the playbook for the app, which has to work."""
    given = [part for argument in arguments for part in ("-e", argument)]
    world.playbook("restore", "-e", f"app={world.APP}", "-e", f"confirm={world.APP}", *given)


def beside(server: Server, database: str, *arguments: str) -> set[str]:
    """Restore into a database next to the app's, and return the entries that are in it."""
    restore(*arguments, f"into={database}")
    query = "SELECT id FROM entries"
    said = world.ssh(server, f"cd / && runuser -u postgres -- psql -XAtq {database} -c '{query}'")
    return set(said.split())


def from_elsewhere(server: Server, backed_up: Collection[str]) -> list[str]:
    """Restore the newest backup at the destination into a new database; return what is wrong."""
    found = beside(server, "drill_from", f"destination={world.DESTINATION}")
    if found == set(backed_up):
        return []
    return [f"restore.yml -e destination= brought {len(found)} entries of {len(backed_up)}"]


def before_release(server: Server, release: str, entries: Collection[str]) -> list[str]:
    """Restore a release's restore point into a new database; return what is wrong with it."""
    found = beside(server, "drill_before", f"release={release}")
    if found == set(entries):
        return []
    return [f"restore.yml -e release= brought {len(found)} entries of {len(entries)}"]


def to_a_moment(site: Site, writers: Writers) -> list[str]:
    """Go back in place to a moment between two entries; return what is wrong afterwards."""
    if not writers.enter("moment-1"):
        return [f"the app doesn't take an entry: {writers.failures}"]
    moment = datetime.now(UTC)
    if not writers.enter("moment-2"):
        return [f"the app doesn't take an entry: {writers.failures}"]
    restore(f"time={moment.isoformat()}")
    there = entries(site)
    wrong = []
    if "moment-1" not in there:
        wrong.append("restore.yml -e time= lost what was there at the moment")
    if "moment-2" in there:
        wrong.append("restore.yml -e time= brought what came after the moment")
    return wrong


def entries(site: Site) -> list[str]:
    """Return what the app lists, once it answers.

    Raises:
        TestbedError: it doesn't.

    """
    limit = time.monotonic() + LIMIT_SECONDS
    while True:
        try:
            status, listed = site.ask("GET", "/entries/")
        except FAILURES as error:
            last = f"{type(error).__name__}: {error}"
        else:
            if status == 200:
                return list(listed)
            last = f"status {status}"
        if time.monotonic() > limit:
            raise TestbedError(f"The app doesn't answer: {last}")
        time.sleep(POLL_SECONDS)
