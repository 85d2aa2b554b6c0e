"""`python -m bedstone_control`: new inventories, further secrets, the backup key, documentation."""

from __future__ import annotations

import argparse
import datetime as dt
import getpass
import sys
from pathlib import Path

from pydantic import ValidationError

from bedstone_control import cli_apps, docs, version
from bedstone_control.checks.problems import schema_report
from bedstone_control.inventory import backup_key_dialog, create, rotate

PROJECT = Path(__file__).resolve().parents[2]
INVENTORIES = PROJECT / "inventories"
_STEPS = ("list", "sign", "unsign", "forget")


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

    _add_rotate(commands.add_parser("rotate", help="replace secrets without downtime"))

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

    cli_apps.register(commands, _directory)

    documentation = commands.add_parser(
        "docs", help="write docs/settings.md and the playbooks' lists of roles again"
    )
    documentation.set_defaults(run=_docs)
    return result


def _add_rotate(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Replace secrets in the vault of inventories/NAME; the playbook that it names brings them "
        "to the servers (docs/rotation.md). What only you know is asked for, on a terminal or as "
        "lines of standard input."
    )
    command.add_argument("name", help="name of the inventory, or its directory")
    command.add_argument(
        "secrets",
        nargs="*",
        metavar="SECRET",
        help="its place in the vault, such as apps.payments.secret_key; or `ca`, the certificate "
        "authority; `certificates`, those that it issued; `vault-password`",
    )
    step = command.add_mutually_exclusive_group()
    step.add_argument("--list", action="store_true", help="show the secrets' names and ages")
    step.add_argument("--sign", action="store_true", help="with `ca`: the next authority signs")
    step.add_argument("--unsign", action="store_true", help="with `ca`: the previous one again")
    step.add_argument(
        "--forget", action="store_true", help="drop the previous value, or the previous authority"
    )
    command.add_argument(
        "--vault-password-file", type=Path, help="when it is not the inventory's own"
    )
    command.set_defaults(run=_rotate)


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
    _print_public_keys(directory, arguments.vault_password_file)
    if missing:
        print(
            f"Only you can add, under bedstone_secrets: {', '.join(missing)}\n"
            f"  .venv/bin/ansible-vault edit {vault_file} --vault-password-file "
            f"{_shown(directory / create.PASSWORD_FILE)}"
        )
        return 1
    return 0


def _print_public_keys(directory: Path, password_file: Path | None) -> None:
    for account, line in create.public_keys(directory, password_file).items():
        print(f"{account} lets the servers in by this line of its authorized_keys:\n  {line}")
    for source, line in create.deploy_keys(directory, password_file).items():
        print(f"{source} needs this deploy key, for reading alone:\n  {line}")


def _rotate(arguments: argparse.Namespace) -> int:
    names = arguments.secrets
    step = next((name for name in _STEPS if getattr(arguments, name)), "")
    _check_rotation(names, step)
    inventory = rotate.Inventory(_directory(arguments.name), arguments.vault_password_file)
    has_keys = False
    if step == "list":
        said = rotate.table(inventory, dt.datetime.now(dt.UTC).date())
    elif names[0] in rotate.SPECIAL:
        said = rotate.special(inventory, names[0], step)
    elif step == "forget":
        said = rotate.forget(inventory, names)
    else:
        said, has_keys = rotate.replace(inventory, names, _ask)
    print("\n".join(said))
    if has_keys:
        _print_public_keys(inventory.directory, arguments.vault_password_file)
    return 0


def _check_rotation(names: list[str], step: str) -> None:
    """Check that names and options fit together.

    Raises:
        ValueError: they don't.

    """
    alone = [name for name in names if name in rotate.SPECIAL]
    if (step == "list") != (not names):
        raise ValueError("Name the secrets to replace, or ask for --list without names.")
    if len(names) > 1 and alone:
        raise ValueError(f"{alone[0]} is rotated alone: it has other next steps.")
    if step in {"sign", "unsign"} and names != [rotate.AUTHORITY]:
        raise ValueError(f"--{step} is a step of `{rotate.AUTHORITY}`.")
    if step == "forget" and names[0] in {rotate.CERTIFICATES, rotate.VAULT_PASSWORD}:
        raise ValueError(f"Nothing previous is kept of {names[0]}.")


def _ask(name: str) -> str:
    """Return the new value of a secret that only the operator knows.

    Raises:
        ValueError: it is empty.

    """
    if sys.stdin.isatty():
        value = getpass.getpass(f"New value of {name} (not shown): ")
    else:
        value = sys.stdin.readline().rstrip("\r\n")
    if not value.strip():
        raise ValueError(f"{name} got no value. Nothing was changed.")
    return value


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
