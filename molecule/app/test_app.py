"""Role app and the host program's releases, on real servers."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

HERE = Path(__file__).parent
UNITS = ["bedstone-hello-web@blue", "bedstone-hello-web@green", "bedstone-hello-worker@1"]
LISTENER = {
    "command": ["python", "-m", "http.server", "5222"],
    "stop_seconds": 5,
    "publish": ["127.0.0.1:15222:5222/tcp"],
}
# Its health is that of the worker, which has to run before it.
NEEDS_WORKER = """
import http.server, urllib.request
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            urllib.request.urlopen("http://worker:5222/", timeout=2)
            self.send_response(200)
        except OSError:
            self.send_response(503)
        self.end_headers()
http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Handler).serve_forever()
"""
TOLD = "/run/molecule-told.json"
CURL = "curl -sS --cacert /etc/bedstone/tls/ca.crt --resolve hello.example.com:443:127.0.0.1"
SITE = "https://hello.example.com"
ENVIRONMENT = "/etc/bedstone/apps/hello/app.env"
MIGRATE_ENVIRONMENT = "/etc/bedstone/apps/hello/migrate.env"

# The variable that breaks a release, the file it goes into, the step, words of the message.
BROKEN = [
    pytest.param(*case, id=case[0])
    for case in (
        ("FAIL_CHECK", ENVIRONMENT, "check", "FAIL_CHECK is set, which no settings may"),
        ("FAIL_MIGRATE", MIGRATE_ENVIRONMENT, "migrate", "relation does not exist"),
        ("NEVER_HEALTHY", ENVIRONMENT, "start", "GET /health/ answered 503"),
        ("DIES_AT_START", ENVIRONMENT, "start", "hello dies: no database, say"),
        ("FAIL_BEHIND_NGINX", ENVIRONMENT, "verify", "answered 500"),
        ("WORKER_DIES", ENVIRONMENT, "workers", "worker dies"),
    )
]


def answer(host: Host) -> dict[str, Any]:
    """Return what the app says through nginx."""
    said: dict[str, Any] = json.loads(host.check_output(f"{CURL} -f {SITE}/"))
    return said


def answering(host: Host) -> str | None:
    """Return the container that answers through nginx, None when none does."""
    run = host.run(f"{CURL} -f {SITE}/")
    return str(json.loads(run.stdout)["host"]) if run.rc == 0 else None


def status(host: Host) -> dict[str, Any]:
    """Return what `bedstone status` says of the app."""
    run = host.run("bedstone status --json")
    apps: list[dict[str, Any]] = json.loads(run.stdout)["apps"]
    return next(app for app in apps if app["app"] == "hello")


def usable_releases(host: Host) -> list[str]:
    """Return the releases that serve or can serve again."""
    rows = json.loads(host.check_output("bedstone releases hello --json"))
    return [row["release"] for row in rows if row["serves"] or row["can_serve_again"]]


def serving_unit(host: Host) -> str:
    return f"bedstone-hello-web@{status(host)['slot']}.service"


@contextmanager
def variable(host: Host, path: str, line: str) -> Iterator[None]:
    """Add a line to an environment file for a block."""
    kept = host.check_output("mktemp")
    host.check_output("cp --preserve %s %s", path, kept)
    host.check_output("printf '%%s\\n' %s >> %s", line, path)
    try:
        yield
    finally:
        host.check_output("mv %s %s", kept, path)


@contextmanager
def load(host: Host, wait_until: Callable[..., None]) -> Iterator[dict[str, Any]]:
    """Send requests during a block; the dict gets who answered, and what failed."""
    directory = host.check_output("mktemp -d")
    host.check_output("printf '%%s' %s > %s/load.py", (HERE / "load.py").read_text(), directory)
    host.check_output("systemd-run --quiet --collect python3 %s/load.py %s", directory, directory)
    wait_until(lambda: host.file(f"{directory}/started").exists)
    result: dict[str, Any] = {}
    try:
        yield result
    finally:
        host.check_output("touch %s/stop", directory)
        wait_until(lambda: host.file(f"{directory}/result.json").exists, seconds=120)
    result.update(json.loads(host.check_output("cat %s/result.json", directory)))


def test_app_answers_through_nginx(host: Host) -> None:
    said = answer(host)
    assert said["greeting"] == "hello"
    assert said["multi_line"] == "first\nsecond", "a value with a line break arrives whole"


def test_static_and_media_files_are_served(host: Host) -> None:
    assert "teal" in host.check_output(f"{CURL} -f {SITE}/static/site.css")
    assert "margin" in host.check_output(f"{CURL} -f {SITE}/static/built.css"), "the build's own"
    assert host.check_output(f"{CURL} -f {SITE}/media/migrated.txt") == "done"


def test_nothing_is_published_by_docker(host: Host) -> None:
    assert host.check_output("docker ps --format '{{.Ports}}'").strip() == ""


def test_container_has_no_rights(host: Host) -> None:
    name = f"bedstone-hello-web-{status(host)['slot']}"
    pid = host.check_output("docker inspect --format '{{.State.Pid}}' %s", name)
    process = host.check_output("cat /proc/%s/status", pid)
    assert "Uid:\t10001\t10001" in process
    assert "CapEff:\t0000000000000000" in process
    assert "CapBnd:\t0000000000000000" in process
    assert "NoNewPrivs:\t1" in process
    assert host.run("docker exec %s touch /app/new", name).rc != 0
    assert host.run("docker exec %s touch /tmp/new", name).rc == 0
    assert host.run("docker exec %s touch /app/media/new", name).rc == 0
    assert host.run("docker exec %s touch /app/static/new", name).rc != 0


def test_limits_hold(host: Host) -> None:
    form = "'{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.PidsLimit}}'"
    name = f"bedstone-hello-web-{status(host)['slot']}"
    limits = host.check_output(f"docker inspect --format {form} %s", name)
    assert limits == f"{128 * 2**20} {128 * 2**20} 64"
    unlimited = host.check_output(f"docker inspect --format {form} bedstone-hello-worker-1")
    assert int(unlimited.split()[0]) > 0, "half of the server's memory"
    # Larger than the service's memory, as an upload may be.
    host.check_output(
        "docker exec %s python -c %s",
        name,
        "open('/tmp/big', 'wb').truncate(2**28);"
        "file = open('/tmp/big', 'r+b'); [file.write(bytes(2**20)) for _ in range(160)]",
    )
    host.check_output("docker exec %s rm /tmp/big", name)


def test_secrets_are_for_root_alone(host: Host) -> None:
    release = status(host)["release"]
    for path in (
        ENVIRONMENT,
        MIGRATE_ENVIRONMENT,
        f"/var/lib/bedstone/apps/hello/releases/{release}/app.env",
    ):
        assert "s3cret" in host.check_output("cat %s", path)
        assert host.run("setpriv --reuid=nobody --clear-groups cat %s", path).rc != 0
    assert host.file(ENVIRONMENT).mode == 0o600


def test_variables_of_one_service_are_in_no_other(host: Host) -> None:
    slot, release = status(host)["slot"], status(host)["release"]
    own = host.check_output("docker exec bedstone-hello-mailer-1 env")
    assert "MAIL_PASSWORD=s3cret-of-mailer" in own
    assert "GREETING=the mailer" in own
    assert "DOMAIN=" not in own, "its file is all that it gets"
    for container in (f"bedstone-hello-web-{slot}", "bedstone-hello-worker-1"):
        assert "s3cret-of-mailer" not in host.check_output("docker inspect %s", container)
    assert "MAIL" not in host.check_output("bedstone run hello -- env")
    for directory in (
        "/etc/bedstone/apps/hello",
        f"/var/lib/bedstone/apps/hello/releases/{release}",
    ):
        assert host.file(f"{directory}/service-mailer.env").mode == 0o600


def test_secrets_are_in_no_arguments_during_a_release(host: Host) -> None:
    script = """
    bedstone release hello > /dev/null & release=$!
    while kill -0 $release 2> /dev/null; do
        for file in /proc/[0-9]*/cmdline; do
            grep -aq "s3cret-o[f]" $file 2> /dev/null && echo "found in $file"
        done
        sleep 0.1
    done
    wait $release"""
    run = host.run("bash -c %s", script)
    assert (run.rc, run.stdout) == (0, "")
    journal = host.check_output("journalctl --no-pager -o cat -u 'bedstone-*'")
    assert "hello request" in journal
    assert "s3cret-of" not in journal


def test_migrations_ran_with_their_own_environment(host: Host) -> None:
    assert host.file("/srv/bedstone/hello/media/migrated.txt").exists


def test_logs_show_the_apps_own_lines(host: Host, wait_until: Callable[..., None]) -> None:
    answer(host)
    unit = serving_unit(host)
    wait_until(lambda: "hello request" in host.check_output("journalctl -o cat -u %s", unit))
    assert "worker starts as hello" in host.check_output("bedstone logs hello worker")


def test_day_to_day_commands(host: Host) -> None:
    assert status(host)["ok"]
    assert host.check_output("bedstone exec hello web -- id -u") == "10001"
    assert host.check_output("bedstone run hello -- sh -c 'echo $GREETING'") == "hello"
    assert status(host)["release"] in host.check_output("bedstone releases hello")
    assert host.run("bedstone release nobody").rc == 1
    assert "Declared: hello" in host.run("bedstone release nobody").stderr


def test_nothing_new_is_no_release(host: Host) -> None:
    run = host.run("bedstone release hello --if-changed --json")
    assert run.rc == 0
    assert json.loads(run.stdout)["changed"] is False


def test_release_under_load_fails_no_request(host: Host, wait_until: Callable[..., None]) -> None:
    before = answer(host)["host"]
    with load(host, wait_until) as result:
        run = host.run("bedstone release hello")
        assert run.rc == 0, run.stderr
        # Requests after the release too.
        wait_until(lambda: answer(host)["host"] != before)
    assert result["failures"] == []
    assert set(result["answers"]) == {before, answer(host)["host"]}


def test_new_environment_is_released(host: Host) -> None:
    with variable(host, ENVIRONMENT, "GREETING=good day"):
        run = host.run("bedstone release hello --if-changed --json")
        assert json.loads(run.stdout)["changed"] is True, run.stderr
        assert answer(host)["greeting"] == "good day"
    assert json.loads(host.check_output("bedstone release hello --if-changed --json"))["changed"]
    assert answer(host)["greeting"] == "hello"


def test_checkout_on_the_server_takes_the_place_of_the_source_in_the_image(host: Host) -> None:
    config, checkout = "/etc/bedstone/apps/hello/app.json", "/srv/source/hello"
    container = answer(host)["host"]
    host.check_output(f"mkdir -p {checkout} && docker cp {container}:/app/. {checkout}")
    host.check_output(f"chmod -R a+rX /srv/source && cp -p {config} /root/app.json")
    change = "import json, sys; p = sys.argv[1]; found = json.load(open(p)); found['mounts']"
    change += f".append({{'source': '{checkout}', 'target': '/app', 'of_image': True}}); json.dump(found, open(p, 'w'))"
    try:
        host.check_output(f"python3 -c %s {config}", change)
        host.check_output("bedstone release hello --if-changed")
        host.check_output(f"sed -i 's/\"greeting\": [^,]*,/\"greeting\": \"edited\",/' {checkout}/*.py")
        host.check_output("bedstone restart hello")
        assert answer(host)["greeting"] == "edited"
        refused = host.run("bedstone exec hello web -- touch /app/written")
        assert "Read-only file system" in refused.stdout + refused.stderr
    finally:
        host.check_output(f"mv /root/app.json {config}; bedstone release hello --if-changed")
    assert answer(host)["greeting"] == "hello"


@pytest.mark.parametrize(("name", "path", "step", "words"), BROKEN)
def test_broken_release_leaves_the_old_one_serving(
    host: Host, wait_until: Callable[..., None], name: str, path: str, step: str, words: str
) -> None:
    before = (answer(host)["host"], status(host)["release"])
    with variable(host, path, f"{name}=1"), load(host, wait_until) as result:
        run = host.run("bedstone release hello --json")
        assert run.rc == 1
        failed = json.loads(run.stdout)
    assert failed["failed_step"] == step
    assert words in f"{failed['error']}\n{failed['details']}"
    assert (answer(host)["host"], status(host)["release"]) == before
    assert status(host)["ok"]
    # Behind nginx the broken release answered until it was taken back: its 500 are counted.
    if step not in {"verify", "workers"}:
        assert result["failures"] == []
        assert set(result["answers"]) == {before[0]}
    assert host.run("bedstone release hello --if-changed --json").rc == 0


def test_killed_container_comes_back(host: Host, wait_until: Callable[..., None]) -> None:
    before = answer(host)["host"]
    host.check_output("docker kill bedstone-hello-web-%s", status(host)["slot"])
    wait_until(lambda: answering(host) not in {None, before}, what="another one answers")


def told(host: Host) -> str:
    """Return what the hook was told last."""
    return str(host.run("cat %s", TOLD).stdout)


def liveness_alarms(host: Host) -> dict[str, str]:
    found = json.loads(host.run("bedstone alarms --json").stdout)["alarms"]
    return {each["name"]: each["words"] for each in found if each["check"] == "liveness"}


def test_service_that_hangs_is_restarted_and_reported(
    host: Host, wait_until: Callable[..., None]
) -> None:
    unit, before = serving_unit(host), answer(host)["host"]
    host.check_output("rm -f %s", TOLD)
    first = "docker inspect --format '{{.State.Pid}}' bedstone-hello-web-%s"
    # The program, not the init before it.
    stop = f"kill -STOP $(pgrep -P $({first}))"
    began = time.monotonic()
    host.check_output(stop, status(host)["slot"])
    wait_until(lambda: answering(host) not in {None, before}, what="another one answers")
    wait_until(lambda: unit in told(host), what="the hook hears of it")
    assert time.monotonic() - began < 60
    words = (
        "It doesn't answer any more (3 liveness probes in a row failed: no answer from port 8000)"
    )
    journal = host.check_output("journalctl -o cat -n 200 -u %s", unit)
    assert f"{words}; it is restarted." in journal
    assert "was restarted once in two hours" in liveness_alarms(host)[f"liveness/{unit}"]
    assert words in host.run("bedstone status").stdout
    assert int(host.check_output("systemctl show -P NRestarts %s", unit)) >= 1


def test_worker_that_does_its_work_no_longer_is_restarted(
    host: Host, wait_until: Callable[..., None]
) -> None:
    unit = "bedstone-hello-mailer@1.service"
    container = "docker inspect --format '{{.Id}}' bedstone-hello-mailer-1"
    before = host.check_output(container)
    host.check_output("docker exec bedstone-hello-mailer-1 touch /tmp/dead")
    wait_until(lambda: host.run(container).stdout.strip() not in {"", before}, what="a new one")
    wait_until(lambda: host.service(unit).is_running, what="its liveness command succeeds")
    assert "its command ended with exit code 1" in liveness_alarms(host)[f"liveness/{unit}"]


def test_killed_supervisor_leaves_its_container_serving(
    host: Host, wait_until: Callable[..., None]
) -> None:
    unit = serving_unit(host)
    before = answer(host)["host"]
    main = host.check_output("systemctl show -P MainPID %s", unit)
    with load(host, wait_until) as result:
        host.check_output("kill -9 %s", main)
        wait_until(
            lambda: (
                host.check_output("systemctl show -P MainPID %s", unit) not in {main, "0"}
                and host.service(unit).is_running
            ),
            what="systemd runs another one",
        )
    assert result["failures"] == []
    assert set(result["answers"]) == {before}


def processes(host: Host, unit: str) -> list[str]:
    """Return the processes of a unit: all of it, its container's excepted."""
    found = host.run(f"grep -l /{unit}$ /proc/[0-9]*/cgroup").stdout
    return [path.split("/")[2] for path in found.split()]


def test_service_costs_one_process_of_less_than_8_mib(
    host: Host, wait_until: Callable[..., None]
) -> None:
    workers = [f"bedstone-hello-{name}.service" for name in ("worker@1", "worker@2", "mailer@1")]
    for unit in (serving_unit(host), *workers):
        main = host.check_output("systemctl show -P MainPID %s", unit)
        # The one that probed a new container has ended.
        wait_until(lambda: processes(host, unit) == [main])  # noqa: B023 - called at once
        assert len(host.check_output("ls /proc/%s/task", main).split()) == 1
        rollup = host.check_output("cat /proc/%s/smaps_rollup", main)
        pss = next(line.split()[1] for line in rollup.splitlines() if line.startswith("Pss:"))
        assert int(pss) < 8 * 1024, rollup


def test_absence_of_docker_is_not_noticed(host: Host, wait_until: Callable[..., None]) -> None:
    before = answer(host)["host"]
    unit, worker = serving_unit(host), "bedstone-hello-worker@2.service"
    with load(host, wait_until) as result:
        host.check_output("systemctl stop docker.socket docker.service")
        # The pipes between the app and dockerd hold 128 KiB, and each request is a line of 4 KB.
        for number in range(3):
            host.check_output(f"{CURL} -f '{SITE}/[1-50]/{'x' * 4000}' -o /dev/null")
            host.check_output(f"{CURL} -f {SITE}/away-{number}-{'y' * 4000}")
        read = "journalctl -o cat -n 200 -u %s | grep -q %s"
        wait_until(lambda: host.run(read, unit, "away-1-").rc == 0, what="lines reach the journal")
        # Its own time to stop is 5 seconds; with dockerd it took until systemd's limit.
        host.check_output("systemctl stop %s", worker)
        assert host.check_output("systemctl show -P Result %s", worker) == "success"
        assert host.run(read, worker, "timed out").rc != 0
        host.check_output("systemctl start docker.socket docker.service %s", worker)
    assert result["failures"] == []
    assert set(result["answers"]) == {before}
    wait_until(lambda: status(host)["ok"], what="all is well")
    # Its supervisor found it again: output still comes, and a stop still stops it.
    wait_until(lambda: "hello request" in last_lines(host, unit))
    host.check_output("systemctl restart %s", unit)
    wait_until(lambda: answering(host) not in {None, before}, what="another one answers")


def last_lines(host: Host, unit: str) -> str:
    answer(host)
    return str(host.check_output("journalctl -o cat -n 2 -u %s", unit))


def test_stopped_unit_is_started_again(host: Host) -> None:
    host.check_output("systemctl stop bedstone-hello-worker@2")
    assert host.run("bedstone status").rc == 1
    assert "worker@2 doesn't run" in host.check_output("bedstone release hello --dry-run")
    outcome = json.loads(host.check_output("bedstone release hello --if-changed --json"))
    assert outcome["changed"] is True
    assert outcome["steps"] == [], "no release was needed"
    assert host.run("bedstone status").rc == 0


def test_image_archive_is_loaded_and_a_removed_app_leaves_its_data(host: Host) -> None:
    """A second app from an image archive, then taken out of the settings."""
    state, config = "/var/lib/bedstone/apps/gone", "/etc/bedstone/apps/gone"
    image = host.check_output("docker image ls --format '{{.Tag}}' bedstone/hello").split()[0]
    host.check_output("mkdir -p %s %s /srv/bedstone/gone", state, config)
    host.check_output("docker save -o %s/image.tar bedstone/hello:%s", state, image)
    app = json.loads(host.check_output("cat /etc/bedstone/apps/hello/app.json"))
    app |= {"name": "gone", "network": "bedstone-gone", "domains": [], "static": None}
    app["image"] = {"kind": "load", "archive": f"{state}/image.tar"}
    web = {"command": ["python", "-c", NEEDS_WORKER], "port": 8000, "health": "/"}
    app["services"] = {"web": web | {"stop_seconds": 5}, "worker": LISTENER}
    host.check_output("printf '%%s' %s > %s/app.json", json.dumps(app), config)
    for name in ("app.env", "migrate.env"):
        app_file = f"/etc/bedstone/apps/gone/{name}"
        host.check_output("cp /etc/bedstone/apps/hello/%s %s", name, app_file)
    unit = "/etc/systemd/system/bedstone-{}-{}@.service"
    for name in ("web", "worker"):
        made = unit.format("gone", name)
        host.check_output(f"sed s/hello/gone/ {unit.format('hello', name)} > {made}")
    host.check_output(
        "sed -i 's#apps/hello#apps/gone#' /etc/bedstone/apps/gone/app.json;systemctl daemon-reload"
    )
    try:
        # Its first: the web server is healthy once the worker is.
        host.check_output("bedstone release gone")
        assert host.service("bedstone-gone-worker@1").is_running
        assert host.file("/srv/bedstone/gone/media/migrated.txt").exists
        reach = (
            "curl -sf --retry 30 --retry-all-errors --retry-delay 1 -o /dev/null 127.0.0.1:15222"
        )
        host.check_output(reach)
        # The port goes from one container to the next.
        host.check_output("echo MORE=1 >> %s/app.env && bedstone release gone", config)
        host.check_output(reach)
        host.check_output("rm %s/app.json", config)
        assert "gone: serves" in host.check_output("bedstone retire"), "nothing goes unasked"
        assert host.service("bedstone-gone-worker@1").is_running
        assert "gone: retired" in host.check_output("bedstone retire gone")
        assert "gone: retired" in host.run("bedstone status").stdout
        assert host.file(f"{state}/retired.json").exists
        host.check_output('sed -i \'s/"at": "20../"at": "2020/\' %s/retired.json', state)
        host.check_output("systemctl start bedstone-alarms.service")
        assert not host.file(state).exists
        assert host.check_output("docker image ls -q bedstone/gone") == ""
    finally:
        host.run(f"rm -rf {config} {unit.format('gone', '*')}; systemctl daemon-reload")
    assert not host.service("bedstone-gone-worker@1").is_running
    assert host.check_output("docker ps -aq --filter label=bedstone.app=gone") == ""
    assert host.run("docker network inspect bedstone-gone").rc != 0
    assert host.file("/srv/bedstone/gone/media/migrated.txt").exists
    assert answer(host)["greeting"] == "hello"


def test_serving_slot_starts_by_itself_after_a_crash_and_a_reboot_without_a_ledger(
    host: Host, server_name: str, wait_until: Callable[..., None]
) -> None:
    ledger = "/var/lib/bedstone/ledger.sqlite"
    before, releases = answer(host)["host"], usable_releases(host)
    host.check_output("rm -f %s-wal %s-shm; truncate -s 0 %s; truncate -s 64K %s", *[ledger] * 4)
    host.check_output("docker kill bedstone-hello-web-%s", status(host)["slot"])
    wait_until(lambda: answering(host) not in {None, before}, what="another one answers")
    before = answer(host)["host"]
    subprocess.run([sys.executable, "-m", "testbed", "restart", server_name], check=True)
    wait_until(lambda: answering(host) not in {None, before}, seconds=180, what="it answers")
    wait_until(lambda: status(host)["ok"], seconds=60)
    assert "`bedstone ledger rebuild`" in host.run("bedstone status").stdout
    refused = host.run("bedstone rollback hello")
    assert refused.rc == 1
    assert "`bedstone ledger rebuild`" in refused.stderr
    assert "made again" in host.check_output("bedstone ledger rebuild")
    assert "nothing to do" in host.check_output("bedstone ledger rebuild")
    assert "ledger" not in host.check_output("bedstone status")
    assert usable_releases(host) == releases
    assert host.run("bedstone release hello").rc == 0
    assert host.run("bedstone rollback hello").rc == 0
    assert host.run("bedstone release hello").rc == 0
    outcome = json.loads(host.check_output("bedstone release hello --if-changed --json"))
    assert outcome["changed"] is False
