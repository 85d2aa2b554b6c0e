"""Generate docs/settings.md from the schema and the roles' argument specifications."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, get_args

import yaml
from pydantic import BaseModel

from bedstone_control.roles import environment, playbooks, registry
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

%s
Passwords and keys of our own are made, the ssh keys included; what only you can know (those of S3
buckets, of third parties and of hooks) is asked for.

The vault's password is in `inventories/NAME/.vault-password`, which git ignores. It belongs in a
password manager: without it nobody reads the secrets again.
"""


# Settings with one of each secret.
_EXAMPLE = {
    "apps": [
        {
            "name": "payments",
            "source": {"image": "registry.example.com/payments:1", "registry_user": "deploy"},
            "services": {"web": {"port": 8000}},
            "env": {"STRIPE_KEY": "${secret.stripe_key}"},
        }
    ],
    "acme": {"account_id": "kid-1", "dns": {"plugin": "rfc2136"}},
    "backup": {
        "destinations": [
            {
                "name": "offsite",
                "sftp": {"host": "a.example.com", "user": "u", "path": "/b", "host_keys": ["k"]},
            },
            {
                "name": "bucket",
                "s3": {"endpoint": "s3.example.com", "bucket": "backups", "region": "us-east-1"},
            },
        ]
    },
    "hooks": [{"events": ["failure"], "webhook": "${secret.chat_url}"}],
}


def generated(roles: Path) -> dict[str, str]:
    """Return all generated files by their paths in the project.

    Args:
        roles: the directory of the roles.

    """
    lists = {f"playbooks/{name}": text for name, text in playbooks.files().items()}
    return {"docs/settings.md": settings_page(roles), **lists}


def settings_page(roles: Path) -> str:
    """Return the page.

    Args:
        roles: the directory of the roles.

    """
    parts = [_HEADER, *_model_sections(Settings, "bedstone_", "Settings"), _other(), _variables()]
    parts += [_SECRETS % _vault(), *_roles(roles)]
    return "\n".join(parts).rstrip() + "\n"


def _vault() -> str:
    """Return the vault's content as an example, in YAML with a remark on each secret."""
    tree: dict[str, Any] = {}
    for secret in registry.secrets(Settings.model_validate(_EXAMPLE)):
        inner = tree
        for name in secret.place[:-1]:
            inner = inner.setdefault(name, {})
        inner[secret.place[-1]] = secret.purpose
    lines = list(_lines({"bedstone_secrets": tree}))
    width = max(len(text) for text, _ in lines) + 2
    text = "\n".join(f"{text:<{width}}{remark}".rstrip() for text, remark in lines)
    return f"```yaml\n{text}\n```\n"


def _lines(tree: dict[str, Any], indent: str = "") -> Iterator[tuple[str, str]]:
    """Return the lines of a tree whose leaves are remarks, each line with its remark."""
    for name, inner in tree.items():
        if isinstance(inner, dict):
            yield f"{indent}{name}:", ""
            yield from _lines(inner, f"{indent}  ")
        else:
            yield f"{indent}{name}: …", f"# {inner}"


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
    defaults = environment.default_variables(registry.ROLES)
    known = environment.known_placeholders(registry.ROLES)
    rows = "".join(f"| `{name}` | `{value}` |\n" for name, value in defaults.items())
    places = "".join(f"| `${{{name}}}` | {_cell(it.purpose)} |\n" for name, it in known.items())
    return (
        "## Variables an app gets by itself\n\n"
        "Unless it says `default_env: false`; those of the database only with one, those of its "
        "client certificate with `client_certificate`. `env` overrides each, `null` takes one "
        "away.\n\n"
        f"| variable | value |\n|---|---|\n{rows}\n"
        "## Placeholders\n\nIn the values of `env` and in `files[].content`; `$${` is a plain "
        f"`${{`.\n\n| placeholder | what |\n|---|---|\n{places}"
    )


def _roles(roles: Path) -> Iterator[str]:
    """Return a section for each role's arguments."""
    yield (
        "## Arguments of the roles\n\n"
        "For finer needs, set in the inventory by their own names. Those marked *from the "
        "settings* are not to be set: `playbooks/group_vars/all/roles.yml` derives them.\n"
    )
    derived = registry.derived()
    for path in sorted(roles.glob("*/meta/argument_specs.yml")):
        main = yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"]["main"]
        options: dict[str, dict[str, Any]] = main.get("options", {})
        rows = "".join(_option(name, option, derived) for name, option in options.items())
        table = (
            f"| argument | default | what |\n|---|---|---|\n{rows}" if rows else "No arguments.\n"
        )
        intro = _cell(str(main.get("short_description", "")))
        yield f"### Role {path.parents[1].name}\n\n{intro}.\n\n{table}"


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
