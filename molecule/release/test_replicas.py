"""Several containers of one service: one that is killed costs no later request; scaling costs none.

The other tests of this scenario release, roll back and restart with two replicas of `api`.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator

import pytest
from ledger_app import APP, CURL, SITE, Ledger, said_at
from testinfra.host import Host

pytestmark = pytest.mark.usefixtures("web_alone")

UNITS = ["bedstone-ledger-api@*", "bedstone-operation@ledger", "nginx.service"]
# What a request sends and gets in this time was on its way when the container was killed.
UNDER_WAY_SECONDS = 0.5
# In this time the load asks each replica.
SHARE_SECONDS = 3


@pytest.fixture
def scaled(host: Host) -> Iterator[None]:
    """Declare a third replica, as another number in the settings would; afterwards two again."""
    app = json.loads(host.check_output("cat %s", APP))
    app["services"]["api"]["replicas"] = 3
    kept = host.check_output("mktemp")
    host.check_output("cp --preserve %s %s", APP, kept)
    host.check_output("printf '%%s' %s > %s.new && mv %s.new %s", json.dumps(app), APP, APP, APP)
    yield
    host.check_output("mv %s %s", kept, APP)
    # nginx is reloaded for each side; tests that keep connections open come after this one.
    for command in ("release", "restart"):
        host.check_output("bedstone %s ledger", command)


def test_killed_replica_costs_no_later_request(host: Host, ledger: Ledger) -> None:
    [victim, _] = sorted(
        row["service"] for row in ledger.status()["services"] if row["service"].startswith("api@")
    )
    container = f"bedstone-ledger-{victim.replace('@', '-')}"
    before = host.check_output("docker inspect -f '{{.Id}}' %s", container)
    with ledger.load(kept=0) as load:
        killed = time.time()
        host.check_output("docker kill %s", container)
        ledger.wait_until(
            lambda: (
                host.run("docker inspect -f '{{.Id}}' %s", container).stdout.strip()
                not in {"", before}
                and ledger.status()["ok"]
            ),
            seconds=60,
            what="it runs again",
        )
        # nginx leaves it alone for a while after the kill.
        follower = host.check_output("docker inspect -f '{{.Config.Hostname}}' %s", container)
        ledger.wait_until(
            lambda: follower in host.check_output(f"{CURL} -D - -o /dev/null {SITE}/api/"),
            seconds=60,
            what="it gets requests again",
        )
        time.sleep(SHARE_SECONDS)
        said = [row for row in ledger.status()["services"] if row["service"] == victim]
    assert said[0]["restarts"] > 0, "systemd started it again"
    began = [
        float(found[1]) for text in load.failures if (found := re.search(r"at ([0-9.]+):", text))
    ]
    assert len(began) == len(load.failures)
    assert all(moment < killed + UNDER_WAY_SECONDS for moment in began), load.failures
    served = {answer["container"] for answer in load.answers if answer["kind"] == "api"}
    assert len(served) == 3, "both, and the one that follows the killed one"
    longest = max(a["ended"] - a["began"] for a in load.answers if a["kind"] == "api")
    assert longest < 10


@pytest.mark.usefixtures("scaled")
def test_scaling_by_one_number_builds_nothing_and_costs_no_request(
    host: Host, ledger: Ledger
) -> None:
    listed = "docker images -q --no-trunc bedstone/ledger"
    images = set(host.check_output(listed).split())
    with ledger.load(kept=0) as load:
        outcome = ledger.release("--if-changed")
    ledger.check_nothing_lost(load)
    assert "3 of api" in said_at(outcome, "start")
    assert said_at(outcome, "image").startswith("build as before")
    assert len(load.containers("api")) == 5
    # The release removes those of the oldest one, which it replaces in the list.
    assert set(host.check_output(listed).split()) <= images
    names = [row["service"] for row in ledger.status()["services"]]
    assert len([name for name in names if name.startswith("api@")]) == 3
