"""Role host_program: the program runs on a bare server."""

from __future__ import annotations

import re

from testinfra.host import Host


def test_program_runs_on_debians_own_python(host: Host) -> None:
    assert host.check_output("bedstone --version").startswith("bedstone ")
    assert (
        host.check_output("head -c 19 /usr/local/bin/bedstone | head -n 1") == "#!/usr/bin/python3"
    )


def test_its_modules_are_compiled_once(host: Host) -> None:
    listed = host.check_output("find /var/cache/bedstone -type f -printf '%p %u %m\n'")
    assert re.fullmatch(r"/var/cache/bedstone/[0-9a-f]{32}-cpython-\d+\.zip root 644", listed)
    where = "import sys, bedstone.cli.main as main; print(main.__file__, file=sys.stderr)"
    archive = listed.partition(" ")[0]
    assert host.run("PYTHONPATH=%s python3 -c %s", archive, where).stderr.endswith("main.pyc\n")


def test_every_command_explains_itself(host: Host) -> None:
    listed = host.check_output("bedstone --help").partition("a usual day:")[0]
    commands = re.findall(r"^    ([a-z]+) ", listed, re.MULTILINE)
    assert {"status", "release", "rollback", "settle", "backup", "restore"} <= set(commands)
    for command in commands:
        assert "examples:" in host.check_output("bedstone %s --help", command)


def test_bare_server_has_no_apps(host: Host) -> None:
    assert host.check_output("bedstone status") == "No app is declared on this server."


def test_unknown_app_is_refused_in_words(host: Host) -> None:
    run = host.run("bedstone release shop")
    assert run.rc == 1
    assert "No app is called 'shop' on this server. Declared: none." in run.stderr
    assert "Traceback" not in run.stderr


def test_wrong_command_exits_2(host: Host) -> None:
    assert host.run("bedstone relaese shop").rc == 2


def test_nobody_but_root_may_use_it_or_read_its_state(host: Host) -> None:
    run = host.run("setpriv --reuid=nobody --clear-groups bedstone status")
    assert run.rc == 1
    assert "sudo" in run.stderr
    assert host.run("setpriv --reuid=nobody --clear-groups ls /var/lib/bedstone").rc != 0
