"""The app under test as an object: its releases, its database, and load on it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from testinfra.backend.base import CommandResult
from testinfra.host import Host

from tests.apps.ledger import variant

CLIENT = Path(__file__).resolve().parents[1] / "release" / "client.py"
SITE = "https://ledger.localhost"
CURL = "curl -sS -m 60 --cacert /etc/bedstone/tls/ca.crt --resolve ledger.localhost:443:127.0.0.1"
STATE = "/var/lib/bedstone/apps/ledger"
APP = "/etc/bedstone/apps/ledger/app.json"
ENVIRONMENT = "/etc/bedstone/apps/ledger/app.env"
KINDS = {"quick", "api", "post", "static", "slow", "stream", "kept"}
# Connections that are kept alive, and posted on without looking whether they are closed.
KEPT = 200
# What the variants' migrations add to or take from the table, taken back.
PLAIN_SCHEMA = """
    BEGIN;
    DELETE FROM django_migrations WHERE app = 'entries' AND name <> '0001_initial';
    ALTER TABLE entries_entry
        DROP COLUMN IF EXISTS note, DROP COLUMN IF EXISTS kind, DROP COLUMN IF EXISTS half,
        DROP COLUMN IF EXISTS late,
        ADD COLUMN IF NOT EXISTS label varchar(32) NOT NULL DEFAULT '';
    ALTER TABLE entries_entry ALTER COLUMN label DROP DEFAULT;
    COMMIT;
"""


@dataclass
class Load:
    """What came of the requests of a block, once it has ended."""

    name: str
    answers: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)
    kinds: set[str] = field(default_factory=KINDS.copy)

    @property
    def versions(self) -> set[str]:
        """The releases that answered."""
        return {answer["version"] for answer in self.answers if answer["version"]}

    def containers(self, service: str = "web") -> set[str]:
        """Return the containers of a service that answered."""
        return {
            answer["container"]
            for answer in self.answers
            if answer["container"] and (answer["kind"] == "api") == (service == "api")
        }

    def check(self) -> None:
        """Assert that no request failed, of every kind some were sent, none got two releases."""
        assert self.failures == [], "\n".join(self.failures[:10])
        assert {answer["kind"] for answer in self.answers} == self.kinds, "load of every kind"
        of = {(a["container"], a["version"]) for a in self.answers if a["container"]}
        twice = [
            name for name, count in Counter(container for container, _ in of).items() if count > 1
        ]
        assert twice == [], "a container is of one release"


@dataclass(frozen=True)
class Made:
    """A release: the version that its source names, and what served before it."""

    version: str
    previous: str


class Ledger:
    """The app on one server."""

    # Plain releases that were made by these tests, on the schema and with the services of now.
    made: ClassVar[dict[str, Made]] = {}
    # What a release would be made of now.
    version: ClassVar[str] = ""

    def __init__(self, host: Host, wait_until: Callable[..., None]) -> None:
        self.host = host
        self.wait_until = wait_until

    # --- releases ------------------------------------------------------------------------

    def source(
        self, name: str = "plain", migrations: Sequence[str] = (), behaviours: Sequence[str] = ()
    ) -> str:
        """Put another source on the server, as Ansible would; return its version."""
        version = f"{name}-{time.time_ns() // 10**6 % 10**9}"
        archive = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "ledger.tar.gz"
        variant.pack(archive, version, migrations, behaviours)
        self.send(archive, f"{STATE}/source.tar.gz")
        type(self).version = version
        return version

    def send(self, path: Path, target: str) -> None:
        """Copy a file to the server."""
        ssh = ["ssh", "-F", f"{os.environ['MOLECULE_EPHEMERAL_DIRECTORY']}/ssh_config"]
        name = self.host.backend.get_hostname()
        with path.open("rb") as handle:
            subprocess.run(
                [*ssh, name, f"cat > {target}.new && mv {target}.new {target}"],
                stdin=handle,
                check=True,
            )

    def bedstone(self, command: str) -> dict[str, Any]:
        """Run a command of bedstone that ends well, and return its JSON."""
        run = self.host.run(f"bedstone {command} --json")
        assert run.rc == 0, f"{command}: {run.stdout}\n{run.stderr}"
        said: dict[str, Any] = json.loads(run.stdout)
        return said

    def fails(self, command: str) -> dict[str, Any]:
        """Run a command of bedstone that fails, and return its JSON."""
        run = self.host.run(f"bedstone {command} --json")
        assert run.rc != 0, run.stdout
        said: dict[str, Any] = json.loads(run.stdout)
        assert said["ok"] is False
        return said

    def release(self, *options: str) -> dict[str, Any]:
        """Release what the source is now."""
        outcome = self.bedstone(" ".join(["release", "ledger", *options]))
        if self.version.startswith("plain-") and outcome["changed"]:
            self.made[outcome["release"]] = Made(self.version, outcome["previous"])
        return outcome

    def plain(self) -> str:
        """See to it that a release without any variant serves, as declared; return its version."""
        if self.host.file("/etc/nginx/bedstone/maintenance/ledger.html").exists:
            self.host.check_output("bedstone maintenance ledger off")
        serving = self.answer_or_none()
        plain = serving is not None and str(serving["version"]).startswith(("plain", "1"))
        migrated = self.migrated()
        other_services = bool(self.workers()) != self.declares_workers()
        if migrated:
            self.sql(PLAIN_SCHEMA)
        if migrated or other_services:
            # The columns are in another order now, too: the schema equals no previous one.
            self.made.clear()
        if migrated or other_services or not plain:
            self.source()
            self.release()
        return str(self.answer()["version"])

    def declares_workers(self) -> bool:
        """Return whether the next release has workers."""
        return "worker" in json.loads(self.host.check_output("cat %s", APP))["services"]

    def fresh(self) -> tuple[str, str]:
        """Release a plain source; return its version and the release's id."""
        version = self.source()
        return version, str(self.release()["release"])

    def two(self) -> tuple[str, str]:
        """See to it that a plain release serves that followed another one on the same schema.

        Returns:
            the versions of both: the one that a rollback leads to, and the one that serves.

        """
        serving = self.status()["release"]
        made = self.made.get(serving)
        if made is not None and made.previous in self.made and self.is_kept(made.previous):
            return self.made[made.previous].version, made.version
        return str(self.answer()["version"]), self.fresh()[0]

    def is_kept(self, release: str) -> bool:
        """Return whether a release can serve again."""
        listed = json.loads(self.host.check_output("bedstone releases ledger --lines 0 --json"))
        return any(row["can_serve_again"] for row in listed if row["release"] == release)

    def migrated(self) -> list[str]:
        """Return the migrations of variants that are applied."""
        return self.sql(
            "SELECT name FROM django_migrations WHERE app = 'entries' AND name <> '0001_initial'"
            " ORDER BY id"
        ).split()

    # --- what is -------------------------------------------------------------------------

    def get(self, path: str) -> dict[str, Any]:
        """Return the JSON that a path answers through nginx."""
        said: dict[str, Any] = json.loads(self.host.check_output(f"{CURL} -f {SITE}{path}"))
        return said

    def answer(self) -> dict[str, Any]:
        """Return what the app says of itself through nginx."""
        return self.get("/")

    def answer_or_none(self) -> dict[str, Any] | None:
        """Return what the app says of itself, None when it doesn't answer."""
        run = self.host.run(f"{CURL} -f {SITE}/")
        return json.loads(run.stdout) if run.rc == 0 else None

    def status(self) -> dict[str, Any]:
        """Return what `bedstone status` says of the app."""
        run = self.host.run("bedstone status --json")
        apps: list[dict[str, Any]] = json.loads(run.stdout)["apps"]
        return next(app for app in apps if app["app"] == "ledger")

    def workers(self) -> dict[str, str]:
        """Return the release of each worker's container, by the container's name."""
        listed = self.host.check_output(
            "docker ps --filter label=bedstone.app=ledger"
            " --format '{{.Names}} {{.Label \"bedstone.release\"}}'"
        )
        return {
            name: release
            for name, _, release in (line.partition(" ") for line in listed.splitlines())
            if not re.search(r"-(blue|green)(-\d+)?$", name)
        }

    def sql(self, query: str) -> str:
        """Return what the app's database answers to the superuser."""
        return str(
            self.host.check_output("runuser -u postgres -- psql -qAt -d ledger -c %s", query)
        )

    def run(self, command: str) -> CommandResult:
        """Run a command on the server, whatever comes of it."""
        return self.host.run(command)

    # --- load ----------------------------------------------------------------------------

    @contextmanager
    def load(self, seconds: int = 4, kept: int = KEPT) -> Iterator[Load]:
        """Send requests of every kind during a block; the load reports at its end.

        Args:
            seconds: how long the slow ones and the downloads take.
            kept: connections that are kept alive; 0 where nginx has to be reloaded.

        """
        load = Load(f"load{time.time_ns()}", kinds=KINDS if kept else KINDS - {"kept"})
        directory = self.host.check_output("mktemp -d")
        script = CLIENT.read_text()
        self.host.check_output("printf '%%s' %s > %s/client.py", script, directory)
        self.host.check_output(
            "systemd-run --quiet --collect python3 %s/client.py %s %s %s %s",
            directory,
            directory,
            load.name,
            str(seconds),
            str(kept),
        )
        self.wait_until(lambda: self.host.file(f"{directory}/started").exists)
        try:
            self.past_slow_ones(load)
            yield load
        finally:
            self.host.check_output("touch %s/stop", directory)
            self.wait_until(lambda: self.host.file(f"{directory}/result.json").exists, seconds=90)
        said = json.loads(self.host.check_output("cat %s/result.json", directory))
        load.answers, load.failures = said["answers"], said["failures"]
        load.acknowledged = said["acknowledged"]

    def past_slow_ones(self, load: Load) -> None:
        """Wait until requests are on their way, the slow ones too."""
        written = f"SELECT count(*) FROM entries_entry WHERE client_id LIKE '{load.name}-%'"
        self.wait_until(lambda: int(self.sql(written)) >= 10, seconds=60, what="rows are written")

    def written(self, load: Load) -> list[str]:
        """Return the ids of the rows of a load that are in the database."""
        query = f"SELECT client_id FROM entries_entry WHERE client_id LIKE '{load.name}-%'"
        return self.sql(query).split()

    def check_nothing_lost(self, load: Load) -> None:
        """Assert that the client's ledger is the database's."""
        load.check()
        assert sorted(self.written(load)) == sorted(load.acknowledged)


def said_at(outcome: dict[str, Any], step: str) -> str:
    """Return what a step said."""
    steps: list[dict[str, str]] = outcome["steps"]
    return next(each["said"] for each in steps if each["name"] == step)
