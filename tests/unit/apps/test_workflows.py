"""The workflows of the piggy bank's stand-in: valid, safe, and of one mind with the inventory."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from bedstone.cli.main import COMMANDS, build_parser
from bedstone_control.roles.deployers import deployer_files
from tests.unit.fixtures.checkout import ROOT

APP = ROOT / "tests/apps/octoco"
FOLDER = APP / ".github/workflows"
NAMES = ["check", "deliver", "rollback"]
INVENTORY = ROOT / "inventories/seeds/piggy-bank"
BIN = Path(sys.executable).parent
TOOLS = {
    "schema": ["check-jsonschema", "--builtin-schema", "vendor.github-workflows"],
    "zizmor": ["zizmor", "--offline", "--quiet", "--strict-collection"],
    "actionlint": ["actionlint"],
}
RIGHTS = "permissions:\n      contents: read\n      actions: read"
# What each tool is there for: a change of a workflow, and what the tool says of it.
BROKEN = [
    ("schema", "check", "permissions: {}", "permisions: {}", "permisions"),
    ("schema", "deliver", "cancel-in-progress: false", "cancel: false", "cancel"),
    ("zizmor", "check", "persist-credentials: false", "fetch-depth: 1", "artipacked"),
    ("zizmor", "check", "@df4cb1c069e1874edd31b4311f1884172cec0e10 # v6.0.3", "@v6", "unpinned"),
    ("zizmor", "check", "make lint", "make ${{ github.head_ref }}", "template-injection"),
    ("zizmor", "deliver", RIGHTS, "permissions: write-all", "excessive-permissions"),
    ("actionlint", "deliver", "needs: staging", "needs: stagin", 'needs job "stagin"'),
    ("actionlint", "deliver", "toJSON(needs)", "toJSON(neds)", 'undefined variable "neds"'),
    ("actionlint", "rollback", 'rollback octoco ${RELEASE:+"$RELEASE"}', "$RELEASE", "SC2086"),
]


def workflow(name: str) -> dict[str, Any]:
    """Return a workflow; YAML's own name of the key `on` is true."""
    found: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yml").read_text())
    return found


def steps(name: str) -> list[tuple[str, dict[str, Any]]]:
    """Return a workflow's steps, each with the name of its job."""
    jobs = workflow(name)["jobs"].items()
    return [(job, step) for job, about in jobs for step in about.get("steps", [])]


def checked(tool: str, files: list[Path]) -> subprocess.CompletedProcess[str]:
    """Run a tool over workflows."""
    program, *options = TOOLS[tool]
    # In their repository's directory: a workflow that calls another one names it from there.
    return subprocess.run(
        [str(BIN / program), *options, *map(str, files)],
        cwd=files[0].parents[2],
        capture_output=True,
        text=True,
        check=False,
    )


def test_these_are_all_workflows() -> None:
    assert sorted(path.name for path in FOLDER.iterdir()) == [f"{name}.yml" for name in NAMES]


@pytest.mark.parametrize("tool", TOOLS)
def test_tool_finds_nothing(tool: str) -> None:
    done = checked(tool, sorted(FOLDER.iterdir()))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("tool", "name", "old", "new", "said"), BROKEN)
def test_tool_finds_a_mistake(
    tmp_path: Path, tool: str, name: str, old: str, new: str, said: str
) -> None:
    (tmp_path / ".git").mkdir()
    shutil.copytree(FOLDER, tmp_path / ".github/workflows")
    path = tmp_path / f".github/workflows/{name}.yml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    done = checked(tool, [path])
    assert done.returncode != 0
    assert said in done.stdout + done.stderr


def test_delivery_goes_from_the_checks_to_production() -> None:
    jobs = workflow("deliver")["jobs"]
    before = {name: job.get("needs", []) for name, job in jobs.items()}
    assert before == {
        "check": [],
        "approval": [],
        "image": ["check", "approval"],
        "staging": "image",
        "production": "staging",
        "notify": ["check", "approval", "image", "staging", "production"],
    }
    assert jobs["notify"]["if"] == "always()"
    for name in ("staging", "production"):
        assert jobs[name]["environment"]["name"] == name


@pytest.mark.parametrize("name", NAMES)
def test_no_two_runs_at_once_and_none_without_an_end(name: str) -> None:
    assert workflow(name)["permissions"] == {}
    assert workflow(name)["concurrency"]["group"]
    for job in workflow(name)["jobs"].values():
        assert job.keys() & {"timeout-minutes", "uses"}


@pytest.mark.parametrize("name", NAMES)
def test_each_step_is_one_command_and_secrets_are_in_its_environment_alone(name: str) -> None:
    found = [step for _, step in steps(name)]
    assert found
    for step in found:
        assert ("run" in step) != ("uses" in step)
        assert "\n" not in step.get("run", "").strip()
        assert "${{" not in str({key: step[key] for key in step if key != "env"})
    about = workflow(name)
    for job in about["jobs"].values():
        job.pop("steps", None)
    assert "secrets." not in str(about)


# --- Of one mind with inventories/seeds/piggy-bank ---


def values(environment: str) -> dict[str, str]:
    """Return an inventory's own values."""
    path = INVENTORY / environment / "group_vars/all/environment.yml"
    found: dict[str, str] = yaml.safe_load(path.read_text())
    return found


def settings_file(environment: str) -> dict[str, str]:
    """Return delivery/ENVIRONMENT.env."""
    lines = (APP / f"delivery/{environment}.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if not line.startswith("#"))


def server_commands() -> list[tuple[str, list[str]]]:
    """Return what the steps have the server run: the environment, and Bedstone's arguments."""
    found = []
    for name in NAMES:
        for _, step in steps(name):
            said = step.get("run", "")
            if not said.startswith("delivery/bedstone.sh"):
                continue
            release = '${RELEASE:+"$RELEASE"}'
            for given in ("", "20261120_101500-v1.4.2"):
                words = shlex.split(said.replace(release, given).replace("$ENVIRONMENT", "staging"))
                found.append((words[1], words[2:]))
    return found


def test_deploy_account_may_run_what_the_steps_run() -> None:
    declared = yaml.safe_load((INVENTORY / "settings.yml").read_text())["bedstone_deployers"]
    key = values("staging")["octoco_deploy_key"]
    (deployer,) = [each | {"authorized_keys": [key]} for each in declared]
    sudoers = deployer_files([deployer])[0]["content"]
    allowed = re.findall(r"/usr/local/bin/bedstone (\^.*?\$)", sudoers)
    commands = server_commands()
    assert {arguments[0] for _, arguments in commands} == {"release", "status", "rollback"}
    for environment, arguments in commands:
        assert (APP / f"delivery/{environment}.env").is_file()
        assert any(re.search(each, " ".join(arguments)) for each in allowed), arguments
        build_parser([COMMANDS[arguments[0]]]).parse_args(arguments)


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_account_address_and_image_are_the_inventorys(environment: str) -> None:
    inventory = yaml.safe_load((INVENTORY / "settings.yml").read_text())
    (app,), (deployer,) = inventory["bedstone_apps"], inventory["bedstone_deployers"]
    domain = values(environment)["octoco_domain"]
    given = settings_file(environment)
    assert given == {"SERVER": f"{deployer['name']}@{domain}", "URL": f"https://{domain}"}
    job = workflow("deliver")["jobs"][environment]
    assert job["environment"]["url"] == given["URL"]
    (promoted,) = [
        step["run"].partition("TO=")[2] for step in job["steps"] if "promote" in step.get("run", "")
    ]
    image, _, version = app["source"]["image"].partition(":")
    assert version == "{{ octoco_version }}"
    assert promoted == values(environment)["octoco_version"]
    assert f"$(REGISTRY)/{image.partition('/')[2]}" in (APP / "Makefile").read_text()


# --- The page that tells how to use them ---

PAGE = (ROOT / "docs/delivery.md").read_text()


def test_page_names_all_files_and_secrets() -> None:
    for path in [*FOLDER.iterdir(), *(APP / "delivery").iterdir()]:
        assert f"`{path.relative_to(APP)}`" in PAGE
    texts = "\n".join(path.read_text() for path in FOLDER.iterdir())
    secrets = set(re.findall(r"secrets\.(\w+)", texts))
    assert secrets == {"DEPLOY_KEY", "NOTIFY_URL"}
    assert all(f"`{name}`" in PAGE for name in secrets)


def test_page_shows_targets_and_scripts_that_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (APP / "Makefile").read_text(), re.MULTILINE))
    blocks = "\n".join(re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))
    named = re.findall(r"\bmake ([a-z ]+)", blocks)
    assert named
    assert {word for each in named for word in each.split()} <= targets
    used = set(re.findall(r"\bdelivery/\w+\.(?:sh|py)", blocks))
    assert used
    assert all((APP / path).is_file() for path in used)
