"""The steps of the piggy bank's workflows run on this machine, and fail when they should.

PostgreSQL, lint, types, tests, bandit and pip-audit are real; pip-audit asks a stand-in of the
advisory service. Docker and ssh are stand-ins that note how they were called: tests/seeds builds
the image, and molecule/base logs in as a deploy account.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from testbed.paths import ROOT
from tests.integration.cluster import Cluster
from tests.integration.outside import World, world
from tests.integration.workflow import Outside, Ran, Repository

APP = ROOT / "tests/apps/octoco"
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaA\n-----END OPENSSH PRIVATE KEY-----"
PASSWORD = "a-token-of-the-registry"
SECRETS = (KEY.splitlines()[1], PASSWORD, "/hook")
CHECKS = [
    "Install the pinned packages",
    "Lint and format",
    "Types",
    "Tests",
    "Known vulnerabilities of the packages",
    "Insecure code",
]


def git(path: Path, *arguments: str) -> str:
    """Run git in a checkout."""
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.com")
    return subprocess.run(
        ["git", "-C", str(path), *identity, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository of the app alone, as a team has it."""
    path = tmp_path_factory.mktemp("delivery") / "app"
    left = shutil.ignore_patterns(".venv", "__pycache__", ".*_cache", "staticfiles")
    shutil.copytree(APP, path, ignore=left)
    git(path, "init", "--quiet", "--initial-branch=main")
    git(path, "add", "--all")
    git(path, "commit", "--quiet", "--message=first")
    return path


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Outside:
    return Outside(tmp_path_factory.mktemp("outside") / "bin")


@pytest.fixture
def around() -> Iterator[World]:
    with world() as made:
        yield made


@pytest.fixture
def repository(
    checkout: Path, outside: Outside, around: World, cluster: Cluster, database: str
) -> Iterator[Repository]:
    """Return the repository as it was committed, with all that its workflows reach."""
    outside.end_with({})
    socket, service = quote(str(cluster.folder), safe=""), f"{around.address}/v1/query"
    yield Repository(
        checkout,
        outside,
        known={
            "github.token": PASSWORD,
            "github.actor": "ada",
            "secrets.DEPLOY_KEY": KEY,
            "secrets.NOTIFY_URL": f"{around.address}/hook",
            "inputs.environment": "production",
            "inputs.release": "",
            "toJSON(needs)": json.dumps({"check": {"result": "success"}}),
        },
        environment={
            # The service container of the workflow is a PostgreSQL, too.
            "DATABASE_URL": f"postgresql://postgres@{socket}/{database}",
            "AUDIT_OPTIONS": f"--vulnerability-service osv --osv-url {service}",
            "URL": around.address,
            "SMOKE_SECONDS": "0",
            "GITHUB_API_URL": around.address,
            "GITHUB_SERVER_URL": "https://github.com",
            "GITHUB_REPOSITORY": "team/app",
            "GITHUB_RUN_ID": "7",
            "GITHUB_SHA": git(checkout, "rev-parse", "HEAD"),
        },
    )
    git(checkout, "checkout", "--quiet", "--", ".")
    git(checkout, "clean", "--quiet", "--force")


def passed(ran: list[Ran]) -> list[str]:
    """Return the names of steps, all of which have to have passed and shown no secret."""
    assert [(each.name, each.said) for each in ran if each.code] == []
    assert_no_secret("\n".join(each.said for each in ran))
    return [each.name for each in ran]


def assert_no_secret(said: str) -> None:
    assert [secret for secret in SECRETS if secret in said] == []


# --- check.yml ---


def test_checks_pass(repository: Repository, around: World) -> None:
    assert passed(repository.run("check", "check")) == CHECKS
    asked = [path for path, _ in around.asked]
    packages = re.findall(r"^[\w.-]+==", (APP / "requirements.txt").read_text(), re.MULTILINE)
    assert asked.count("/v1/query") > len(packages) / 2, "the markers leave some out"


def add(path: str, text: str) -> Callable[[Repository, World], None]:
    """Return what appends to a file."""

    def change(repository: Repository, _around: World) -> None:
        with (repository.path / path).open("a") as file:
            file.write(text)

    return change


def advise(_repository: Repository, around: World) -> None:
    """Publish an advisory."""
    around.vulnerable.add("django")


BAD = {
    "Lint and format": (add("core/views.py", "import os\n"), "F401"),
    "Types": (add("core/tasks.py", "\n\nNUMBER: int = ''\n"), "Incompatible types"),
    "Tests": (
        add("tests/test_api.py", "\n\ndef test_no() -> None:\n    assert not b''.hex\n"),
        "1 failed",
    ),
    "Known vulnerabilities of the packages": (advise, "PYSEC-2026-1"),
    "Insecure code": (add("core/tasks.py", "\n\nexec(input())\n"), "B102"),
}


@pytest.mark.parametrize("step", CHECKS[1:])
def test_check_fails(repository: Repository, around: World, step: str) -> None:
    change, said = BAD[step]
    change(repository, around)
    ran = repository.run_step("check", "check", step)
    assert ran.code != 0
    assert said in ran.said


def test_image_is_built_of_the_commit(repository: Repository) -> None:
    assert passed(repository.run("check", "image")) == ["Build"]
    (call,) = repository.outside.calls()
    commit = repository.environment["GITHUB_SHA"]
    assert call["arguments"][0] == "build"
    assert call["arguments"][-3:] == ["--tag", f"ghcr.io/org/octoco-backend:{commit}", "."]


# --- deliver.yml ---


def test_delivery_reaches_production(repository: Repository, around: World) -> None:
    jobs = ["approval", "image", "staging", "production", "notify"]
    names = [passed(repository.run("deliver", job)) for job in jobs]
    assert names[2][-2:] == ["Release", "Smoke test"]
    assert names[3][-2:] == ["Release", "Health check"]
    image, commit = "ghcr.io/org/octoco-backend", repository.environment["GITHUB_SHA"]
    calls = repository.outside.calls()
    said = [
        " ".join(call["arguments"][:1] if call["program"] == "docker" else call["arguments"][-1:])
        for call in calls
    ]
    release = "sudo bedstone release octoco --if-changed"
    to_server = ["login", "buildx", release]
    assert said == ["build", "login", "push", *to_server, *to_server]
    promoted = [call["arguments"][-3:] for call in calls if call["arguments"][0] == "buildx"]
    assert promoted == [
        ["--tag", f"{image}:{name}", f"{image}:{commit}"] for name in ("staging", "production")
    ]
    # The deposit is written in staging, and not in production.
    assert len(around.batches) == 1
    assert ("/repos/team/app/environments/production", f"Bearer {PASSWORD}") in around.asked
    assert around.messages == []


def test_secrets_are_in_no_command_line_and_the_key_goes(repository: Repository) -> None:
    for job in ("image", "staging"):
        passed(repository.run("deliver", job))
    calls = repository.outside.calls()
    assert_no_secret(json.dumps([call["arguments"] for call in calls]))
    logins = [call for call in calls if call["arguments"][0] == "login"]
    assert [call["input"] for call in logins] == [f"{PASSWORD}\n"] * 2
    (ssh,) = [call for call in calls if call["program"] == "ssh"]
    assert (ssh["key"], ssh["mode"]) == (f"{KEY}\n", "0o100600")
    assert not Path(ssh["key_path"]).exists()
    assert "DEPLOY_KEY" not in ssh["environment"]


def test_ssh_trusts_the_known_keys_alone(repository: Repository) -> None:
    passed(repository.run("deliver", "staging"))
    (call,) = [call for call in repository.outside.calls() if call["program"] == "ssh"]
    # The real program reads the options, and shows what they mean.
    shown = subprocess.run(
        ["ssh", "-G", *call["arguments"]], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert {
        "user deploy",
        "hostname staging.octoco.app",
        "batchmode yes",
        "stricthostkeychecking true",
        f"userknownhostsfile {repository.path}/delivery/known_hosts",
        "globalknownhostsfile /dev/null",
        "identitiesonly yes",
        "identityagent none",
    } <= set(shown)


def test_server_that_is_not_reached_stops_the_delivery(repository: Repository) -> None:
    repository.outside.end_with({"ssh": 255})
    *_, release, shown = repository.run("deliver", "staging")
    assert (release.name, release.code) == ("Release", 255)
    assert "hint: delivery/bedstone.sh staging status octoco" in release.said
    assert shown.name == "Show what serves"


def test_release_that_fails_stops_the_delivery(repository: Repository) -> None:
    repository.outside.end_with({"ssh": 1})
    *_, release, _ = repository.run("deliver", "staging")
    assert (release.name, release.code) == ("Release", 1)
    assert "connection broke" not in release.said


@pytest.mark.parametrize("what", ["healthy", "writes"])
def test_smoke_test_fails_and_names_the_way_back(
    repository: Repository, around: World, what: str
) -> None:
    setattr(around, what, False)
    *_, smoke, shown = repository.run("deliver", "staging")
    assert (smoke.name, smoke.code) == ("Smoke test", 1)
    assert "hint: the previous release: delivery/bedstone.sh staging rollback octoco" in smoke.said
    assert shown.name == "Show what serves"


@pytest.mark.parametrize("found", [None, {"protection_rules": [{"type": "wait_timer"}]}, {}])
def test_production_without_reviewers_stops_the_delivery(
    repository: Repository, around: World, found: dict[str, object] | None
) -> None:
    around.environment = found
    (ran,) = repository.run("deliver", "approval")
    assert ran.code == 1
    assert "no required reviewers" in ran.said


def test_failure_sends_a_message(repository: Repository, around: World) -> None:
    results = {"check": "success", "staging": "failure", "production": "skipped"}
    needs = {job: {"result": result, "outputs": {}} for job, result in results.items()}
    repository.known["toJSON(needs)"] = json.dumps(needs)
    passed(repository.run("deliver", "notify"))
    (message,) = around.messages
    assert message["text"].startswith("Delivery of team/app ")
    assert "failed (staging: failure)" in message["text"]
    assert message["text"].endswith("https://github.com/team/app/actions/runs/7")


@pytest.mark.parametrize("url", ["", "http://127.0.0.1:1/hook", "{address}/other"])
def test_webhook_that_fails_or_is_not_set_is_an_error(
    repository: Repository, around: World, url: str
) -> None:
    repository.known["toJSON(needs)"] = json.dumps({"check": {"result": "failure"}})
    repository.known["secrets.NOTIFY_URL"] = url.format(address=around.address)
    (ran,) = repository.run("deliver", "notify")
    assert ran.code == 1
    assert "error: " in ran.said
    assert "http" not in ran.said


# --- rollback.yml ---


@pytest.mark.parametrize(
    ("release", "sent"),
    [
        ("", "rollback octoco"),
        ("20261120_101500-v1.4.2", "rollback octoco 20261120_101500-v1.4.2"),
        # What a person types is one word for the server's shell.
        ("1; id $(id)", r"rollback octoco 1\;\ id\ \$\(id\)"),
    ],
)
def test_rollback_button(repository: Repository, release: str, sent: str) -> None:
    repository.known["inputs.release"] = release
    assert passed(repository.run("rollback", "rollback")) == ["Roll back", "Health check"]
    (call,) = repository.outside.calls()
    assert call["arguments"][-2:] == ["deploy@api.octoco.app", f"sudo bedstone {sent}"]


@pytest.mark.parametrize("environment", ["other", "../x", ""])
def test_environment_that_is_not_there_is_refused(repository: Repository, environment: str) -> None:
    repository.known["inputs.environment"] = environment
    (ran,) = repository.run("rollback", "rollback")
    assert ran.code == 2
    assert repository.outside.calls() == []
