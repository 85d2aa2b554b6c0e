"""`python -m bedstone_control`: new inventories, further secrets, the backup key, documentation."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pydantic import ValidationError

from bedstone_control import docs, version
from bedstone_control.checks.problems import schema_report
from bedstone_control.inventory import backup_key_dialog, create

PROJECT = Path(__file__).resolve().parents[2]
INVENTORIES = PROJECT / "inventories"


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    result = argparse.ArgumentParser(prog="python -m bedstone_control", description=__doc__)
    result.add_argument("--version", action="version", version=f"bedstone {version.version()}")
    commands = result.add_subparsers(required=True, metavar="COMMAND")

    new = commands.add_parser(
        "new",
        help="make an inventory with settings and fresh secrets",
        description="Make inventories/NAME: hosts, settings, an encrypted vault with fresh "
        "secrets, and the vault's password. Never overwrites anything.",
    )
    new.add_argument("name", help="its name, such as production")
    new.add_argument("--host", required=True, help="name or address of the server")
    new.add_argument("--domain", required=True, help="domain of the app")
    new.add_argument("--app", default="payments", help="name of the app (%(default)s)")
    new.add_argument(
        "--source", default="../../app", help="its source, from the inventory (%(default)s)"
    )
    new.add_argument("--user", default="root", help="account for ssh (%(default)s)")
    new.add_argument("--operator", default="operator", help="administrators' account (%(default)s)")
    new.add_argument(
        "--ssh-key", type=Path, help="their public key; without one no account is made"
    )
    new.set_defaults(run=_new)

    secrets = commands.add_parser(
        "secrets",
        help="add the secrets that an inventory lacks",
        description="Add what the vault of inventories/NAME lacks, for example for a new app. "
        "Changes no secret that is there.",
    )
    secrets.add_argument("name", help="name of the inventory, or its directory")
    secrets.add_argument(
        "--vault-password-file", type=Path, help="when it is not the inventory's own"
    )
    secrets.set_defaults(run=_secrets)

    backup_key = commands.add_parser(
        "backup-key",
        help="show the backup key once, and prove that it is kept elsewhere",
        description="Show the key that encrypts all that leaves the servers, ask for it back from "
        "the place where you keep it, and write its fingerprint into the settings "
        "(bedstone_backup.key_held). Destinations need that line.",
    )
    backup_key.add_argument("name", help="name of the inventory, or its directory")
    how = backup_key.add_mutually_exclusive_group()
    how.add_argument(
        "--check",
        action="store_true",
        help="only ask for it, on a terminal or as the first line of standard input",
    )
    how.add_argument(
        "--reveal", action="store_true", help="only print it, also when that is no terminal"
    )
    backup_key.add_argument(
        "--vault-password-file", type=Path, help="when it is not the inventory's own"
    )
    backup_key.set_defaults(run=_backup_key)

    documentation = commands.add_parser(
        "docs", help="write docs/settings.md and the playbooks' lists of roles again"
    )
    documentation.set_defaults(run=_docs)
    return result


def _shown(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _new(arguments: argparse.Namespace) -> int:
    key = arguments.ssh_key.expanduser() if arguments.ssh_key else None
    directory = create.create(
        create.NewInventory(
            name=arguments.name,
            host=arguments.host,
            domain=arguments.domain,
            app=arguments.app,
            source=arguments.source,
            user=arguments.user,
            operator=arguments.operator,
            ssh_key=key.read_text(encoding="utf-8") if key else None,
        ),
        INVENTORIES,
    )
    shown = _shown(directory)
    print(
        f"Made {shown}: hosts.yml, {create.SETTINGS_FILE}, {create.VAULT_FILE} (encrypted) "
        f"and {create.PASSWORD_FILE}.\n\n"
        f"1. Keep {shown}/{create.PASSWORD_FILE} in your password manager: git ignores it, and\n"
        "   without it nobody can read the secrets again.\n"
        f"2. Describe your app in {shown}/{create.SETTINGS_FILE} (docs/your-app.md).\n"
        "3. Bring the server up:\n\n"
        f"   .venv/bin/ansible-playbook playbooks/site.yml -i {shown} \\\n"
        f"     --vault-password-file {shown}/{create.PASSWORD_FILE}\n"
    )
    if key and arguments.user == "root":
        print(
            "4. Afterwards connect as the operator: in hosts.yml,\n"
            f"   `ansible_user: {arguments.operator}` and `ansible_become: true`. The next run\n"
            "   then closes root's login.\n"
        )
    return 0


def _directory(name: str) -> Path:
    """Return an inventory's directory by its name or its path.

    Raises:
        ValueError: there is none.

    """
    given = Path(name)
    directory = given if given.is_dir() else INVENTORIES / name
    if not directory.is_dir():
        raise ValueError(
            f"There is no inventory {_shown(directory)}. Make it: make new NAME={name} …"
        )
    return directory


def _backup_key(arguments: argparse.Namespace) -> int:
    return backup_key_dialog.run(
        _directory(arguments.name),
        arguments.vault_password_file,
        check=arguments.check,
        reveal=arguments.reveal,
    )


def _secrets(arguments: argparse.Namespace) -> int:
    directory = _directory(arguments.name)
    added, missing = create.add_secrets(directory, arguments.vault_password_file)
    vault_file = _shown(directory / create.VAULT_FILE)
    print(f"Added to {vault_file}: {', '.join(added)}" if added else "Nothing had to be added.")
    for account, line in create.public_keys(directory, arguments.vault_password_file).items():
        print(f"{account} lets the servers in by this line of its authorized_keys:\n  {line}")
    for source, line in create.deploy_keys(directory, arguments.vault_password_file).items():
        print(f"{source} needs this deploy key, for reading alone:\n  {line}")
    if missing:
        print(
            f"Only you can add, under bedstone_secrets: {', '.join(missing)}\n"
            f"  .venv/bin/ansible-vault edit {vault_file} --vault-password-file "
            f"{_shown(directory / create.PASSWORD_FILE)}"
        )
        return 1
    return 0


def _docs(_arguments: argparse.Namespace) -> int:
    for name, text in docs.generated(PROJECT / "roles").items():
        path = PROJECT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(f"Wrote {_shown(path)}.")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run a command; return 0 when it did what was asked, 1 when not."""
    parsed = parser().parse_args(arguments)
    try:
        return int(parsed.run(parsed))
    except ValidationError as error:
        print(schema_report(error), file=sys.stderr)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
    except (EOFError, KeyboardInterrupt):
        print("\nStopped.", file=sys.stderr)
    return 1
