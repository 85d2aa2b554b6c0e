"""`make drill`: a server burns down while people write, and a new one takes its place.

    python -m tests.drill                    # all of it; the servers are removed at the end
    python -m tests.drill --keep             # leaves them to look at
    python -m tests.drill --seconds 200      # people write for so long before the disaster
    python -m tests.drill --destination s3   # the backups lie in a bucket, not at an SFTP server
    python -m tests.drill --no-log           # without a log at the destination: the dumps come back
    python -m tests.drill --time             # back to a moment, not to the end of the log

An offsite server and a server A are booted; A is provisioned with site.yml, backed up, and used.
In the middle of it A is cut from power and its disk is gone. A bare server B, the inventory, the
vault and what is offsite give the service back: playbooks/rebuild.yml. Then everything that was
acknowledged is compared. It fails when anything is missing that was in the archive offsite at the
moment of the disaster (or acknowledged until the moment, with --time; or in the dump, where there
is no log), or a file that was backed up, or when the app takes nothing new. Before it and after it,
playbooks/restore.yml brings back what was before a release, what is offsite, and a moment.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from testbed.errors import TestbedError
from testbed.servers import Server
from testbed.shell import say
from tests.drill import judge, offsite, restores, world
from tests.drill.offsite import Offsite
from tests.drill.writers import FAILURES, Site, Writers

ENTERING = 4
EARLY_ENTRIES = 40
EARLY_UPLOADS = 12
# Longer than PostgreSQL waits before it archives what there is (a minute), so that there is a
# moment between two pieces of the log in which something can be lost.
WRITING_SECONDS = 150
REBUILD = ("-e", f"destination={world.DESTINATION}", "-e", f"confirm={world.HOST}")
ANSWER_SECONDS = 300
ARCHIVE_SECONDS = 600
UNIT_SECONDS = 600
POLL_SECONDS = 0.5
# systemd's word for a oneshot unit that runs.
RUNNING = "activating"


@dataclass(frozen=True)
class Course:
    """What the drill is like.

    Attributes:
        destination: where backups go: `sftp` or `s3`.
        logged: whether the destination gets the log.
        to_moment: whether to go back to a moment, and not to the end of the log.
        seconds: how long people write before the power cut, at least.

    """

    destination: str
    logged: bool
    to_moment: bool
    seconds: float


@dataclass(frozen=True)
class Disaster:
    """The power cut.

    Attributes:
        at: when, in seconds since the epoch.
        moment: the one that is gone back to, likewise, or None.
        archived: the names of what the destination had of the log.

    """

    at: float
    moment: float | None
    archived: list[str]


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


def first_server(clock: Clock, course: Course) -> tuple[Offsite, Server]:
    """Boot the offsite server and A, and provision A; return both."""
    clock.part(f"Boot an offsite server ({course.destination}) and a server A")
    world.prepare_images()
    with ThreadPoolExecutor() as pool:
        making = pool.submit(offsite.make, course.destination)
        booting = pool.submit(world.boot, "a")
        place, server = making.result(), booting.result()
    world.write_inventory(place, wal=course.logged)
    world.point_inventory_to(server)
    clock.part("Provision A with site.yml")
    clock.took("site.yml on A", world.playbook("site"))
    world.hold_nights(server)
    return place, server


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
    wait_for_end(server, world.COPY)
    return world.serving(server)


def wait_for_end(server: Server, unit: str) -> None:
    """Wait until a oneshot unit has ended.

    Raises:
        TestbedError: it runs on and on.

    """
    limit = time.monotonic() + UNIT_SECONDS
    while world.ssh(server, f"systemctl is-active {unit}", check=False).strip() == RUNNING:
        if time.monotonic() > limit:
            raise TestbedError(f"{unit} came to no end.")
        time.sleep(POLL_SECONDS)


def burn_down(
    clock: Clock, place: Offsite, server: Server, writers: Writers, course: Course
) -> Disaster:
    """Let people write, and end the server in the middle."""
    clock.part(f"{ENTERING} people write and one uploads, for {course.seconds:.0f} s")
    writers.start(ENTERING)
    moment = None
    limit = time.monotonic() + course.seconds
    while time.monotonic() < limit:
        time.sleep(POLL_SECONDS)
        if course.to_moment and moment is None and time.monotonic() > limit - course.seconds / 2:
            moment = time.time()
    if moment is not None:
        wait_for_log(place, writers, moment)
    clock.part("Power cut: A and its disk are gone")
    killed_at = world.cut_power(server)
    writers.stop()
    archived = place.archived() if course.logged else []
    world.scrap(server)
    return Disaster(killed_at, moment, archived)


def wait_for_log(place: Offsite, writers: Writers, moment: float) -> None:
    """Wait until the log at the destination leads beyond a moment.

    Raises:
        TestbedError: it doesn't.

    """
    limit = time.monotonic() + ARCHIVE_SECONDS
    while True:
        later = [write.position for write in list(writers.writes) if write.at > moment]
        if later and min(later) < judge.archived_end(place.archived()):
            return
        if time.monotonic() > limit:
            raise TestbedError("What was written after the moment isn't archived.")
        time.sleep(POLL_SECONDS)


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


def rebuild(clock: Clock, disaster: Disaster, writers: Writers) -> tuple[Server, Site]:
    """Boot B, rebuild, and return it with the site behind its address."""
    clock.part("Boot a bare server B")
    began = time.monotonic()
    server = world.boot("b")
    world.point_inventory_to(server)
    clock.took("booting B", time.monotonic() - began)
    site = Site(world.DOMAIN, server.address, writers.site.authority)
    arguments = list(REBUILD)
    if disaster.moment is not None:
        arguments += ["-e", f"time={datetime.fromtimestamp(disaster.moment, UTC).isoformat()}"]
    clock.part(f"Rebuild: rebuild.yml {' '.join(arguments)}")
    with ThreadPoolExecutor() as pool:
        answer: Future[float] = pool.submit(
            wait_for_answer, site, world.PLAYBOOK_SECONDS + ANSWER_SECONDS
        )
        clock.took("rebuild.yml", world.playbook("rebuild", *arguments))
        clock.took(
            "from the power cut to the first good answer (RTO)", answer.result() - disaster.at
        )
    world.hold_nights(server)
    return server, site


def expect(
    course: Course, disaster: Disaster, writers: Writers, backed_up: Sequence[str]
) -> tuple[frozenset[str], frozenset[str]]:
    """Return which entries have to come back, and which must not."""
    moment = disaster.moment
    if moment is not None:
        due = frozenset(write.id for write in writers.writes if write.at <= moment)
        return due, frozenset(name for name, asked in writers.sent.items() if asked > moment)
    if not course.logged:
        # A dump holds what was there when it was made, and nothing else.
        return frozenset(backed_up), frozenset(writers.sent) - frozenset(backed_up)
    return judge.archived(writers.writes, disaster.archived), frozenset()


def look(before: judge.Before, site: Site) -> judge.Verdict:
    """Compare what is there with what was."""
    status, entries = site.ask("GET", "/entries/")
    if status != 200:
        raise TestbedError(f"B answers {status} on /entries/.")
    status, uploads = site.ask("GET", "/uploads/")
    if status != 200:
        raise TestbedError(f"B answers {status} on /uploads/.")
    return judge.judge(before, entries, uploads)


def see_that_it_works(server: Server, site: Site, released: str, verdict: judge.Verdict) -> bool:
    """See A's last release serve and take what is new, B's log archived, B refuse a rebuild."""
    if (serving := world.serving(server)) != released:
        verdict.problems.append(f"B serves the release {serving}, and A's last one was {released}")
    after = Writers(site)
    if not (after.enter("after-1") and after.enter("after-2") and after.upload("after-1")):
        verdict.problems.append(f"B doesn't take anything new: {after.failures}")
        return False
    again = f"bedstone rebuild --destination {world.DESTINATION} --yes"
    if (code := world.exit_code(server, again)) != world.REFUSED:
        verdict.problems.append(f"B has data, and `{again}` wasn't refused: it ended with {code}")
    if "has data in its databases" not in world.refused("rebuild", *REBUILD):
        verdict.problems.append("B has data, and rebuild.yml failed otherwise than by refusing")
    # Last: what is refused has changed nothing.
    if code := world.exit_code(server, world.CHECK):
        verdict.problems.append(f"B's log isn't archived: `{world.CHECK}` ended with {code}")
    return True


def see_restores(clock: Clock, server: Server, site: Site, early: Sequence[str]) -> list[str]:
    """Restore what is offsite and a moment with restore.yml; return what went wrong."""
    clock.part("Wait for B's full backup, and restore from offsite and to a moment: restore.yml")
    wait_for_end(server, world.FULL_BACKUP_UNIT)
    wrong = []
    result = world.ssh(server, f"systemctl show --property=Result {world.FULL_BACKUP_UNIT}")
    if result.strip() != "Result=success":
        wrong.append(f"B's full backup has failed: journalctl -u {world.FULL_BACKUP_UNIT}")
    began = time.monotonic()
    wrong += restores.from_elsewhere(server, early)
    clock.took("restore.yml -e destination=offsite -e into=…", time.monotonic() - began)
    began = time.monotonic()
    wrong += restores.to_a_moment(site, Writers(site))
    clock.took("restore.yml -e time=…", time.monotonic() - began)
    return wrong


def report(clock: Clock, verdict: judge.Verdict, writers: Writers) -> str:
    """Return the figures."""
    rpo = verdict.recovery_point_seconds
    figures = [
        (verdict.acknowledged, "entries acknowledged before the power cut"),
        (verdict.surviving, "of them came back"),
        (
            verdict.lost,
            f"lost, not archived or after the moment: of the last {verdict.lost_seconds:.1f} s",
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


def drill(course: Course) -> bool:
    """Do all of it; return whether nothing is missing."""
    clock = Clock()
    world.clear()
    place, a = first_server(clock, course)
    writers = Writers(Site(world.DOMAIN, a.address, world.fetch_authority(a)))
    backed_up = use_and_back_up(clock, a, writers)
    early = [write.id for write in writers.writes]
    released = release_again(clock, a)
    clock.part("Restore what was before this release, beside: restore.yml")
    wrong = restores.before_release(a, released, early)
    disaster = burn_down(clock, place, a, writers, course)
    b, site = rebuild(clock, disaster, writers)
    writers.join()
    clock.part("Compare")
    due, undone = expect(course, disaster, writers, early)
    before = judge.Before(
        killed_at=disaster.at,
        writes=tuple(writers.writes),
        sent=frozenset(writers.sent),
        due=due,
        undone=undone,
        uploads=dict(writers.uploads),
        backed_up=backed_up,
    )
    verdict = look(before, site)
    verdict.problems += wrong
    if see_that_it_works(b, site, released, verdict):
        verdict.problems += see_restores(clock, b, site, early)
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
    parser.add_argument(
        "--destination", choices=offsite.KINDS, default="sftp", help="where backups go"
    )
    parser.add_argument(
        "--no-log", action="store_true", help="no log at the destination: the dumps come back"
    )
    parser.add_argument(
        "--time", action="store_true", help="go back to a moment, not to the end of the log"
    )
    arguments = parser.parse_args()
    try:
        logged = not arguments.no_log
        course = Course(arguments.destination, logged, arguments.time, arguments.seconds)
        if course.to_moment and not course.logged:
            parser.error("without a log at the destination there is no moment to go back to")
        return 0 if drill(course) else 1
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
