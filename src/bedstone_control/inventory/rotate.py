"""Replace secrets of an inventory: `rotate`.

Each function changes the vault in one step, or nothing, and returns what to print: names and the
next command, never a secret.
"""

from __future__ import annotations

import copy
import datetime as dt
from typing import TYPE_CHECKING, Any

from cryptography import x509

from bedstone_control.checks.context import readable
from bedstone_control.inventory import create
from bedstone_control.pki import rotation as authority
from bedstone_control.pki.authority import CLOCK_TOLERANCE
from bedstone_control.roles import destinations, secrets
from bedstone_control.roles.role import SSH_KEY, Secret
from bedstone_control.vault import content as vault
from bedstone_control.vault import password

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bedstone_control.settings.root import Settings

VAULT_PASSWORD, CERTIFICATES, AUTHORITY = "vault-password", "certificates", "ca"
BACKUP_KEY = "backup.key"
SPECIAL = (AUTHORITY, BACKUP_KEY, CERTIFICATES, VAULT_PASSWORD)

# Of each step of the authority: what is said of it, and the step after it.
_STEPS = {
    "add": (
        "The next authority is in the vault. With the next run, everything trusts it as well.",
        "--sign",
    ),
    "sign": (
        "The next authority signs from now on. The previous one is trusted as well.",
        "--forget",
    ),
    "unsign": (
        "The previous authority signs again. The next one is trusted as well.",
        "--sign",
    ),
    "forget": ("The previous authority is out of the vault.", ""),
}
_CHANGES = {
    "sign": authority.signing,
    "unsign": authority.unsigned,
    "forget": authority.forgotten,
}


class Inventory:
    """An inventory whose vault is changed."""

    def __init__(self, directory: Path, password_file: Path | None = None) -> None:
        """Take the inventory's directory, and the vault's password if it is elsewhere."""
        self.directory = directory
        self.password_file = password_file or directory / create.PASSWORD_FILE

    def settings(self) -> Settings:
        """Return the settings."""
        return create.settings_of(self.directory)

    def content(self) -> dict[str, Any]:
        """Return the vault's content.

        Raises:
            ValueError: there is none, or it can't be read.

        """
        found: dict[str, Any] = create.vault_content(self.directory, self.password_file)
        if not found:
            raise ValueError(
                f"There is no vault {self.directory / create.VAULT_FILE}. "
                f"Make it: make secrets NAME={self.directory.name}"
            )
        return found

    def write(self, content: dict[str, Any]) -> None:
        """Replace the vault."""
        vault.write_vault(self.directory / create.VAULT_FILE, content, self.password_file)

    def play(self) -> str:
        """Return the command that brings the vault to the servers."""
        return (
            "  .venv/bin/ansible-playbook playbooks/site.yml "
            f"-i {readable(self.directory)} \\\n"
            f"    --vault-password-file {readable(self.password_file)}"
        )

    def rotate(self, rest: str) -> str:
        """Return the command of another step."""
        return f"  .venv/bin/python -m bedstone_control rotate {self.directory.name} {rest}"


def special(inventory: Inventory, name: str, step: str) -> list[str]:
    """Do a step of what is rotated alone, as `replace` and `forget` do of all others."""
    if name == AUTHORITY:
        return rotate_authority(inventory, step or "add")
    if name == BACKUP_KEY:
        return forget(inventory, [name]) if step else replace_backup_key(inventory)
    return renew_certificates(inventory) if name == CERTIFICATES else change_password(inventory)


def replace(
    inventory: Inventory, names: Sequence[str], ask: Callable[[str], str]
) -> tuple[list[str], bool]:
    """Replace secrets, all of those named or none.

    Args:
        inventory: the inventory.
        names: their places in the vault, with dots.
        ask: returns the new value of a secret that only the operator knows.

    Returns:
        What to print, and whether the other side of an ssh key has to learn it.

    Raises:
        ValueError: one of them can't be replaced; nothing has changed.

    """
    settings, content = inventory.settings(), inventory.content()
    wanted = [secrets.find(settings, name) for name in dict.fromkeys(names)]
    result = copy.deepcopy(content)
    for secret in wanted:
        name = ".".join(secret.place)
        if secret.place[-1] == "database_password" and _has_client_certificate(settings, secret):
            raise ValueError(
                f"{name}: with a client certificate the role logs in itself and has one "
                "password: new connections fail from provision.yml to the release. In a "
                f"maintenance window: ansible-vault edit {inventory.directory / create.VAULT_FILE}"
            )
    for secret in wanted:
        make = secret.make
        value = make(inventory.directory.name) if make else ask(".".join(secret.place))
        secrets.replace(result, secret, value)
    inventory.write(result)
    said = [f"Replaced in the vault: {', '.join('.'.join(one.place) for one in wanted)}"]
    said += [f"  {'.'.join(one.place)}: {one.rotation.overlap}." for one in wanted]
    said += ["Next:", inventory.play()]
    kept = [".".join(one.place) for one in wanted if one.keeps_previous]
    if kept:
        said += [
            "When nothing depends on the previous value any more (Django's sessions: two weeks):",
            inventory.rotate(f"{' '.join(kept)} --forget"),
        ]
    return said, any(one.rotation is SSH_KEY for one in wanted)


def _has_client_certificate(settings: Settings, secret: Secret) -> bool:
    return any(
        app.name == secret.place[1] and app.database is not None and app.database.client_certificate
        for app in settings.apps
    )


def forget(inventory: Inventory, names: Sequence[str]) -> list[str]:
    """Drop the previous values of secrets.

    Raises:
        ValueError: the settings need no such secret.

    """
    settings, content = inventory.settings(), inventory.content()
    wanted = [secrets.find(settings, name) for name in dict.fromkeys(names)]
    if BACKUP_KEY in names:
        (secrets.held(content, (secrets.PREVIOUS, "backup")) or {}).pop("directories", None)
    dropped = [".".join(one.place) for one in wanted if secrets.forget(content, one)]
    if not dropped:
        return ["No previous value was kept; nothing changed."]
    inventory.write(content)
    return [
        f"Dropped the previous values of: {', '.join(dropped)}",
        "Next:",
        inventory.play(),
    ]


def replace_backup_key(inventory: Inventory) -> list[str]:
    """Replace the backup key, and mark the present directories as those of the previous one.

    Raises:
        ValueError: there is none, or the one before it is kept for other directories.

    """
    settings, content = inventory.settings(), inventory.content()
    secret = secrets.find(settings, BACKUP_KEY)
    secrets.replace(content, secret, secret.make(inventory.directory.name) if secret.make else None)
    declared = settings.backup.destinations
    previous = secrets.held(content, (secrets.PREVIOUS, "backup"))
    previous["directories"] = [destinations.directory(there) for there in declared]
    inventory.write(content)
    paths = ", ".join(there.name for there in declared)
    local = f"{settings.backup.directory.rstrip('/')}/.restic"
    return [
        f"Replaced in the vault: {BACKUP_KEY}. The previous one is kept for what it encrypted.",
        "Next:",
        f"  make backup-key NAME={inventory.directory.name}",
        *([f"  In the settings, another `path` for each destination: {paths}"] if paths else []),
        inventory.play(),
        "  On each server with uploads; restic asks for the previous key, from where you keep it:",
        f"  sudo restic -r {local} key add --new-password-file /etc/bedstone/backup.key",
        "  sudo bedstone backup",
        "When the former directories are deleted:",
        inventory.rotate(f"{BACKUP_KEY} --forget"),
    ]


def rotate_authority(inventory: Inventory, step: str) -> list[str]:
    """Do one step of the way to another certificate authority.

    Args:
        inventory: the inventory.
        step: `add`, `sign`, `unsign` or `forget`.

    Raises:
        ValueError: it is not this step's turn.

    """
    content = inventory.content()
    present = _authority(content)
    done, after = _STEPS[step]
    if step == "add":
        # Two authorities of one name are hard to tell apart in messages.
        moment = f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H:%MZ}"
        name = f"{inventory.directory.resolve().name[:34]} {moment}"
        make = secrets.find(inventory.settings(), AUTHORITY).make
        changed = authority.added(present, make(name) if make else {})
    else:
        changed = _CHANGES[step](present)
    if changed == present:
        done = "This step was done before, and nothing changed."
    else:
        content[secrets.ROOT][AUTHORITY] = changed
        inventory.write(content)
    said = [done, "Next, on all hosts:", inventory.play()]
    if after:
        said += ["After it has ended without a failure:", inventory.rotate(f"{AUTHORITY} {after}")]
    return said


def _authority(content: dict[str, Any]) -> dict[str, Any]:
    """Return what the vault holds of the authority.

    Raises:
        ValueError: nothing.

    """
    present = secrets.held(content, (AUTHORITY,))
    if isinstance(present, dict) and present.get("certificate"):
        return present
    raise ValueError("The vault has no authority yet. Make it: make secrets NAME=…")


def renew_certificates(inventory: Inventory) -> list[str]:
    """Have all certificates of the inventory's authority issued again, on new keys."""
    content = inventory.content()
    _authority(content)["issued_after"] = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    inventory.write(content)
    return [
        "The next run issues all certificates of the authority again, on new keys.",
        "Next:",
        inventory.play(),
    ]


def change_password(inventory: Inventory) -> list[str]:
    """Give the vault and all that is encrypted in the inventory another password.

    Raises:
        ValueError: something has another password already; nothing has changed.

    """
    files = password.change(inventory.directory, inventory.password_file)
    return [
        f"Encrypted with a new password, which is in {inventory.password_file}:",
        *(f"  {path}" for path in files),
        "Put it into your password manager now. The previous one still opens what was copied or",
        "committed before: after a leak, replace the secrets themselves, too.",
    ]


def table(inventory: Inventory, today: dt.date) -> list[str]:
    """Return the secrets with their ages, and which are past three quarters of their lives.

    Raises:
        ValueError: settings or vault can't be read.

    """
    settings, content = inventory.settings(), inventory.content()
    rows = [("secret", "since", "days", "of", "")]
    for age in secrets.ages(settings, content):
        name = ".".join(age.secret.place)
        if age.secret.place == (AUTHORITY,):
            rows.append(_authority_row(name, secrets.held(content, age.secret.place), today))
            continue
        life: int | None = getattr(settings.secret_life_days, age.secret.rotation.kind, None)
        said = ["its previous value is still accepted"] if age.previous else []
        if age.made is None:
            rows.append((name, "not known", "", str(life or ""), ", ".join(said)))
            continue
        days = (today - age.made).days
        rows.append(
            (
                name,
                age.made.isoformat(),
                str(days),
                str(life or ""),
                ", ".join([*_due(days, life), *said]),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _due(days: int, life: int | None) -> list[str]:
    if life is None or days * 4 < life * 3:
        return []
    return ["past its life" if days >= life else "past 3/4 of its life"]


def _authority_row(name: str, held: Any, today: dt.date) -> tuple[str, str, str, str, str]:
    certificate = x509.load_pem_x509_certificate(str(held["certificate"]).encode())
    since = (certificate.not_valid_before_utc + CLOCK_TOLERANCE).date()
    life = (certificate.not_valid_after_utc.date() - since).days
    days = (today - since).days
    said = _due(days, life)
    said += ["the next one is trusted already"] if held.get("next") else []
    said += ["the previous one is still trusted"] if held.get("previous") else []
    return name, since.isoformat(), str(days), str(life), ", ".join(said)
