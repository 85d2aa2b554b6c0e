"""The documentation says what the code does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from bedstone_control import docs
from bedstone_control.roles import environment, secrets
from bedstone_control.roles.registry import ROLES
from bedstone_control.settings.root import Settings
from tests.unit.bedstone_control.checks.test_sources import made
from tests.unit.fixtures import destinations
from tests.unit.fixtures.checkout import ROOT
from tests.unit.fixtures.sites import PUBLIC_KEY, Site, self_signed

PAGES = [
    ROOT / "docs" / "your-app.md",
    ROOT / "docs" / "operations.md",
    *sorted((ROOT / "tests" / "apps").glob("*/README.md")),
]
BLOCKS = [
    (path, block)
    for path in PAGES
    for block in re.findall(r"^```yaml\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)
    # On operations, other files are shown, too.
    if path.stem != "operations" or block.startswith("bedstone_")
]


GENERATED = docs.generated(ROOT / "roles")


@pytest.mark.parametrize("name", GENERATED)
def test_generated_file_is_current(name: str) -> None:
    assert (ROOT / name).read_text() == GENERATED[name], "run: python -m bedstone_control docs"


def test_settings_page_has_every_setting_and_every_role() -> None:
    page = docs.settings_page(ROOT / "roles")
    for name in Settings.model_fields:
        assert f"`bedstone_{name}`" in page
    for role in (ROOT / "roles").glob("*/meta/argument_specs.yml"):
        assert f"### Role {role.parents[1].name}\n" in page


def test_page_on_apps_names_every_default_variable() -> None:
    page = PAGES[0].read_text()
    for name in environment.default_variables(ROLES):
        assert f"`{name}`" in page


def settings_of(block: str) -> dict[str, Any]:
    """Return whole settings made of an example: a file or a part of one, apps, a part of an app."""
    given = yaml.safe_load(block)
    if isinstance(given, list):
        given = {"bedstone_apps": given}
    if "bedstone_apps" not in given:
        base = {
            "name": "shop",
            "domains": ["shop.example.com"],
            "source": {"path": "../../shop"},
            "services": {"web": {"command": "run", "port": 8000}},
        }
        beside = {name: given.pop(name) for name in list(given) if name.startswith("bedstone_")}
        given = {"bedstone_apps": [base | given], **beside}
    return dict(given)


def test_pages_have_examples() -> None:
    assert len(BLOCKS) >= 15
    without = {path.parent.name for path in PAGES} - {path.parent.name for path, _ in BLOCKS}
    # Pages without examples: the settings are those of molecule/release, the drill and the seeds.
    assert without <= {"ledger", "drill", "kore", "coffee", "octoco", "srq-hpn"}


def provide(site: Site, app: dict[str, Any]) -> None:
    """Make the files that an example's app refers to."""

    def write(path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    for origin in (app, *(each for each in app["services"].values() if "source" in each)):
        if "path" not in origin["source"]:
            continue
        sources = site.directory / "sources" / Path(origin["source"]["path"]).name
        origin["source"]["path"] = str(sources)
        write(sources / origin.get("build", {}).get("dockerfile", "Dockerfile"), "FROM scratch\n")
        if origin["source"].get("git_directory"):
            made(sources)
    for file in app.get("files", []):
        if "source" in file:
            write(site.directory / file["source"], "x")
    if "tls" in app:
        certificate, _ = self_signed(app["domains"][0])
        write(site.directory / app["tls"]["certificate"], certificate)
        write(site.directory / app["tls"]["key"], "$ANSIBLE_VAULT;1.1;AES256\n")


@pytest.mark.parametrize(
    ("path", "block"),
    BLOCKS,
    ids=[f"{path.parent.name}-{number}" for number, (path, _) in enumerate(BLOCKS)],
)
def test_example_is_right(path: Path, block: str, site: Site) -> None:
    """Each passes every check, not only the schema."""
    assert path.is_file()
    site.settings = settings_of(block)
    for app in site.settings["bedstone_apps"]:
        provide(site, app)
    places = site.settings.get("bedstone_backup", {}).get("destinations", [])
    for there in places:
        there.get("sftp", {})["host_keys"] = [destinations.HOST_KEY]  # of no server, in a page
    for deployer in site.settings.get("bedstone_deployers", []):
        deployer["authorized_keys"] = [PUBLIC_KEY]
    authority = {"ca": site.secrets["bedstone_secrets"]["ca"]}
    site.secrets = secrets.new_secrets(site.settings, {"bedstone_secrets": authority})
    for lacking in secrets.missing_secrets(site.settings, site.secrets):
        *way, name = lacking.split(".")
        place = site.secrets["bedstone_secrets"]
        for part in way:
            place = place.setdefault(part, {})
        place[name] = f"https://example.com/{name}"
    if places:
        destinations.hold(site)
    site.groups |= {group: ["web1"] for group in ("redis", "rabbitmq")}
    assert [str(problem) for problem in site.check()] == []
