"""Generate docs/settings.md from the schema and the roles' argument specifications."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, get_args

import yaml
from pydantic import BaseModel

from bedstone_control.settings.environment import APP_VARIABLES, DATABASE_VARIABLES, PLACEHOLDERS
from bedstone_control.settings.root import OTHER_VARIABLES, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pydantic.fields import FieldInfo

_HEADER = """\
<!-- Made by `python -m bedstone_control docs`; a test compares. Edit the schema, not this page. -->
# Settings

Settings stand in `inventories/NAME/group_vars/all/settings.yml` and begin with `bedstone_`. They
say what shall run; the roles' arguments follow from them. Whatever a role knows beyond that is
further down and is set in the same file, by its own name.

Before anything changes on a server, `site.yml` checks all of it: unknown names, wrong values,
missing and weak secrets, the inventory and the servers, in one report. An app in practice:
[your-app.md](your-app.md).
"""

_SECRETS = """\
## Secrets

`inventories/NAME/group_vars/all/vault.yml`, always encrypted, is made by
`python -m bedstone_control new` and completed by `python -m bedstone_control secrets NAME` when
an app is added. It holds:

```yaml
bedstone_secrets:
  ca: {certificate: …, key: …}         # Bedstone's own certificate authority
  backup:
    key: …                             # encrypts all that leaves the servers; make backup-key
    destinations:
      offsite: {private_key: …}        # of an SFTP server: an ssh key
      bucket: {access_key: …, secret_key: …}    # of an S3 bucket
  apps:
    payments:
      secret_key: …                    # ${app.secret_key}
      database_password: …             # of the role the app uses
      database_migrate_password: …     # of the role that changes the schema
      stripe_key: …                    # any other: ${secret.stripe_key}
  hooks:
    chat_url: …                        # of bedstone_hooks and bedstone_mail: ${secret.chat_url}
```

Passwords and keys of our own are made, the ssh keys included; what only you can know (those of S3
buckets, of third parties and of hooks) is asked for.

The vault's password is in `inventories/NAME/.vault-password`, which git ignores. It belongs in a
password manager: without it nobody reads the secrets again.
"""


def settings_page(roles: Path) -> str:
    """Return the page.

    Args:
        roles: the directory of the roles.

    """
    parts = [_HEADER, *_model_sections(Settings, "bedstone_", "Settings"), _other(), _variables()]
    parts += [_SECRETS, *_roles(roles)]
    return "\n".join(parts).rstrip() + "\n"


def _model_sections(model: type[BaseModel], prefix: str, title: str) -> Iterator[str]:
    """Return a section for a model and, after it, for each model in it."""
    rows = [_row(f"{prefix}{name}", field) for name, field in model.model_fields.items()]
    intro = "" if model is Settings else f"{(model.__doc__ or '').strip()}\n\n"
    head = "| key | default | what |\n|---|---|---|\n"
    yield f"## {title}\n\n{intro}{head}{''.join(rows)}"
    for name, field in model.model_fields.items():
        inner = inner_model(field.annotation)
        if inner:
            yield from _model_sections(inner, "", _title(title, name, field))


def _title(parent: str, name: str, field: FieldInfo) -> str:
    """Return the heading of a nested model: the path of keys that leads there."""
    text = str(field.annotation)
    own = f"bedstone_{name}" if parent == "Settings" else f"{parent.strip('`')}.{name}"
    many = {"list[": "[]", "dict[": ".NAME"}
    suffix = next((sign for start, sign in many.items() if text.startswith(start)), "")
    return f"`{own}{suffix}`"


def inner_model(annotation: Any) -> type[BaseModel] | None:
    """Return the model in a type, through lists, mappings and `| None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for item in get_args(annotation) if (found := inner_model(item))), None)


def _row(name: str, field: FieldInfo) -> str:
    """Return the table's line for one key."""
    if field.is_required():
        default = "**needed**"
    else:
        value = field.get_default(call_default_factory=True)
        default = _default(value)
    example = (field.examples or [None])[0]
    simple = example is not None and not isinstance(example, dict | list)
    shown = f" Example: `{_flow(example)}`" if simple else ""
    return f"| `{name}` | {default} | {_cell((field.description or '') + shown)} |\n"


def _default(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, BaseModel):
        return "see below"
    return f"`{_cell(_flow(value))}`"


def _flow(value: Any) -> str:
    """Return a value on one line, as YAML reads it."""
    if isinstance(value, str):
        return value or '""'
    return json.dumps(value, ensure_ascii=False)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _other() -> str:
    lines = "".join(f"| `{name}` | {_cell(text)} |\n" for name, text in OTHER_VARIABLES.items())
    return f"## Beside the settings\n\n| variable | what |\n|---|---|\n{lines}"


def _variables() -> str:
    """Return the sections on the default variables and the placeholders."""
    defaults = DATABASE_VARIABLES | APP_VARIABLES
    rows = "".join(f"| `{name}` | `{value}` |\n" for name, value in defaults.items())
    places = "".join(f"| `${{{name}}}` | {_cell(text)} |\n" for name, text in PLACEHOLDERS.items())
    return (
        "## Variables an app gets by itself\n\n"
        "Unless it says `default_env: false`; those of the database only with one. `env` overrides "
        f"each, `null` takes one away.\n\n| variable | value |\n|---|---|\n{rows}\n"
        "## Placeholders\n\nIn the values of `env` and in `files[].content`; `$${` is a plain "
        f"`${{`.\n\n| placeholder | what |\n|---|---|\n{places}"
    )


def _roles(roles: Path) -> Iterator[str]:
    """Return a section for each role's arguments."""
    yield (
        "## Arguments of the roles\n\n"
        "For finer needs, set in the inventory by their own names. Those marked *from the "
        "settings* are not to be set: `playbooks/group_vars/all.yml` derives them.\n"
    )
    derived = _derived(roles.parent / "playbooks" / "group_vars" / "all.yml")
    for path in sorted(roles.glob("*/meta/argument_specs.yml")):
        main = yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"]["main"]
        options: dict[str, dict[str, Any]] = main.get("options", {})
        rows = "".join(_option(name, option, derived) for name, option in options.items())
        table = (
            f"| argument | default | what |\n|---|---|---|\n{rows}" if rows else "No arguments.\n"
        )
        intro = _cell(str(main.get("short_description", "")))
        yield f"### Role {path.parents[1].name}\n\n{intro}.\n\n{table}"


def _derived(wiring: Path) -> set[str]:
    return set(yaml.safe_load(wiring.read_text(encoding="utf-8")))


def _option(name: str, option: dict[str, Any], derived: set[str]) -> str:
    """Return the table's line for one argument."""
    description = option.get("description", "")
    text = description if isinstance(description, str) else " ".join(description)
    if name in derived:
        default = "*from the settings*"
    elif option.get("required"):
        default = "**needed**"
    elif "default" in option:
        default = f"`{_cell(_flow(option['default']))}`"
    else:
        default = "none"
    return f"| `{name}` | {default} | {_cell(text)} |\n"
