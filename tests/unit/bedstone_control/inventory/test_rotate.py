"""Rotation of an inventory's secrets: what changes in the vault, and what is refused."""

from __future__ import annotations

import datetime as dt
import io
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from bedstone_control import cli
from bedstone_control.inventory import create, rotate
from bedstone_control.inventory.create import PASSWORD_FILE, SETTINGS_FILE, VAULT_FILE, NewInventory
from bedstone_control.roles import secrets as held_secrets
from bedstone_control.vault import content as vault

if TYPE_CHECKING:
    from pathlib import Path

NEW = NewInventory(name="production", host="192.0.2.10", domain="pay.example.com")
KEY, PASSWORD = "apps.payments.secret_key", "apps.payments.database_password"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a new inventory whose app has a secret of its own, offered with its previous value."""
    made = create.create(NEW, tmp_path)
    path = made / SETTINGS_FILE
    settings = yaml.safe_load(path.read_text())
    settings["bedstone_apps"][0]["env"] = {
        "STRIPE": "${secret.stripe}",
        "TOKEN": "${secret.token}",
        "TOKENS": "${secret.token},${secret.token.previous}",
    }
    path.write_text(yaml.safe_dump(settings))
    content = vault.read_vault(made / VAULT_FILE, made / PASSWORD_FILE)
    content["bedstone_secrets"]["apps"]["payments"] |= {"stripe": "sk-1", "token": "token-1"}
    vault.write_vault(made / VAULT_FILE, content, made / PASSWORD_FILE)
    return made


def secrets_in(directory: Path) -> dict[str, Any]:
    content = vault.read_vault(directory / VAULT_FILE, directory / PASSWORD_FILE)
    found: dict[str, Any] = content["bedstone_secrets"]
    return found


def rotated(directory: Path, *arguments: str) -> int:
    return cli.main(["rotate", str(directory), *arguments])


def test_password_is_replaced_and_nothing_else(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = secrets_in(directory)
    assert rotated(directory, PASSWORD) == 0
    after = secrets_in(directory)
    old, new = (one["apps"]["payments"]["database_password"] for one in (before, after))
    assert new != old
    assert len(new) >= 40
    before["apps"]["payments"]["database_password"] = new
    assert after == before
    said = capsys.readouterr().out
    assert "previous login stays until the release" in said
    assert "playbooks/site.yml" in said
    assert "--forget" not in said
    assert old not in said
    assert new not in said


def test_secret_key_keeps_its_previous_value_until_it_is_forgotten(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = secrets_in(directory)["apps"]["payments"]["secret_key"]
    assert rotated(directory, KEY) == 0
    assert f"rotate production {KEY} --forget" in capsys.readouterr().out
    after = secrets_in(directory)
    assert after["previous"] == {"apps": {"payments": {"secret_key": old}}}
    assert after["apps"]["payments"]["secret_key"] != old
    written = (directory / VAULT_FILE).read_bytes()
    assert rotated(directory, KEY) == 1
    assert "would be lost before a release knows the present one" in capsys.readouterr().err
    assert (directory / VAULT_FILE).read_bytes() == written
    assert rotated(directory, KEY, "--forget") == 0
    assert secrets_in(directory)["previous"]["apps"]["payments"] == {}
    written = (directory / VAULT_FILE).read_bytes()
    assert rotated(directory, KEY, "--forget") == 0
    assert (directory / VAULT_FILE).read_bytes() == written
    assert rotated(directory, KEY) == 0


def test_own_secret_is_asked_for_and_keeps_the_previous_value_where_it_is_offered(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("sk-2\ntoken-2\n"))
    assert rotated(directory, "apps.payments.stripe", "apps.payments.token") == 0
    after = secrets_in(directory)
    assert after["apps"]["payments"]["stripe"] == "sk-2"
    assert after["previous"] == {"apps": {"payments": {"token": "token-1"}}}
    said = capsys.readouterr().out
    assert "sk-" not in said
    assert "token-" not in said


@pytest.mark.parametrize(
    ("arguments", "typed", "message"),
    [
        (["apps.payments.secret_kye"], "", "Did you mean apps.payments.secret_key?"),
        ([PASSWORD, "backup.key"], "", "backup.key is rotated alone"),
        ([PASSWORD, "apps.payments.stripe"], "", "got no value"),
        ([PASSWORD, "apps.payments.stripe"], "sk-1\n", "is the value that the vault has"),
        ([PASSWORD, "ca"], "", "ca is rotated alone"),
        ([PASSWORD, "--sign"], "", "--sign is a step of `ca`"),
        (["ca", "--sign"], "", "no next authority"),
        (["ca", "--unsign"], "", "no previous authority"),
        (["certificates", "--forget"], "", "Nothing previous is kept"),
        ([], "", "Name the secrets to replace"),
        ([PASSWORD, "--list"], "", "without names"),
        (["vault-password", "--vault-password-file", "absent"], "", "absent"),
    ],
)
def test_bad_input_changes_nothing(
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    typed: str,
    message: str,
) -> None:
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    assert rotated(directory, *arguments) == 1
    assert message in capsys.readouterr().err
    assert {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == before


def test_password_of_a_role_that_logs_in_itself_is_refused(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = directory / SETTINGS_FILE
    settings = yaml.safe_load(path.read_text())
    settings["bedstone_apps"][0]["database"] = {"client_certificate": True}
    path.write_text(yaml.safe_dump(settings))
    before = (directory / VAULT_FILE).read_bytes()
    assert rotated(directory, PASSWORD) == 1
    assert "new connections fail" in capsys.readouterr().err
    assert (directory / VAULT_FILE).read_bytes() == before


def test_write_that_is_cut_leaves_the_vault(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}

    def fail(_descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    assert rotated(directory, KEY) == 1
    assert {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == before


def test_authority_is_exchanged_in_three_steps(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = secrets_in(directory)["ca"]
    assert rotated(directory, "ca") == 0
    assert "rotate production ca --sign" in capsys.readouterr().out
    added = secrets_in(directory)["ca"]
    assert {name: added[name] for name in ("certificate", "key")} == one
    written = (directory / VAULT_FILE).read_bytes()
    assert rotated(directory, "ca") == 0
    assert "was done before" in capsys.readouterr().out
    assert (directory / VAULT_FILE).read_bytes() == written
    assert rotated(directory, "ca", "--sign") == 0
    assert "rotate production ca --forget" in capsys.readouterr().out
    signing = secrets_in(directory)["ca"]
    assert signing == {**added["next"], "previous": one}
    assert rotated(directory, "ca", "--forget") == 0
    assert secrets_in(directory)["ca"] == added["next"]
    said = capsys.readouterr().out
    assert "BEGIN" not in said


def test_backup_key_is_replaced_and_the_previous_one_kept_with_its_directories(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = directory / SETTINGS_FILE
    sftp = {"host": "b.example.com", "user": "u", "path": "/old/", "host_keys": ["k"]}
    backup = {"destinations": [{"name": "offsite", "sftp": sftp}]}
    path.write_text(path.read_text() + yaml.safe_dump({"bedstone_backup": backup}))
    old = secrets_in(directory)["backup"]["key"]
    assert rotated(directory, "backup.key") == 0
    said = capsys.readouterr().out
    after = secrets_in(directory)
    new = after["backup"]["key"]
    assert new != old
    assert after["previous"]["backup"] == {
        "key": old,
        "directories": ["sftp://u@b.example.com:22/old"],
    }
    assert "another `path` for each destination: offsite" in said
    assert "make backup-key NAME=production" in said
    assert old not in said
    assert new not in said
    assert rotated(directory, "backup.key") == 1
    assert secrets_in(directory) == after
    assert rotated(directory, "backup.key", "--forget") == 0
    assert secrets_in(directory)["previous"]["backup"] == {}


def test_certificates_are_to_be_issued_after_now(directory: Path) -> None:
    assert rotated(directory, "certificates") == 0
    moment = dt.datetime.fromisoformat(secrets_in(directory)["ca"]["issued_after"])
    assert dt.datetime.now(dt.UTC) - moment < dt.timedelta(minutes=1)


def test_vault_password_is_changed_by_the_command(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, content = (directory / PASSWORD_FILE).read_text(), secrets_in(directory)
    assert rotated(directory, "vault-password") == 0
    after = (directory / PASSWORD_FILE).read_text()
    assert after != before
    assert secrets_in(directory) == content
    said = capsys.readouterr().out
    assert str(directory / VAULT_FILE) in said
    assert before.strip() not in said
    assert after.strip() not in said


def test_table_has_ages_and_what_is_old(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = vault.read_vault(directory / VAULT_FILE, directory / PASSWORD_FILE)
    today = dt.datetime.now(dt.UTC).date()
    days = {KEY: 10, PASSWORD: 274, "apps.payments.database_migrate_password": 400}
    for name, age in days.items():
        content["bedstone_secrets"]["made"][name] = (today - dt.timedelta(days=age)).isoformat()
    held_secrets.replace(
        content,
        held_secrets.find(create.settings_of(directory), "apps.payments.token"),
        "token-2",
    )
    vault.write_vault(directory / VAULT_FILE, content, directory / PASSWORD_FILE)
    assert rotated(directory, "--list") == 0
    said = capsys.readouterr().out
    lines = {line.split()[0]: line for line in said.splitlines()}
    assert lines[KEY].split()[1:] == [str(today - dt.timedelta(days=10)), "10", "730"]
    assert lines[PASSWORD].split()[2:] == ["274", "365", "past", "3/4", "of", "its", "life"]
    assert lines["apps.payments.database_migrate_password"].endswith("past its life")
    assert "not known" in lines["apps.payments.stripe"]
    assert lines["apps.payments.token"].endswith("its previous value is still accepted")
    assert lines["ca"].split()[2:] == ["0", "3650"]
    for secret in secrets_in(directory)["apps"]["payments"].values():
        assert secret not in said


def test_old_authority_and_exchange_are_in_the_table(directory: Path) -> None:
    assert rotated(directory, "ca") == 0
    later = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=2800)
    (line,) = (
        line for line in rotate.table(rotate.Inventory(directory), later) if line.startswith("ca ")
    )
    assert line.endswith("past 3/4 of its life, the next one is trusted already")


def test_life_comes_from_the_settings(directory: Path) -> None:
    path = directory / SETTINGS_FILE
    path.write_text(f"{path.read_text()}\nbedstone_secret_life_days: {{passwords: 4}}\n")
    later = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=3)
    lines = rotate.table(rotate.Inventory(directory), later)
    assert [line for line in lines if "past 3/4" in line] == [
        line for line in lines if "_password" in line
    ]
