"""`make drill`: a server burns down while people write, and a new one takes its place.

    python -m tests.drill                    # all of it; the servers are removed at the end
    python -m tests.drill --keep             # leaves them to look at
    python -m tests.drill --seconds 200      # people write for so long before the disaster

An offsite server and a server A are booted; A is provisioned with site.yml, backed up, and used.
In the middle of it A is cut from power and its disk is gone. A bare server B, the inventory, the
vault and what is offsite give the service back: playbooks/rebuild.yml. Then everything that was
acknowledged is compared. It fails when anything is missing that was in the archive offsite at the
moment of the disaster, or a file that was backed up, or when the app takes nothing new.
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime

from testbed.errors import TestbedError
from testbed.servers import Server
from testbed.shell import say
from tests.drill import judge, world
from tests.drill.writers import FAILURES, Site, Writers

ENTERING = 4
EARLY_ENTRIES = 40
EARLY_UPLOADS = 12
# Longer than PostgreSQL waits before it archives what there is (a minute), so that there is a
# moment between two pieces of the log in which something can be lost.
WRITING_SECONDS = 150
ANSWER_SECONDS = 300
ARCHIVE_SECONDS = 180
COPY_SECONDS = 300
POLL_SECONDS = 0.5
# systemd's word for a oneshot unit that runs.
COPYING = "activating"


class Clock:
    """Says what is going on, and keeps how long each part took."""

    def __init__(self) -> None:
        self.parts: list[tuple[str, float]] = []
        self._began = time.monotonic()

    def part(self, text: str) -> None:
        """Begin with something."""
        say(f"==> {time.monotonic() - self._began:5.0f} s  {text}")

    def took(self, text: str, seconds: float) -> None:
        """Keep how long something took."""
        self.parts.append((text, seconds))
        say(f"          {text}: {seconds:.1f} s")


def first_server(clock: Clock) -> tuple[Server, Server]:
    """Boot the offsite server and A, and provision A; return both."""
    clock.part("Boot an offsite server and a server A")
    world.prepare_images()
    with ThreadPoolExecutor() as pool:
        making = pool.submit(world.make_offsite)
        booting = pool.submit(world.boot, "a")
        (offsite, key), server = making.result(), booting.result()
    world.write_inventory(offsite, key)
    world.point_inventory_to(server)
    clock.part("Provision A with site.yml")
    clock.took("site.yml on A", world.playbook("site"))
    return offsite, server


def use_and_back_up(clock: Clock, server: Server, writers: Writers) -> set[str]:
    """Let the app get its first data, and back all of it up; return the uploads in the backup."""
    clock.part("Use the app a little, and back it up: the whole cluster, dumps, media, settings")
    for number in range(EARLY_ENTRIES):
        writers.enter(f"early-{number:03}")
    for number in range(EARLY_UPLOADS):
        writers.upload(f"early-{number:03}")
    if writers.failures:
        raise TestbedError(f"The app on A doesn't work: {writers.failures[0]}")
    backed_up = set(writers.uploads)
    began = time.monotonic()
    world.ssh(server, world.FULL_BACKUP)
    clock.took("the first full backup of the cluster", time.monotonic() - began)
    began = time.monotonic()
    world.ssh(server, f"bedstone backup {world.APP} && bedstone copy")
    clock.took("bedstone backup and bedstone copy", time.monotonic() - began)
    return backed_up


def release_again(clock: Clock, server: Server) -> str:
    """Release the app once more, which copies the release by itself; return its id."""
    clock.part("Release the app again, after the night's copies")
    world.ssh(server, f"bedstone release {world.APP}")
    limit = time.monotonic() + COPY_SECONDS
    while world.ssh(server, f"systemctl is-active {world.COPY}", check=False).strip() == COPYING:
        if time.monotonic() > limit:
            raise TestbedError(f"{world.COPY} came to no end.")
        time.sleep(POLL_SECONDS)
    return world.serving(server)


def burn_down(
    clock: Clock, offsite: Server, server: Server, writers: Writers, seconds: float
) -> tuple[float, list[str]]:
    """Let people write, and end the server in the middle; return when, and what was archived."""
    clock.part(f"{ENTERING} people write and one uploads, for {seconds:.0f} s")
    writers.start(ENTERING)
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        time.sleep(POLL_SECONDS)
    clock.part("Power cut: A and its disk are gone")
    killed_at = world.cut_power(server)
    writers.stop()
    archived = world.archived(offsite)
    world.scrap(server)
    return killed_at, archived


def wait_for_answer(site: Site, limit_seconds: float) -> float:
    """Wait for the first good answer and return when it came, in seconds since the epoch.

    Raises:
        TestbedError: none came.

    """
    limit = time.monotonic() + limit_seconds
    last = "nothing was asked"
    while time.monotonic() < limit:
        try:
            status, listed = site.ask("GET", "/entries/")
        except FAILURES as error:
            last = f"{type(error).__name__}: {error}"
        else:
            # An app that answers without its data is none.
            if status == 200 and "early-000" in listed:
                return time.time()
            last = f"status {status}"
        time.sleep(POLL_SECONDS)
    raise TestbedError(f"B doesn't answer: {last}")


def rebuild(clock: Clock, killed_at: float, writers: Writers) -> tuple[Server, Site]:
    """Boot B, rebuild, and return it with the site behind its address."""
    clock.part("Boot a bare server B")
    began = time.monotonic()
    server = world.boot("b")
    world.point_inventory_to(server)
    clock.took("booting B", time.monotonic() - began)
    site = Site(world.DOMAIN, server.address, writers.site.authority)
    clock.part("Rebuild: rebuild.yml -e from=offsite")
    with ThreadPoolExecutor() as pool:
        answer: Future[float] = pool.submit(
            wait_for_answer, site, world.PLAYBOOK_SECONDS + ANSWER_SECONDS
        )
        clock.took(
            "rebuild.yml",
            world.playbook(
                "rebuild", "-e", f"from={world.DESTINATION}", "-e", f"confirm={world.HOST}"
            ),
        )
        clock.took("from the power cut to the first good answer (RTO)", answer.result() - killed_at)
    return server, site


def look(before: judge.Before, site: Site) -> judge.Verdict:
    """Compare what is there with what was."""
    status, entries = site.ask("GET", "/entries/")
    if status != 200:
        raise TestbedError(f"B answers {status} on /entries/.")
    status, uploads = site.ask("GET", "/uploads/")
    if status != 200:
        raise TestbedError(f"B answers {status} on /uploads/.")
    return judge.judge(before, entries, uploads)


def see_that_it_works(server: Server, site: Site, released: str, verdict: judge.Verdict) -> None:
    """See A's last release serve and take what is new, B's log archived, B refuse a rebuild."""
    if (serving := world.serving(server)) != released:
        verdict.problems.append(f"B serves the release {serving}, and A's last one was {released}")
    after = Writers(site)
    if not (after.enter("after-1") and after.enter("after-2") and after.upload("after-1")):
        verdict.problems.append(f"B doesn't take anything new: {after.failures}")
        return
    if code := world.exit_code(server, world.CHECK):
        verdict.problems.append(f"B's log isn't archived: `{world.CHECK}` ended with {code}")
    again = f"bedstone rebuild --from {world.DESTINATION} --yes"
    if (code := world.exit_code(server, again)) != world.REFUSED:
        verdict.problems.append(f"B has data, and `{again}` wasn't refused: it ended with {code}")


def report(clock: Clock, verdict: judge.Verdict, writers: Writers) -> str:
    """Return the figures."""
    rpo = verdict.recovery_point_seconds
    figures = [
        (verdict.acknowledged, "entries acknowledged before the power cut"),
        (verdict.surviving, "of them came back"),
        (
            verdict.lost,
            f"lost: those of the last {verdict.lost_seconds:.1f} s, not yet archived by then",
        ),
        (len(writers.uploads), "files acknowledged"),
        (verdict.uploads_lost, "lost: those after the last backup of the media"),
    ]
    lines = [
        f"\nDrill of {datetime.now(UTC):%Y-%m-%d %H:%M} UTC\n",
        *(f"  {seconds:8.1f} s  {text}" for text, seconds in clock.parts),
        f"  {rpo or 0:8.1f} s  from the newest entry that came back to the power cut (RPO)",
        *(f"  {number:10}  {text}" for number, text in figures),
        "",
    ]
    lines += [f"FAILED: {problem}" for problem in verdict.problems]
    if not verdict.problems:
        lines.append("All that was archived or backed up before the power cut is there.")
    return "\n".join(lines)


def drill(seconds: float) -> bool:
    """Do all of it; return whether nothing is missing."""
    clock = Clock()
    world.clear()
    offsite, a = first_server(clock)
    writers = Writers(Site(world.DOMAIN, a.address, world.fetch_authority(a)))
    backed_up = use_and_back_up(clock, a, writers)
    released = release_again(clock, a)
    killed_at, archived = burn_down(clock, offsite, a, writers, seconds)
    b, site = rebuild(clock, killed_at, writers)
    writers.join()
    clock.part("Compare")
    before = judge.Before(
        killed_at=killed_at,
        writes=tuple(writers.writes),
        sent=frozenset(writers.sent),
        uploads=dict(writers.uploads),
        backed_up=backed_up,
        archived=archived,
    )
    verdict = look(before, site)
    see_that_it_works(b, site, released, verdict)
    print(report(clock, verdict, writers), flush=True)
    return not verdict.problems


def main() -> int:
    """Run the drill; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.drill")
    parser.add_argument("--keep", action="store_true", help="leave the servers up")
    parser.add_argument(
        "--seconds",
        type=float,
        default=WRITING_SECONDS,
        help=f"how long people write before the power cut (default: {WRITING_SECONDS})",
    )
    arguments = parser.parse_args()
    try:
        return 0 if drill(arguments.seconds) else 1
    except TestbedError as error:
        say(f"\nerror: {error.message}")
        if error.hint:
            say(f"hint: {error.hint}")
        return 1
    finally:
        if not arguments.keep:
            world.clear()


if __name__ == "__main__":
    sys.exit(main())
