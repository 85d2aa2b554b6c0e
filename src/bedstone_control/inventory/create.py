"""Make a new inventory: hosts, settings, encrypted secrets, and the vault's password."""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

import yaml

from bedstone_control import names
from bedstone_control.checks.domains import fault
from bedstone_control.checks.operators import key_fault
from bedstone_control.roles import registry, secrets
from bedstone_control.settings.edit import SettingsLoader
from bedstone_control.settings.root import Settings, from_variables
from bedstone_control.vault import content as vault
from bedstone_control.vault import ssh_keys
from bedstone_control.vault.password import PENDING

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSWORD_FILE = ".vault-password"  # noqa: S105 - the file's name
SETTINGS_FILE = "group_vars/all/settings.yml"
VAULT_FILE = "group_vars/all/vault.yml"
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
_HOST = re.compile(r"^[A-Za-z0-9][A-Za-z0-9.:-]*$")
_PLAIN_VALUE = re.compile(r"^[A-Za-z0-9_./~-]+$")


@dataclass(frozen=True)
class NewInventory:
    """The parameters of a new inventory.

    Attributes:
        name: its directory's name.
        host: name or address of the server.
        domain: the app's first domain.
        app: the app's name.
        source: the app's source, from the inventory's directory.
        user: the account for ssh.
        operator: name of the administrators' account.
        ssh_key: their public key; no account is made without one.

    """

    name: str
    host: str
    domain: str
    app: str = "payments"
    source: str = "../../app"
    user: str = "root"
    operator: str = "operator"
    ssh_key: str | None = None

    def check(self) -> None:
        """Check what the operator typed.

        Raises:
            ValueError: something can't be used.

        """
        if not _NAME.match(self.name):
            raise ValueError(f"{self.name!r} can't be an inventory's name. Example: production")
        if not _HOST.match(self.host):
            raise ValueError(f"{self.host!r} is no host name or address. Example: 192.0.2.10")
        if (wrong := fault(self.domain)) is not None:
            raise ValueError(f"{self.domain!r} is no domain: {wrong}. Example: pay.example.com")
        for what, text, pattern in (
            ("an app's name", self.app, names.APP_NAME),
            ("an account's name", self.user, r"^[a-z_][a-z0-9_-]*$"),
            ("an account's name", self.operator, r"^[a-z][a-z0-9_-]{0,30}$"),
        ):
            if not re.fullmatch(pattern, text):
                raise ValueError(f"{text!r} can't be {what}.")
        if not _PLAIN_VALUE.match(self.source):
            raise ValueError(f"{self.source!r} can't be used as a path here. Example: ../../app")
        if self.ssh_key is not None and (wrong := key_fault(self.ssh_key)) is not None:
            raise ValueError(wrong)


_NO_OPERATOR = """
# The account with which people administer the servers.
# bedstone_operator:
#   name: operator
#   authorized_keys: ["{{ lookup('file', '~/.ssh/id_ed25519.pub') }}"]
"""


class _Text(Template):
    """A template with a sign of its own: the settings' placeholders begin with a dollar."""

    delimiter = "%"


def hosts_text(new: NewInventory) -> str:
    """Return the content of hosts.yml."""
    become = "" if new.user == "root" else "\n      ansible_become: true"
    settings = Settings.model_validate(from_variables(yaml.safe_load(settings_text(new))))
    groups = [group.name for group in registry.groups() if group.needed(settings)]
    lines = "\n".join(f"    {name}: {{hosts: {{web1: }}}}" for name in groups)
    return _render("hosts.yml", host=new.host, user=new.user, become=become, groups=lines)


def settings_text(new: NewInventory) -> str:
    """Return the content of settings.yml."""
    operator = _NO_OPERATOR
    if new.ssh_key is not None:
        keys = yaml.safe_dump([new.ssh_key.strip()], width=1000).strip()
        operator = (
            "\n# The account with which people administer the servers.\n"
            f"bedstone_operator:\n  name: {new.operator}\n  authorized_keys:\n    {keys}\n"
        )
    return _render(
        "settings.yml", app=new.app, domain=new.domain, source=new.source, operator=operator
    )


def _render(name: str, **values: str) -> str:
    text = files("bedstone_control").joinpath(f"templates/{name}").read_text(encoding="utf-8")
    return _Text(text).substitute(values)


def create(new: NewInventory, parent: Path) -> Path:
    """Make an inventory: whole, or not at all.

    Args:
        new: what it is made of.
        parent: the directory of the inventories.

    Returns:
        Its directory.

    Raises:
        FileExistsError: there is something of that name; it is left alone.
        ValueError: something in `new` can't be used.

    """
    new.check()
    target = parent / new.name
    if target.exists() or target.is_symlink():
        raise FileExistsError(f"{target} exists and is left alone. Choose another name.")
    parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=parent, prefix=f".{new.name}."))
    try:
        (work / "group_vars" / "all").mkdir(parents=True)
        (work / "hosts.yml").write_text(hosts_text(new), encoding="utf-8")
        (work / SETTINGS_FILE).write_text(settings_text(new), encoding="utf-8")
        ignored = f"{PASSWORD_FILE}\n{PENDING}\n"
        (work / ".gitignore").write_text(ignored, encoding="utf-8")
        vault.write_password(work / PASSWORD_FILE)
        content = secrets.new_secrets(yaml.safe_load(settings_text(new)), inventory=new.name)
        vault.write_vault(work / VAULT_FILE, content, work / PASSWORD_FILE)
        work.chmod(0o755)
        work.rename(target)
    except BaseException:
        shutil.rmtree(work)
        raise
    return target


def add_secrets(directory: Path, password_file: Path | None = None) -> tuple[list[str], list[str]]:
    """Add the secrets that an inventory's settings need and its vault lacks.

    A vault and its password are made when there are none. Nothing that is in the vault changes.

    Args:
        directory: the inventory.
        password_file: the file with the vault's password, when it is not the inventory's own.

    Returns:
        The secrets that were added and those that only an operator can add, by their places in
        the vault: `apps.APP.NAME`, `hooks.NAME`.

    Raises:
        ValueError: the settings or the vault can't be read.

    """
    given = settings_of(directory)
    password = password_file or directory / PASSWORD_FILE
    vault_file = directory / VAULT_FILE
    present = vault_content(directory, password_file)
    content = secrets.new_secrets(given, present, directory.name)
    before, after = (secrets.missing_secrets(given, item) for item in (present, content))
    if content != present:
        if not password.exists():
            vault.write_password(password)
        vault.write_vault(vault_file, content, password)
    return [name for name in before if name not in after], after


def vault_content(directory: Path, password_file: Path | None = None) -> dict[str, object]:
    """Return the content of an inventory's vault, nothing when there is none.

    Raises:
        ValueError: its password is not there, or it can't be read.

    """
    password, file = password_file or directory / PASSWORD_FILE, directory / VAULT_FILE
    if (directory / PENDING).exists():
        raise ValueError(
            "A change of the vault's password was interrupted. This goes on with it: "
            f"python -m bedstone_control rotate {directory.name} vault-password"
        )
    if not file.is_file():
        return {}
    if not password.is_file():
        raise ValueError(f"There is no file {password} with the password of {file}.")
    return vault.read_vault(file, password)


def file_of(directory: Path, variable: str) -> Path:
    """Return the file of an inventory in which a setting stands, or in which it would."""
    for path, content in _files(directory):
        if variable in content:
            return path
    return directory / SETTINGS_FILE


def public_keys(directory: Path, password_file: Path | None = None) -> dict[str, str]:
    """Return how the servers log in to the SFTP destinations.

    Returns:
        By `USER@HOST` of a destination, the line for the account's authorized_keys.

    Raises:
        ValueError: the settings or the vault can't be read.

    """
    settings = settings_of(directory)
    kept = vault.destination_secrets(vault_content(directory, password_file))
    return {
        f"{user}@{there.sftp.host}": ssh_keys.public_line(
            key, f"bedstone-{directory.resolve().name}-{there.name}"
        )
        for there in settings.backup.destinations
        if there.sftp is not None
        for user, name in (
            (there.sftp.user, "private_key"),
            (there.sftp.wal_user, "wal_private_key"),
        )
        if user is not None
        and isinstance(key := kept.get(there.name, {}).get(name), str)
        and ssh_keys.private_key_fault(key) is None
    }


def deploy_keys(directory: Path, password_file: Path | None = None) -> dict[str, str]:
    """Return the public keys with which servers fetch the apps' sources, by app and repository.

    Raises:
        ValueError: the settings or the vault can't be read.

    """
    settings = settings_of(directory)
    content = vault_content(directory, password_file).get("bedstone_secrets")
    apps = content.get("apps") if isinstance(content, dict) else None
    kept = apps if isinstance(apps, dict) else {}
    return {
        f"{app.name}: {origin.source.git}": ssh_keys.public_line(
            key, "-".join(("bedstone", directory.resolve().name, app.name, *origin.place[1:]))
        )
        for app in settings.apps
        for origin in app.origins
        if origin.source.git is not None
        and isinstance(key := (kept.get(app.name) or {}).get(origin.secret("deploy_key")), str)
        and ssh_keys.private_key_fault(key) is None
    }


def settings_of(directory: Path) -> Settings:
    """Return the settings in an inventory's files.

    Raises:
        ValueError: there are none, a file is no YAML, or they break the schema.

    """
    given = from_variables(variables_of(directory))
    if not given:
        place = directory / "group_vars" / "all"
        raise ValueError(f"There are no settings in {place}. Usual: {directory / SETTINGS_FILE}")
    return Settings.model_validate(given)


def variables_of(directory: Path) -> dict[str, object]:
    """Return the variables in an inventory's files for all hosts, without the vault.

    Raises:
        ValueError: a file is no YAML.

    """
    given: dict[str, object] = {}
    for _, content in _files(directory):
        given |= content
    return given


def _files(directory: Path) -> Iterator[tuple[Path, dict[str, object]]]:
    """Return the files with an inventory's settings, and what is in them.

    Raises:
        ValueError: one is no YAML.

    """
    place = directory / "group_vars" / "all"
    for path in sorted([*place.glob("*.yml"), *place.glob("*.yaml")]):
        if path == directory / VAULT_FILE:
            continue
        try:
            content = yaml.load(path.read_text(encoding="utf-8"), Loader=SettingsLoader)  # noqa: S506 - a SafeLoader
        except yaml.YAMLError as error:
            raise ValueError(f"{path} is not valid YAML: {error}") from error
        yield path, content or {}
