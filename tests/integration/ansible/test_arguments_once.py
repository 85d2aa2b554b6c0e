"""The arguments of the roles are computed once in a run, and their secrets are shown nowhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from bedstone_control.roles import arguments, site
from tests.unit.fixtures.checkout import ROOT

HOSTS = ("web1", "web2", "db1")
SECRET = "only-of-the-vault"
APP = {
    "name": "shop",
    "domains": ["shop.example.com"],
    "source": {"image": "registry.example.com/shop:1"},
    "services": {"web": {"port": 3000}},
}
SECRETS = {
    "apps": {
        "shop": dict.fromkeys(
            ("secret_key", "database_password", "database_migrate_password"), SECRET
        )
    },
    "ca": {"certificate": "c", "key": SECRET},
}
WIRE = {"import_tasks": str(ROOT / "playbooks/tasks/wire.yml")}
SHOW = {
    "ansible.builtin.debug": {
        "msg": "{{ base_timezone }} {{ nginx_upstreams }} {{ __names }}",
    },
    "vars": {"__names": "{{ ca_certificates | map(attribute='name') }}"},
}


class Run(NamedTuple):
    """The output of a run, and how often it evaluated a setting."""

    output: str
    evaluated: int


def inventory(place: Path, **more: Any) -> dict[str, Any]:
    """Return an inventory of three hosts; each evaluation of a setting leaves a line in a file."""
    zone = f"{{{{ lookup('pipe', 'echo x >> {place}/evaluated; echo Europe/Vienna') }}}}"
    variables = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "bedstone_apps": [APP],
        "bedstone_timezone": zone,
        "bedstone_secrets": SECRETS,
        **more,
    }
    return {
        "all": {
            "vars": variables,
            "hosts": {
                f"{name}": {"bedstone_address": f"192.0.2.{number}"}
                for number, name in enumerate(HOSTS, start=1)
            },
            "children": {
                "app": {"hosts": {"web1": None, "web2": None}},
                "proxy": {"hosts": {"web1": None}},
                "postgresql": {"hosts": {"db1": None}},
            },
        }
    }


def play(place: Path, tasks: list[dict[str, Any]], *options: str, **more: Any) -> tuple[int, str]:
    """Run tasks on the hosts with the playbooks' variables; return exit code and output."""
    shutil.copytree(ROOT / "playbooks/group_vars", place / "group_vars")
    (place / "hosts.yml").write_text(yaml.safe_dump(inventory(place, **more)))
    plays = [{"hosts": "all", "gather_facts": False, "tasks": [task]} for task in tasks]
    (place / "play.yml").write_text(json.dumps(plays))
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            f"--inventory={place / 'hosts.yml'}",
            str(place / "play.yml"),
            *options,
        ],
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_CACHE_PLUGIN": "jsonfile",
            "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(place / "facts"),
        },
        cwd=ROOT,
    )
    return done.returncode, done.stdout + done.stderr


def evaluated(place: Path) -> int:
    """Return how often a setting was evaluated."""
    return len((place / "evaluated").read_text().splitlines())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that computes the arguments twice and uses them three times."""
    place = tmp_path_factory.mktemp("run")
    code, output = play(place, [WIRE, SHOW, WIRE, SHOW, SHOW])
    assert code == 0, output
    return Run(output, evaluated(place))


def test_settings_are_evaluated_once_for_a_host_in_a_run(run: Run) -> None:
    assert run.output.count("Europe/Vienna ['shop-web']") == 9
    assert run.evaluated == len(HOSTS)


def test_each_host_gets_its_own_arguments(run: Run) -> None:
    found = re.findall(r"ok: \[(\w+)\] => \n +msg: .* (\[.*\])", run.output)
    own = {("web1", "['shop']"), ("web2", "[]"), ("db1", "['postgresql']")}
    assert (len(found), set(found)) == (9, own)


def test_no_warning_and_no_deprecation(run: Run) -> None:
    assert "WARNING" not in run.output
    assert "DEPRECATION" not in run.output


def test_a_limited_run_knows_the_addresses_of_all_hosts(tmp_path: Path) -> None:
    show = {"ansible.builtin.debug": {"msg": "{{ app_apps[0].config.hosts }}"}}
    code, output = play(tmp_path, [WIRE, show], "--limit=web1")
    assert code == 0, output
    assert "postgres: 192.0.2.3" in output
    assert evaluated(tmp_path) == 1


def test_no_secret_is_shown_or_written_to_a_cache_of_facts(tmp_path: Path) -> None:
    code, output = play(tmp_path, [WIRE, SHOW, WIRE], "-vvvv")
    assert code == 0, output
    assert SECRET not in output
    assert [path for path in (tmp_path / "facts").glob("*") if SECRET in path.read_text()] == []


def test_wrong_settings_are_shown(tmp_path: Path) -> None:
    code, output = play(tmp_path, [WIRE], bedstone_backup={"keep_days": "many"})
    assert code == 2
    assert "keep_days" in output
    assert SECRET not in output


def test_a_run_without_the_computation_says_how_to_run_it(tmp_path: Path) -> None:
    code, output = play(tmp_path, [SHOW])
    assert code == 2
    assert "without --start-at-task" in output


def test_equal_settings_are_validated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def count(given: dict[str, Any]) -> Any:
        seen.append(given)
        return site.validated(given)

    monkeypatch.setattr(arguments, "validated", count)
    own = {
        "settings": {"apps": [APP]},
        "secrets": SECRETS,
        "groups": {"all": ["a", "b", "c"]},
        "inventory_directory": "/",
        "cache_directory": "/",
    }
    other = own | {"settings": {"apps": [APP], "timezone": "Europe/Vienna"}}
    inputs = {"a": own | {"host": "a"}, "b": own | {"host": "b"}, "c": other | {"host": "c"}}
    found = arguments.compute(inputs, {})
    assert len(seen) == 2
    assert found["b"]["base_timezone"] == "Etc/UTC"
    assert found["c"]["base_timezone"] == "Europe/Vienna"
