"""New inventories and further secrets."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret

from bedstone_control import cli
from bedstone_control.checks.secrets import weakness
from bedstone_control.inventory import create
from bedstone_control.inventory.create import PASSWORD_FILE, SETTINGS_FILE, VAULT_FILE, NewInventory
from bedstone_control.roles.secrets import missing_secrets, new_secrets
from bedstone_control.vault import content as vault
from tests.unit.fixtures.checkout import ROOT
from tests.unit.fixtures.sites import GOOD, PUBLIC_KEY, Site

NEW = NewInventory(
    name="production", host="192.0.2.10", domain="pay.example.com", ssh_key=PUBLIC_KEY
)


def content(directory: Path) -> dict[str, Any]:
    return vault.read_vault(directory / VAULT_FILE, directory / PASSWORD_FILE)


def test_new_inventory_is_whole_and_right(tmp_path: Path) -> None:
    directory = create.create(NEW, tmp_path)
    hosts = yaml.safe_load((directory / "hosts.yml").read_text())
    assert hosts["all"]["hosts"]["web1"]["ansible_host"] == "192.0.2.10"
    assert set(hosts["all"]["children"]) == {"proxy", "app", "postgresql"}
    settings = yaml.safe_load((directory / SETTINGS_FILE).read_text())
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "Dockerfile").write_text("")
    settings["bedstone_apps"][0]["source"]["path"] = "../app"
    groups = {name: ["web1"] for name in ("all", "app", "proxy", "postgresql")}
    assert Site(directory, settings, content(directory), groups, {}).check() == []


def test_settings_of_a_new_inventory_are_about_25_lines(tmp_path: Path) -> None:
    directory = create.create(NEW, tmp_path)
    assert 15 < len((directory / SETTINGS_FILE).read_text().splitlines()) <= 30


def test_secrets_are_strong_and_each_its_own(tmp_path: Path) -> None:
    directory = create.create(NEW, tmp_path)
    secrets = content(directory)["bedstone_secrets"]["apps"]["payments"]
    assert set(secrets) == {"secret_key", "database_password", "database_migrate_password"}
    assert len(set(secrets.values())) == 3
    assert [weakness(value, least=40) for value in secrets.values()] == [None] * 3


def test_vault_is_encrypted_and_its_password_private(tmp_path: Path) -> None:
    directory = create.create(NEW, tmp_path)
    assert (directory / VAULT_FILE).read_bytes().startswith(b"$ANSIBLE_VAULT;1.1;AES256\n")
    assert (directory / PASSWORD_FILE).stat().st_mode & 0o777 == 0o600
    assert (directory / VAULT_FILE).stat().st_mode & 0o777 == 0o600
    assert len((directory / PASSWORD_FILE).read_text().strip()) >= 40
    assert (directory / ".gitignore").read_text() == ".vault-password\n.vault-password.new\n"


def test_two_inventories_share_no_secret(tmp_path: Path) -> None:
    first = content(create.create(NEW, tmp_path / "a"))["bedstone_secrets"]
    second = content(create.create(NEW, tmp_path / "b"))["bedstone_secrets"]
    assert first["ca"]["key"] != second["ca"]["key"]
    assert not set(first["apps"]["payments"].values()) & set(second["apps"]["payments"].values())


def test_nothing_is_ever_overwritten(tmp_path: Path) -> None:
    directory = create.create(NEW, tmp_path)
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    with pytest.raises(FileExistsError, match="exists and is left alone"):
        create.create(NEW, tmp_path)
    assert {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == before
    assert list(tmp_path.iterdir()) == [directory]


def test_inventory_that_fails_half_way_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(vault, "write_vault", fail)
    with pytest.raises(OSError, match="disk full"):
        create.create(NEW, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "../x"}, "can't be an inventory's name"),
        ({"name": "-x"}, "can't be an inventory's name"),
        ({"host": "a b"}, "is no host name"),
        ({"domain": "https://x"}, "is no domain"),
        ({"app": "Pay Me"}, "can't be an app's name"),
        ({"user": "a b"}, "can't be an account's name"),
        ({"operator": "Alice"}, "can't be an account's name"),
        ({"source": "a: b"}, "can't be used as a path"),
        ({"ssh_key": "-----BEGIN OPENSSH PRIVATE KEY-----"}, "private key"),
    ],
)
def test_bad_arguments_are_refused(tmp_path: Path, change: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create.create(NewInventory(**{**vars(NEW), **change}), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_user_other_than_root_becomes_root(tmp_path: Path) -> None:
    directory = create.create(NewInventory(**{**vars(NEW), "user": "debian"}), tmp_path)
    host = yaml.safe_load((directory / "hosts.yml").read_text())["all"]["hosts"]["web1"]
    assert host["ansible_become"] is True


def add_app(directory: Path, **app: Any) -> None:
    path = directory / SETTINGS_FILE
    settings = yaml.safe_load(path.read_text())
    settings["bedstone_apps"].append(
        {"source": {"image": "a:1"}, "services": {"web": {"port": 1}}, **app}
    )
    path.write_text(yaml.safe_dump(settings))


def test_new_app_gets_its_secrets_and_others_keep_theirs(tmp_path: Path) -> None:
    directory = create.create(NEW, tmp_path)
    before = content(directory)["bedstone_secrets"]
    add_app(directory, name="shop", env={"STRIPE": "${secret.stripe_key}"})
    added, missing = create.add_secrets(directory)
    assert added == [
        "apps.shop.database_migrate_password",
        "apps.shop.database_password",
        "apps.shop.secret_key",
    ]
    assert missing == ["apps.shop.stripe_key"]
    after = content(directory)["bedstone_secrets"]
    assert after["ca"] == before["ca"]
    assert after["apps"]["payments"] == before["apps"]["payments"]
    assert set(after["apps"]["shop"]) == {
        "secret_key",
        "database_password",
        "database_migrate_password",
    }


def test_secrets_of_hooks_are_named_and_never_made_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = create.create(NEW, tmp_path)
    path = directory / SETTINGS_FILE
    hooks = [{"events": ["failure"], "webhook": "${secret.chat_url}"}, {"mail": ["a@example.com"]}]
    mail = {"server": "m", "user": "u", "password": "${secret.mail_password}", "sender": "b@c"}
    path.write_text(
        path.read_text() + yaml.safe_dump({"bedstone_hooks": hooks, "bedstone_mail": mail})
    )
    before = (directory / VAULT_FILE).read_bytes()
    assert create.add_secrets(directory) == ([], ["hooks.chat_url", "hooks.mail_password"])
    assert (directory / VAULT_FILE).read_bytes() == before
    assert cli.main(["secrets", str(directory)]) == 1
    said = capsys.readouterr().out
    assert "Only you can add, under bedstone_secrets: hooks.chat_url, hooks.mail_password" in said
    assert "ansible-vault edit" in said


def test_complete_vault_is_not_written_again(tmp_path: Path) -> None:
    directory = create.create(NEW, tmp_path)
    before = (directory / VAULT_FILE).read_bytes()
    assert create.add_secrets(directory) == ([], [])
    assert (directory / VAULT_FILE).read_bytes() == before


def test_inventory_without_a_vault_gets_one(tmp_path: Path) -> None:
    directory = create.create(NEW, tmp_path)
    (directory / VAULT_FILE).unlink()
    (directory / PASSWORD_FILE).unlink()
    added, missing = create.add_secrets(directory)
    assert len(added) == 5
    assert "ca" in added
    assert not missing
    assert "ca" in content(directory)["bedstone_secrets"]


def test_vault_without_its_password_is_left_alone(tmp_path: Path) -> None:
    directory = create.create(NEW, tmp_path)
    before = (directory / VAULT_FILE).read_bytes()
    (directory / PASSWORD_FILE).unlink()
    with pytest.raises(ValueError, match=r"There is no file .*vault-password"):
        create.add_secrets(directory)
    (directory / PASSWORD_FILE).write_text("another\n")
    with pytest.raises(ValueError, match="can't be decrypted"):
        create.add_secrets(directory)
    assert (directory / VAULT_FILE).read_bytes() == before


def test_plain_vault_is_refused(tmp_path: Path) -> None:
    directory = create.create(NEW, tmp_path)
    (directory / VAULT_FILE).write_text("bedstone_secrets: {}\n")
    with pytest.raises(ValueError, match="is not encrypted"):
        create.add_secrets(directory)


def test_secrets_are_made_of_settings_alone() -> None:
    made = new_secrets(GOOD)
    assert missing_secrets(GOOD, made) == []
    kept = copy.deepcopy(made)
    assert new_secrets(GOOD, made) == kept


def test_command_makes_an_inventory_and_says_what_comes_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "INVENTORIES", tmp_path)
    arguments = ["new", "production", "--host", "192.0.2.10", "--domain", "pay.example.com"]
    assert cli.main(arguments) == 0
    said = capsys.readouterr().out
    assert "playbooks/site.yml" in said
    assert "password manager" in said
    password = (tmp_path / "production" / PASSWORD_FILE).read_text().strip()
    assert password not in said
    assert cli.main(arguments) == 1
    assert "exists and is left alone" in capsys.readouterr().err
    assert cli.main(["secrets", "production"]) == 0
    assert "Nothing had to be added." in capsys.readouterr().out


def test_wrong_settings_are_told_by_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "INVENTORIES", tmp_path)
    directory = create.create(NEW, tmp_path)
    (directory / SETTINGS_FILE).write_text("bedstone_apps: [{name: x}]\n")
    assert cli.main(["secrets", "production"]) == 1
    assert "bedstone_apps.0.source" in capsys.readouterr().err
    (directory / SETTINGS_FILE).write_text("a: [\n")
    assert cli.main(["secrets", "production"]) == 1
    assert "is not valid YAML" in capsys.readouterr().err


def test_example_inventory_is_what_the_command_makes() -> None:
    example = ROOT / "inventories" / "example"
    new = NewInventory(
        name="example",
        host="192.0.2.10",
        domain="pay.example.com",
        ssh_key="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI... you@laptop",
    )
    assert (example / "hosts.yml").read_text() == create.hosts_text(new)
    assert (example / SETTINGS_FILE).read_text() == create.settings_text(new)


def test_text_that_ansible_shall_not_evaluate_stays_one(tmp_path: Path) -> None:
    password, file = tmp_path / "password", tmp_path / "vault.yml"
    vault.write_password(password)
    secret = VaultSecret(password.read_bytes().strip())
    text = "bedstone_secrets: {apps: {shop: {key: !unsafe 'a{#b', other: \"{{ x }}\"}}}\n"
    file.write_bytes(VaultLib([("default", secret)]).encrypt(text, secret))
    content = vault.read_vault(file, password)
    assert content["bedstone_secrets"]["apps"]["shop"] == {"key": "a{#b", "other": "{{ x }}"}
    vault.write_vault(file, content, password)
    plain = VaultLib([("default", secret)]).decrypt(file.read_bytes()).decode()
    assert "key: !unsafe 'a{#b'" in plain
    assert "other: '{{ x }}'" in plain


def test_deploy_key_is_made_and_its_public_half_shown(tmp_path: Path) -> None:
    directory = tmp_path / "production"
    (directory / "group_vars" / "all").mkdir(parents=True)
    (directory / create.SETTINGS_FILE).write_text(
        "bedstone_apps: [{name: shop, database: false, services: {web: {command: x}}, source: {git:"
        " 'git@git.example.com:a.git', version: v1, host_keys: [x]}}]\n"
    )
    added, missing = create.add_secrets(directory)
    assert "apps.shop.deploy_key" in added
    assert missing == []
    ((where, line),) = create.deploy_keys(directory).items()
    assert where == "shop: git@git.example.com:a.git"
    assert line.startswith("ssh-ed25519 AAAA")
    assert line.endswith(" bedstone-production-shop")
