"""What an app's containers write is never a way for root, and survives a release that fails."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from testinfra.host import Host

UNITS = ["bedstone-hello-web@blue", "bedstone-hello-web@green", "bedstone-operation@hello"]
APP = "/etc/bedstone/apps/hello/app.json"
SOURCE = "/var/lib/bedstone/apps/hello/source.tar.gz"
MEDIA = "/srv/bedstone/hello/media"
# What shows whom a path belongs to.
OWNER = "stat -c %%u:%%g"


@pytest.fixture(scope="module", autouse=True)
def _as_it_was(host: Host) -> Iterator[None]:
    """Leave the app as it was declared, and its uploads without the traps."""
    yield
    host.check_output("bedstone release hello")
    host.check_output("find %s -mindepth 1 ! -name migrated.txt -delete", MEDIA)


def status(host: Host) -> dict[str, Any]:
    """Return what `bedstone status` says of the app."""
    apps: list[dict[str, Any]] = json.loads(host.run("bedstone status --json").stdout)["apps"]
    return next(app for app in apps if app["app"] == "hello")


@contextmanager
def changed(host: Host, **change: Any) -> Iterator[None]:
    """Declare the app with other values for a block."""
    kept = host.check_output("mktemp")
    host.check_output("cp --preserve %s %s", APP, kept)
    app = json.loads(host.check_output("cat %s", APP))
    for key, value in change.items():
        app[key] = {**app[key], **value} if isinstance(value, dict) else value
    host.check_output("printf '%%s' %s > %s", json.dumps(app), APP)
    try:
        yield
    finally:
        host.check_output("mv %s %s", kept, APP)


def static(command: str) -> dict[str, Any]:
    """Return the app's commands with another one for the static files."""
    return {"static": [["sh", "-c", f"{command}; python manage.py collect"]]}


def inside(host: Host, command: str) -> str:
    """Run a command in the container that serves."""
    name = f"bedstone-hello-web-{status(host)['slot']}"
    return str(host.check_output("docker exec %s sh -c %s", name, command))


def test_directory_that_becomes_a_link_leads_no_file_out_of_the_static_files(host: Host) -> None:
    made = "mkdir -p /app/static/foo; echo 'echo owned' > /app/static/foo/bedstone-trap.sh"
    with changed(host, commands=static(made)):
        host.check_output("bedstone release hello")
    assert host.file("/srv/bedstone/hello/static/current/foo/bedstone-trap.sh").uid == 0
    traps = "ln -s /etc/profile.d /app/static/foo; ln -s /etc/shadow /app/static/shadow"
    before = host.check_output("stat -c '%u %g %a' /etc/shadow /etc/profile.d")
    with changed(host, commands=static(f"{traps}; mkfifo /app/static/pipe")):
        host.check_output("bedstone release hello")
    assert not host.file("/etc/profile.d/bedstone-trap.sh").exists
    assert host.check_output("stat -c '%u %g %a' /etc/shadow /etc/profile.d") == before
    assert not host.file("/srv/bedstone/hello/static/current/pipe").exists


def test_failed_release_of_another_user_leaves_the_uploads_to_the_one_that_serves(
    host: Host,
) -> None:
    host.check_output("mkdir -p /root/trap && touch /root/trap/file")
    inside(
        host,
        "cd media && ln -sfn /root/trap/file link && ln -sfn /root/trap directory"
        " && ln -sfn /nowhere dangling && mkdir -p d && echo first > d/private"
        " && chmod 600 d/private",
    )
    # In the middle of it the new release reads and writes the old one's files, and adds its own.
    new = (
        "cat /app/media/d/private && echo second >> /app/media/d/private && touch /app/media/d/new"
    )
    app = json.loads(host.check_output("cat %s", APP))
    web = {**app["services"]["web"], "command": ["sh", "-c", f"{new}; exit 1"]}
    with changed(host, user="4000:4000", services={"web": web}):
        failed = json.loads(host.run("bedstone release hello --json").stdout)
    assert failed["failed_step"] == "start"
    assert inside(host, "cat media/d/private && echo third >> media/d/private") == "first\nsecond"
    assert inside(host, "rm media/d/new && touch media/after && stat -c %u media/after") == "10001"
    assert host.check_output(f"{OWNER} %s %s/d/private", MEDIA, MEDIA) == "10001:10001\n10001:10001"

    with changed(host, user="4000:4000"):
        succeeded = json.loads(host.check_output("bedstone release hello --json"))
    (said,) = [step["said"] for step in succeeded["steps"] if step["name"] == "drain"]
    assert "uploads from user 10001 to 4000" in said
    assert inside(host, "cat media/d/private; id -u") == "first\nsecond\nthird\n4000"
    assert host.check_output(f"{OWNER} %s %s/link", MEDIA, MEDIA) == "4000:4000\n4000:4000"
    assert host.check_output(f"{OWNER} %s %s", "/root/trap", "/root/trap/file") == "0:0\n0:0"
    assert "+" not in host.check_output("ls -ld %s %s/d", MEDIA, MEDIA), "no list stays"


def test_nothing_among_the_uploads_is_run_with_anybodys_rights(host: Host) -> None:
    inside(host, "cp /bin/true media/program && chmod 4755 media/program")
    assert host.run("%s/program", MEDIA).rc == 126
    options = {"nosuid", "nodev", "noexec"}
    assert options <= set(inside(host, "grep ' /app/media ' /proc/mounts").split()[3].split(","))
    assert options <= set(host.check_output("findmnt -no OPTIONS /srv/bedstone").split(","))


def test_volume_over_a_part_of_the_uploads_is_refused_before_anything_changes(host: Host) -> None:
    serving = status(host)["release"]
    volumes = host.check_output("docker volume ls --quiet")
    host.check_output("cp %s /root/source.keep", SOURCE)
    script = (
        f"set -e; d=$(mktemp -d); tar -xf {SOURCE} -C $d;"
        ' echo \'VOLUME ["/app/media/cache", "/tmp"]\' >> $d/Dockerfile;'
        f" tar -czf {SOURCE}.new -C $d .; mv {SOURCE}.new {SOURCE}; rm -r $d"
    )
    host.check_output("bash -c %s", script)
    try:
        failed = json.loads(host.run("bedstone release hello --json").stdout)
    finally:
        host.check_output("mv /root/source.keep %s", SOURCE)
    assert failed["failed_step"] == "image"
    assert "a VOLUME at /app/media/cache, and no setting of hello" in failed["error"]
    assert "`media: /app/media/cache`" in failed["hint"]
    assert status(host)["release"] == serving
    assert host.check_output("docker volume ls --quiet") == volumes
