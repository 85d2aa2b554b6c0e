"""Make a scenario's vault: fresh secrets at every run, encrypted as a user's are.

    python3 make_vault.py SCENARIO INVENTORY

SCENARIO/secrets.yml lists secrets of the apps' own, by app and name; one without a value gets a
random one.
"""

from __future__ import annotations

import secrets
import sys
from pathlib import Path

import yaml

from bedstone_control.roles.secrets import new_secrets
from bedstone_control.vault import content as vault


def main(scenario: Path, inventory: Path) -> None:
    """Write vault.yml next to the settings, and the vault's password.

    Args:
        scenario: the directory that holds secrets.yml.
        inventory: the directory that holds group_vars/all/settings.yml.

    """
    password = inventory / ".vault-password"
    if password.exists():
        return
    settings = yaml.safe_load((inventory / "group_vars/all/settings.yml").read_text())
    own = {name: value for name, value in settings.items() if name.startswith("bedstone_")}
    content = new_secrets(own)
    for app, wanted in yaml.safe_load((scenario / "secrets.yml").read_text()).items():
        for name, value in wanted.items():
            content["bedstone_secrets"]["apps"][app][name] = value or secrets.token_urlsafe(32)
    vault.write_password(password)
    vault.write_vault(inventory / "group_vars/all/vault.yml", content, password)
    print("made the vault")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
