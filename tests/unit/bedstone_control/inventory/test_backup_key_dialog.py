"""The backup key: made, kept, shown, and shown to be kept."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from bedstone_control import cli
from bedstone_control.inventory import create
from bedstone_control.inventory.create import PASSWORD_FILE, SETTINGS_FILE, VAULT_FILE, NewInventory
from bedstone_control.vault import backup_key, ssh_keys
from bedstone_control.vault import content as vault
from tests.unit.fixtures.destinations import OFFSITE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY = "k7qm2-9xwv3-0tz5h-bbyyn-5vpke-qgcbe-dhasf-eq9jy"
THEIRS = "Tr0ub4dor+and/three=more.words:of-mine"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """An inventory as `make new` makes it."""
    return create.create(
        NewInventory(name="production", host="192.0.2.10", domain="pay.example.com"), tmp_path
    )


def key_of(directory: Path) -> str:
    content = vault.read_vault(directory / VAULT_FILE, directory / PASSWORD_FILE)
    return str(vault.backup_key(content))


def backup_of(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((directory / SETTINGS_FILE).read_text())
    backup: dict[str, Any] = found["bedstone_backup"]
    return backup


# --- the key itself


def test_keys_are_strong_and_never_the_same() -> None:
    keys = {backup_key.make() for _ in range(100)}
    assert len(keys) == 100
    for key in keys:
        assert re.fullmatch(r"[0-9a-hjkmnp-tv-z]{5}(-[0-9a-hjkmnp-tv-z]{5}){7}", key)
        assert backup_key.fault(key) is None


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        (None, "is not a text"),
        (12345, "is not a text"),
        ("", "is not one word"),
        ("correct horse battery staple correct horse", "is not one word"),
        ("a-line\nand-another-line-that-is-long-enough", "is not one word"),
        ("Sw0rdfish", "is too short: 9 characters where 32"),
        ("ab" * 20, "is too simple"),
    ],
)
def test_weak_keys_are_told_and_not_shown(key: object, wrong: str) -> None:
    said = backup_key.fault(key)
    assert said is not None
    assert wrong in said
    assert not key or str(key) not in said


def test_fingerprint_is_short_stable_and_tells_nothing() -> None:
    found = backup_key.fingerprint(KEY)
    assert re.fullmatch(r"\w{4}-\w{4}-\w{4}-\w{4}", found)
    assert found == backup_key.fingerprint(KEY) == "19zn-nm9s-fz7j-4dm2"
    assert found != backup_key.fingerprint(KEY[:-1] + "z")
    assert backup_key.is_fingerprint(f" {found}\n", KEY)
    assert not backup_key.is_fingerprint("", KEY)
    assert yaml.safe_load(backup_key.held_line(KEY)) == {"key_held": found}


@pytest.mark.parametrize(
    "typed",
    [
        KEY,
        f"  {KEY}\n",
        KEY.upper(),
        KEY.replace("-", ""),
        KEY.replace("-", " "),
        KEY.replace("0", "O"),
    ],
)
def test_key_of_ours_is_recognised_as_people_type_it(typed: str) -> None:
    assert backup_key.same(typed, KEY)


@pytest.mark.parametrize("typed", ["", "-", KEY[:-1], KEY + "x", KEY[1:], THEIRS, "ключ"])
def test_another_key_is_not_the_same(typed: str) -> None:
    assert not backup_key.same(typed, KEY)


def test_key_of_a_person_s_own_is_compared_letter_by_letter() -> None:
    assert backup_key.same(f"{THEIRS}\n", THEIRS)
    assert not backup_key.same(THEIRS.lower(), THEIRS)
    assert not backup_key.same(THEIRS.replace("-", ""), THEIRS)


# --- private keys for SFTP


def pem(key: Any, form: serialization.PrivateFormat, passphrase: bytes = b"") -> str:
    how = (
        serialization.BestAvailableEncryption(passphrase)
        if passphrase
        else serialization.NoEncryption()
    )
    encoded: bytes = key.private_bytes(serialization.Encoding.PEM, form, how)
    return encoded.decode()


OPENSSH = serialization.PrivateFormat.OpenSSH
PKCS8 = serialization.PrivateFormat.PKCS8
PKCS1 = serialization.PrivateFormat.TraditionalOpenSSL
RSA = rsa.generate_private_key(65537, 2048)
ED25519 = ed25519.Ed25519PrivateKey.generate()
# Of ssh-keygen, made for this file.
WITH_PASSPHRASE = """\
-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAACmFlczI1Ni1jdHIAAAAGYmNyeXB0AAAAGAAAABAZ+Bpuz7
9AALzSjETZmWTFAAAAEAAAAAEAAAAzAAAAC3NzaC1lZDI1NTE5AAAAIGlqrejm8czemMhx
Vyb0c31vE7GShjYhbDYbeRNRYB58AAAAkBKopwdN3KFgtPmrQR5jFG8YRYsSDbAZlUUuNT
lIaOA+x9MoUP9yaWZE/YwYPj6l5cPGoZQqCWFcAeJZyHYtM5znu/1tbigY02GAC6NpAGVl
6kBJg90yHFjchBT4lYHOPppGpf1kTja/PTQj6bpN4E1MrXpx/QSF2ZPFaJcAv+eRyjlqCs
/WKCcTV6L8txsPXQ==
-----END OPENSSH PRIVATE KEY-----
"""
EC = ec.generate_private_key(ec.SECP256R1())


@pytest.mark.parametrize(
    "key",
    [
        ssh_keys.make_private_key(),
        ssh_keys.make_private_key().strip(),
        pem(RSA, OPENSSH),
        pem(RSA, PKCS1),
        pem(EC, PKCS1),
    ],
)
def test_private_keys_are_read_in_the_forms_that_openssh_reads(key: str) -> None:
    assert ssh_keys.private_key_fault(key) is None
    assert re.match(r"(ssh-|ecdsa-)\S+ \S+ me$", ssh_keys.public_line(key, "me"))


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        (WITH_PASSPHRASE, "has a passphrase"),
        (pem(RSA, PKCS1, b"secret"), "has a passphrase"),
        (pem(RSA, PKCS8, b"secret"), "has a passphrase"),
        (pem(ED25519, OPENSSH)[:200], "no private key as OpenSSH writes it"),
        ("ssh-ed25519 AAAA alice@laptop", "no private key as OpenSSH writes it"),
        ("", "no private key as OpenSSH writes it"),
        (None, "no private key as OpenSSH writes it"),
        (pem(ED25519, PKCS8), "in OpenSSH's own form, not PKCS#8"),
        (pem(ed448.Ed448PrivateKey.generate(), PKCS8), "no keys of this kind"),
        (
            pem(rsa.generate_private_key(65537, 1024), PKCS1),
            "fewer than 2048 bits",
        ),
    ],
    ids=range(10),
)
def test_private_keys_that_cannot_be_used_are_told(key: object, wrong: str) -> None:
    said = ssh_keys.private_key_fault(key)
    assert said is not None
    assert wrong in said


# --- the inventory's secrets


def test_new_inventory_has_a_key_of_its_own(tmp_path: Path, directory: Path) -> None:
    other = create.create(
        NewInventory(name="staging", host="192.0.2.11", domain="stage.example.com"), tmp_path
    )
    assert backup_key.fault(key_of(directory)) is None
    assert key_of(directory) != key_of(other)


def declare(directory: Path, *destinations: dict[str, Any]) -> None:
    path = directory / SETTINGS_FILE
    settings = yaml.safe_load(path.read_text())
    settings["bedstone_backup"]["destinations"] = list(destinations)
    path.write_text(yaml.safe_dump(settings))


def test_key_pair_of_a_destination_is_made_once_and_its_public_half_told(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    declare(directory, OFFSITE)
    before = key_of(directory)
    assert cli.main(["secrets", str(directory)]) == 0
    said = capsys.readouterr().out
    assert "backup.destinations.offsite.private_key" in said
    assert "bedstone@backup.example.com lets the servers in by this line" in said
    line = re.search(r"^  (ssh-ed25519 \S+ bedstone-production-offsite)$", said, re.MULTILINE)
    assert line
    assert "PRIVATE" not in said
    assert key_of(directory) == before
    kept = (directory / VAULT_FILE).read_bytes()
    assert cli.main(["secrets", str(directory)]) == 0
    assert line[1] in capsys.readouterr().out
    assert (directory / VAULT_FILE).read_bytes() == kept


def test_secrets_of_a_bucket_are_asked_for(directory: Path) -> None:
    s3 = {"endpoint": "https://s3.example.com", "bucket": "abc", "region": "eu"}
    declare(directory, {"name": "bucket", "s3": s3})
    added, missing = create.add_secrets(directory)
    assert added == []
    assert missing == [
        "backup.destinations.bucket.access_key",
        "backup.destinations.bucket.secret_key",
    ]


def test_vault_of_another_form_is_left_alone(directory: Path) -> None:
    content = vault.read_vault(directory / VAULT_FILE, directory / PASSWORD_FILE)
    content["bedstone_secrets"]["backup"] = "a text"
    vault.write_vault(directory / VAULT_FILE, content, directory / PASSWORD_FILE)
    before = (directory / VAULT_FILE).read_bytes()
    with pytest.raises(ValueError, match="`backup` is no mapping"):
        create.add_secrets(directory)
    assert (directory / VAULT_FILE).read_bytes() == before


# --- the dialogue


class Terminal(io.StringIO):
    """A standard stream that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Terminal]:
    """Return a function that puts a person before a terminal and returns what it shows."""

    def sit_down(*typed: str) -> Terminal:
        shown, answers = Terminal(), iter(typed)
        monkeypatch.setattr("sys.stdin", Terminal("\n" * 10))
        monkeypatch.setattr("sys.stdout", shown)

        def ask(prompt: str) -> str:
            shown.write(prompt)
            return next(answers)

        monkeypatch.setattr("getpass.getpass", ask)
        return shown

    return sit_down


def test_key_is_shown_once_asked_for_and_its_fingerprint_written(
    directory: Path, terminal: Callable[..., Terminal]
) -> None:
    key = key_of(directory)
    before = (directory / SETTINGS_FILE).read_text()
    shown = terminal("something else", key.upper())
    assert cli.main(["backup-key", str(directory)]) == 0
    text = shown.getvalue()
    start, end = text.index("\x1b[?1049h"), text.index("\x1b[?1049l")
    assert start < text.index(key) < end
    assert key not in text[end:]  # gone from the screen before it is asked for
    assert "Backup key: " in text[end:]
    assert backup_of(directory)["key_held"] == backup_key.fingerprint(key)
    after = (directory / SETTINGS_FILE).read_text()
    assert len(after.splitlines()) == len(before.splitlines()) + 1
    assert set(before.splitlines()) < set(after.splitlines())


def test_three_wrong_answers_write_nothing(
    directory: Path, terminal: Callable[..., Terminal], capsys: pytest.CaptureFixture[str]
) -> None:
    before = (directory / SETTINGS_FILE).read_bytes()
    terminal("a", "b", "c")
    assert cli.main(["backup-key", str(directory)]) == 1
    assert "Nothing was written" in capsys.readouterr().err
    assert (directory / SETTINGS_FILE).read_bytes() == before


def test_interrupted_dialogue_leaves_no_key_on_the_screen(
    directory: Path, terminal: Callable[..., Terminal], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = terminal()

    def interrupt(_prompt: str) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.input", interrupt)
    assert cli.main(["backup-key", str(directory)]) == 1
    assert shown.getvalue().endswith("\x1b[?1049l")


def test_key_is_not_shown_to_a_pipe_unless_that_is_meant(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["backup-key", str(directory)]) == 1
    said = capsys.readouterr()
    assert key_of(directory) not in said.out + said.err
    assert "shown on a terminal only" in said.err
    assert cli.main(["backup-key", str(directory), "--reveal"]) == 0
    assert capsys.readouterr().out == f"{key_of(directory)}\n"
    assert "key_held" not in backup_of(directory)


def test_key_from_a_pipe_is_checked(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    key = key_of(directory)
    monkeypatch.setattr("sys.stdin", io.StringIO("another\n"))
    assert cli.main(["backup-key", str(directory), "--check"]) == 1
    assert "key_held" not in backup_of(directory)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{key}\n"))
    assert cli.main(["backup-key", str(directory), "--check"]) == 0
    assert backup_of(directory)["key_held"] == backup_key.fingerprint(key)
    assert key not in capsys.readouterr().out


def test_line_is_told_where_the_file_can_not_be_changed(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = directory / SETTINGS_FILE
    path.write_text("bedstone_apps: []\nbedstone_backup: '{{ theirs }}'\n")
    before = path.read_bytes()
    monkeypatch.setattr("sys.stdin", io.StringIO(key_of(directory)))
    assert cli.main(["backup-key", str(directory), "--check"]) == 0
    said = capsys.readouterr().out
    assert f"Put this line into {path}" in said
    assert f"  key_held: {backup_key.fingerprint(key_of(directory))}" in said
    assert path.read_bytes() == before


def test_setting_in_a_file_of_its_own_is_found(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = yaml.safe_load((directory / SETTINGS_FILE).read_text())
    own = directory / "group_vars" / "all" / "backups.yml"
    own.write_text(yaml.safe_dump({"bedstone_backup": settings.pop("bedstone_backup")}))
    (directory / SETTINGS_FILE).write_text(yaml.safe_dump(settings))
    monkeypatch.setattr("sys.stdin", io.StringIO(key_of(directory)))
    assert cli.main(["backup-key", str(directory), "--check"]) == 0
    assert "key_held" in own.read_text()


def test_what_is_missing_is_said(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = vault.read_vault(directory / VAULT_FILE, directory / PASSWORD_FILE)
    content["bedstone_secrets"]["backup"] = {"key": "short"}
    vault.write_vault(directory / VAULT_FILE, content, directory / PASSWORD_FILE)
    assert cli.main(["backup-key", str(directory), "--check"]) == 1
    assert "is too short" in capsys.readouterr().err
    (directory / VAULT_FILE).unlink()
    assert cli.main(["backup-key", str(directory), "--check"]) == 1
    assert "make secrets NAME=production" in capsys.readouterr().err
    assert cli.main(["backup-key", "nowhere"]) == 1
    assert "There is no inventory" in capsys.readouterr().err
