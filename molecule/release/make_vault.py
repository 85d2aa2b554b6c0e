"""Make the scenario's vault: fresh secrets at every run, encrypted as a user's are."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from bedstone_control import vault


def main(inventory: Path) -> None:
    """Write vault.yml beside the settings, and the vault's password.

    Args:
        inventory: the directory that holds group_vars/all/settings.yml.

    """
    password = inventory / ".vault-password"
    if password.exists():
        return
    settings = yaml.safe_load((inventory / "group_vars/all/settings.yml").read_text())
    own = {name: value for name, value in settings.items() if name.startswith("bedstone_")}
    content = vault.new_secrets(own)
    content["bedstone_secrets"]["apps"]["ledger"]["mark"] = "first-mark"
    vault.write_password(password)
    vault.write_vault(inventory / "group_vars/all/vault.yml", content, password)
    print("made the vault")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
