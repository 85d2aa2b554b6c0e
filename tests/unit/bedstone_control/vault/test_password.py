"""The vault's password changes for all files of an inventory, wherever the change is cut."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret

from bedstone_control.inventory import create
from bedstone_control.vault import content, password

if TYPE_CHECKING:
    from collections.abc import Iterator

WRITES = 5  # the pending password, three files, the password


def encrypted(text: str, key: str, label: str = "default") -> str:
    secret = VaultSecret(key.encode())
    library = VaultLib([(label, secret)])
    named = None if label == "default" else label
    return str(library.encrypt(text, secret, vault_id=named).decode())


def decrypted(text: str, key: str) -> str:
    return str(VaultLib([("default", VaultSecret(key.encode()))]).decrypt(text).decode())


def tagged(text: str, indent: int) -> str:
    lines = "".join(f"{' ' * indent}{line}\n" for line in encrypted(text, "old").splitlines())
    return f"!vault |\n{lines}"


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    """Return an inventory with a vault, an encrypted key file, and single encrypted texts."""
    directory = tmp_path / "production"
    variables = directory / "group_vars/all"
    variables.mkdir(parents=True)
    (directory / "files").mkdir()
    (directory / ".vault-password").write_text("old\n")
    (directory / ".vault-password").chmod(0o600)
    (variables / "vault.yml").write_text(encrypted("bedstone_secrets: {a: one}\n", "old"))
    (directory / "files/site.key").write_text(encrypted("a key", "old", "mine"))
    quoted = encrypted("three", "old").replace("\n", "\\n")
    (variables / "settings.yml").write_text(
        f"# a remark with !vault $ANSIBLE_VAULT;\na: {tagged('two', 4)}# ü€\nb:\n  - c: "
        f'{tagged("four", 10)}  - {{d: !vault "{quoted}", e: 1}}\nf: last # of all\n'
    )
    (directory / "README.md").write_text("Texts begin with !vault and $ANSIBLE_VAULT;1.1\n")
    return directory


def plain(directory: Path, key: str) -> dict[str, object]:
    """Return all that a password opens; anything else fails."""

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("!vault", lambda _, node: decrypted(str(node.value), key))
    settings = directory / "group_vars/all/settings.yml"
    return {
        "vault": decrypted((directory / "group_vars/all/vault.yml").read_text(), key),
        "key": decrypted((directory / "files/site.key").read_text(), key),
        "settings": yaml.load(settings.read_text(), Loader=Loader),
    }


SAID = {
    "vault": "bedstone_secrets: {a: one}\n",
    "key": "a key",
    "settings": {"a": "two", "b": [{"c": "four"}, {"d": "three", "e": 1}], "f": "last"},
}


def now(directory: Path) -> str:
    return (directory / ".vault-password").read_text().strip()


def without_texts(directory: Path) -> list[str]:
    text = (directory / "group_vars/all/settings.yml").read_text()
    return [line for line in text.splitlines() if not line.strip().isalnum() and '"' not in line]


def test_all_files_and_single_texts_have_the_new_password(inventory: Path) -> None:
    assert plain(inventory, "old") == SAID
    before = without_texts(inventory)
    files = password.change(inventory, inventory / ".vault-password")
    assert [path.name for path in files] == ["site.key", "settings.yml", "vault.yml"]
    assert now(inventory) != "old"
    assert len(now(inventory)) >= 40
    assert plain(inventory, now(inventory)) == SAID
    assert without_texts(inventory) == before
    assert (inventory / "files/site.key").read_text().startswith("$ANSIBLE_VAULT;1.2;AES256;mine\n")
    assert not password.is_interrupted(inventory)
    assert (inventory / ".vault-password").stat().st_mode & 0o777 == 0o600
    with pytest.raises(Exception, match=r"[Dd]ecrypt"):
        plain(inventory, "old")


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Let the write of a number fail, before or after it has been made."""
    wanted: list[int] = []
    write, done = content.write_file, [0]

    def failing(path: Path, text: bytes) -> None:
        done[0] += 1
        if wanted and abs(wanted[0]) == done[0]:
            if wanted[0] > 0:
                write(path, text)
            raise KeyboardInterrupt
        write(path, text)

    monkeypatch.setattr(content, "write_file", failing)
    yield wanted
    assert not wanted or done[0] >= abs(wanted[0])


@pytest.mark.parametrize(
    "at", [sign * number for number in range(1, WRITES + 1) for sign in (1, -1)]
)
def test_change_that_was_cut_goes_on(inventory: Path, cut: list[int], at: int) -> None:
    cut.append(at)
    with pytest.raises(KeyboardInterrupt):
        password.change(inventory, inventory / ".vault-password")
    cut.clear()
    for path in inventory.rglob("*"):
        assert "old" not in path.name
    if at != -1:
        assert password.is_interrupted(inventory)
        with pytest.raises(ValueError, match="rotate production vault-password"):
            create.vault_content(inventory)
    password.change(inventory, inventory / ".vault-password")
    assert plain(inventory, now(inventory)) == SAID
    assert not password.is_interrupted(inventory)
    assert now(inventory) != "old"


def everything(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["other.yml", "files/other"])
def test_file_with_another_password_stops_all(inventory: Path, name: str) -> None:
    (inventory / name).write_text(encrypted("x", "another"))
    before = everything(inventory)
    with pytest.raises(ValueError, match=rf"{name}: has another password\nNothing was changed"):
        password.change(inventory, inventory / ".vault-password")
    assert everything(inventory) == before


def test_single_text_with_another_password_stops_all(inventory: Path) -> None:
    lines = encrypted("x", "another").replace("\n", "\n  ")
    (inventory / "host.yml").write_text(f"a: 1\nb: !vault |\n  {lines}\n")
    before = everything(inventory)
    with pytest.raises(ValueError, match=r"host.yml: line 2 has another password"):
        password.change(inventory, inventory / ".vault-password")
    assert everything(inventory) == before


def test_link_and_wrong_yaml_stop_all(inventory: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared.yml"
    shared.write_text(encrypted("x", "old"))
    (inventory / "linked.yml").symlink_to(shared)
    (inventory / "broken.yml").write_text("a: [!vault '$ANSIBLE_VAULT;1.1'\n")
    before = everything(inventory)
    with pytest.raises(ValueError, match="is not valid YAML") as error:
        password.change(inventory, inventory / ".vault-password")
    assert "linked.yml: is a link to" in str(error.value)
    assert everything(inventory) == before


def test_password_that_others_may_have_is_left_alone(inventory: Path, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("old\n")
    before = everything(tmp_path)
    with pytest.raises(ValueError, match="another inventory may have the same"):
        password.change(inventory, tmp_path / "password")
    (inventory / ".vault-password").unlink()
    (inventory / ".vault-password").symlink_to(tmp_path / "password")
    with pytest.raises(ValueError, match="another inventory may have the same"):
        password.change(inventory, inventory / ".vault-password")
    assert everything(tmp_path) == before
