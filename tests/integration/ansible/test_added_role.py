"""A role is added in a few places, and then it is known everywhere and applied."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bedstone_control.checks import server
from tests.unit.bedstone_control.roles.test_registry import APP, SECRETS
from tests.unit.fixtures.checkout import ROOT

MODULE = """
from bedstone_control.roles.role import Group, Offer, Placeholder, Port, Role, Secret, Stage, token


def users(site):
    return [
        {"name": app.name, "password": site.app_secrets(app)["cache_password"]}
        for app in site.settings.apps if app.cache
    ]


def clients(site):
    return [f"{site.addresses[host]}/32" for host in site.groups.get("app", [])]


def secrets(settings):
    for app in settings.apps:
        if app.cache:
            yield Secret(("apps", app.name, "cache_password"), "of its cache", token(32), least=16)


def values(site, app, migrate):
    password = site.app_secrets(app)["cache_password"]
    return {"cache.url": f"cache://{app.name}:{password}@cache:{site.port('cache_port')}"}


def cache_lines(given):
    return "".join(f"user {user['name']}\\n" for user in given)


ROLE = Role(
    name="cache",
    group=Group("cache", "keeps the caches", lambda s: any(app.cache for app in s.apps)),
    stage=Stage.FRONT,
    arguments={"cache_users": users},
    ports=(Port("cache_port", 6380, "the cache", ("cached",), clients),),
    secrets=secrets,
    offers=(
        Offer(
            needs="a cache",
            setting={"cache": True},
            used_by=lambda app: app.cache,
            placeholders={"cache.url": Placeholder("where the cache is", secret=True)},
            variables={"CACHE_URL": "${cache.url}"},
            values=values,
        ),
    ),
    filters=(cache_lines,),
)
"""
FOLDER = {
    "meta/argument_specs.yml": """
argument_specs:
  main:
    short_description: A cache for apps
    options:
      cache_users: {type: list, elements: dict, required: true, description: The users.}
      cache_port: {type: int, default: 6380, description: The port.}
      cache_file: {type: path, default: /etc/cached.conf, description: The file.}
""",
    "defaults/main.yml": "cache_port: 6380\ncache_file: /etc/cached.conf\n",
    "tasks/main.yml": """
- name: Write the users
  ansible.builtin.copy:
    dest: "{{ cache_file }}"
    content: "{{ cache_users | cache_lines }}"
    mode: "0600"
""",
}
# What a real role has in addition: its scenario, its tests, a line for users, and `make docs`.
FURTHER = ("molecule/cache", "tests/unit/bedstone_control/roles/test_cache.py", "CHANGELOG.md")
GENERATED = 1


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the project to which a role was added, and count the places."""
    copy = tmp_path_factory.mktemp("added")
    places = set(FURTHER)
    for part in ("src", "roles", "playbooks", "plugins"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / part, copy / part, ignore=ignored)
    shutil.copy(ROOT / "ansible.cfg", copy)
    (copy / "docs").mkdir()

    def edit(name: str, *changes: tuple[str, str]) -> None:
        text = (copy / name).read_text()
        for before, after in changes:
            assert text.count(before) == 1, before
            text = text.replace(before, after)
        (copy / name).write_text(text)
        places.add(name)

    for name, text in FOLDER.items():
        path = copy / "roles/cache" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    places.add("roles/cache")
    (copy / "src/bedstone_control/roles/cache.py").write_text(MODULE)
    places.add("src/bedstone_control/roles/cache.py")
    edit(
        "src/bedstone_control/roles/registry.py",
        ("    base,\n    ca,\n", "    base,\n    ca,\n    cache,\n"),
        ("    app.ROLE", "    cache.ROLE,\n    app.ROLE"),
    )
    edit(
        "src/bedstone_control/settings/app.py",
        ("    media: ", "    cache: bool = False\n    media: "),
    )
    assert len(places) + GENERATED <= 8, sorted(places)
    assert "Wrote docs/settings.md" in ran(copy, "-m", "bedstone_control", "docs").stdout
    return copy


def ran(copy: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the copy, with the copy's packages."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=copy,
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(copy / "src"), **environment},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


PROBE = """
import json, sys
from bedstone_control.checks import apps, content, server, topology
from bedstone_control.checks.context import Context
from bedstone_control.inventory import create
from bedstone_control.roles import arguments, environment, registry, secrets
from bedstone_control.roles.site import Site
from bedstone_control.settings.root import Settings

given = json.loads(sys.argv[1])
settings = Settings.model_validate({"apps": [given]})
without = Settings.model_validate({"apps": [{**given, "cache": False}]})
vault = secrets.new_secrets(settings)
groups = {name: ["web1"] for name in ("all", "app", "proxy", "postgresql")}
inputs = {
    "settings": {"apps": [given]}, "secrets": vault["bedstone_secrets"], "host": "web1",
    "groups": groups | {"cache": ["web1"]}, "inventory_directory": "/", "cache_directory": "/",
}
site = Site.from_variables({**inputs, "addresses": {"web1": "10.0.0.1"}}, registry.ROLES)

def problems(module, given, **variables):
    context = Context({}, groups=groups | given, host_variables={"web1": variables})
    return [problem.message for problem in module.check(context, settings)]

named = Settings.model_validate({"apps": [{**given, "cache": False, "env": {"A": "${cache.url}"}}]})
print(json.dumps({
    "arguments": arguments.compute({"web1": inputs}, {"web1": "10.0.0.1"})["web1"],
    "environment": environment.environment(site, site.settings.apps[0]),
    "missing": secrets.missing_secrets(settings, {}),
    "not_missing": secrets.missing_secrets(without, {}),
    "groups": problems(topology, {}),
    "ports": problems(topology, {"cache": ["web1"]}, nginx_https_port=6380),
    "needs": [problem.message for problem in content.check(Context({}), named)],
    "watched": {port: sorted(found) for port, found in server.OWN_PROGRAMS.items()},
    "filters": sorted(registry.filters()),
}))
"""


def test_added_role_is_known_everywhere(checkout: Path) -> None:
    app = json.dumps(APP | {"cache": True})
    found = json.loads(ran(checkout, "-c", PROBE, app).stdout)
    (user,) = found["arguments"]["cache_users"]
    assert user["name"] == "shop"
    assert len(user["password"]) > 40
    assert found["environment"]["CACHE_URL"] == f"cache://shop:{user['password']}@cache:6380"
    (config,) = found["arguments"]["app_apps"]
    assert "CACHE_URL" in config["config"]["secret_variables"]
    assert "apps.shop.cache_password" in found["missing"]
    assert "apps.shop.cache_password" not in found["not_missing"]
    assert found["groups"] == ["The inventory's group `cache` has no host; it keeps the caches."]
    assert found["ports"] == [
        "On the host web1, `cache_port` and `nginx_https_port` are both 6380."
    ]
    assert found["needs"] == ["${cache.url} needs a cache, and the app has none."]
    assert found["watched"]["6380"] == ["cached"]
    assert 6380 not in server.OWN_PROGRAMS
    assert "cache_lines" in found["filters"]
    (opening,) = (each for each in found["arguments"]["firewall_openings"] if each["port"] == 6380)
    assert opening["networks"] == ["10.0.0.1/32"]


def test_added_role_is_in_the_pages_and_in_the_lists_of_the_playbooks(checkout: Path) -> None:
    page = (checkout / "docs/settings.md").read_text()
    assert "### Role cache\n" in page
    assert "| `cache_users` | *from the settings* |" in page
    assert "| `${cache.url}` | where the cache is |" in page
    assert "| `CACHE_URL` | `${cache.url}` |" in page
    variables = yaml.safe_load((checkout / "playbooks/group_vars/all/roles.yml").read_text())
    assert variables["cache_users"] == "{{ __arguments.cache_users }}"
    plays = yaml.safe_load((checkout / "playbooks/converge_front.yml").read_text())
    assert plays[-1]["hosts"] == "cache"
    assert plays[-1]["roles"] == [{"role": "cache", "tags": ["cache"]}]


def test_new_inventory_has_the_group_only_when_an_app_needs_it(checkout: Path) -> None:
    template = checkout / "src/bedstone_control/templates/settings.yml"
    probe = (
        "from bedstone_control.inventory import create as c;"
        "print(c.hosts_text(c.NewInventory('new', '192.0.2.1', 'shop.example.com')))"
    )
    before, text = ran(checkout, "-c", probe).stdout, template.read_text()
    assert text.count("\n    static:") == 1
    template.write_text(text.replace("\n    static:", "\n    cache: true\n    static:"))
    after = ran(checkout, "-c", probe).stdout
    template.write_text(text)
    assert "    cache: {hosts: {web1: }}\n" not in before
    assert "    cache: {hosts: {web1: }}\n" in after


def test_added_role_is_applied(checkout: Path, tmp_path: Path) -> None:
    """By the generated playbook, with its generated argument, its filter and its tag."""
    app_secrets = SECRETS | {"cache_password": "of-the-cache"}
    variables = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "bedstone_apps": [APP | {"cache": True}],
        "bedstone_secrets": {"apps": {"shop": app_secrets}},
        "bedstone_address": "192.0.2.1",
        "cache_file": str(tmp_path / "cached.conf"),
    }
    hosts = {"vars": variables, "hosts": {"web1": None}}
    group = {"cache": {"hosts": {"web1": None}}, "proxy": {}}
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(yaml.safe_dump({"all": {**hosts, "children": group}}))
    wire = {"import_tasks": "tasks/wire.yml", "tags": ["always"]}
    playbook = checkout / "playbooks/added.yml"
    playbook.write_text(
        json.dumps(
            [
                {"hosts": "all", "gather_facts": False, "tasks": [wire]},
                {"import_playbook": "converge_front.yml"},
            ]
        )
    )
    ansible = str(Path(sys.executable).with_name("ansible-playbook"))
    command = (ansible, f"--inventory={inventory}", str(playbook), "--tags=cache")
    ran(checkout, *command, ANSIBLE_CONFIG=str(checkout / "ansible.cfg"))
    assert (tmp_path / "cached.conf").read_text() == "user shop\n"
