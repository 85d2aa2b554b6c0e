"""Writes .env.example and docs/environment.md from the schema.

`python -m config.environment_docs` writes both; a test compares them with the schema.
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, cast

from config.environment import Environment, example, is_secret, variable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

BASE = Path(__file__).resolve().parent.parent
EXAMPLE = BASE / ".env.example"
TABLE = BASE / "docs" / "environment.md"

# Where the default depends on something else, words say it better than a value.
DEFAULTS_IN_WORDS = {
    "secure_ssl_redirect": "HTTPS_ENFORCED",
    "session_cookie_secure": "HTTPS_ENFORCED",
    "csrf_cookie_secure": "HTTPS_ENFORCED",
    "web_concurrency": "by cores",
}


def _groups() -> Iterator[tuple[str, list[tuple[str, FieldInfo]]]]:
    def group(item: tuple[str, FieldInfo]) -> str:
        return str(cast("dict[str, object]", item[1].json_schema_extra)["group"])

    for name, fields in groupby(Environment.model_fields.items(), key=group):
        yield name, list(fields)


def _default(name: str, field: FieldInfo) -> str:
    if name in DEFAULTS_IN_WORDS:
        return DEFAULTS_IN_WORDS[name]
    value = field.default
    if isinstance(value, list):
        return ",".join(value)
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def env_example() -> str:
    """Return the text of .env.example: required variables set, optional ones as comments."""
    lines = [
        "# Copy to .env and fill in. Made by `make example` from config/environment.py.",
        "# A line that begins with # shows the default of an optional variable, or an example.",
    ]
    for group, fields in _groups():
        lines += ["", f"# --- {group} " + "-" * (70 - len(group))]
        for name, field in fields:
            lines += [f"# {field.description}"]
            if field.is_required():
                # No secret that would work is published.
                value = "" if is_secret(field) else example(field)
                lines += [f"{variable(name)}={value}"]
            else:
                value = example(field)
                if is_secret(field):
                    value = ""
                elif name not in DEFAULTS_IN_WORDS and field.default not in (None, []):
                    value = _default(name, field)
                lines += [f"#{variable(name)}={value}"]
    return "\n".join(lines) + "\n"


def table() -> str:
    """Return the text of docs/environment.md."""
    lines = [
        "# Environment variables",
        "",
        "Made by `make example` from `config/environment.py`, the schema that the app checks at",
        "its start. Whatever is missing or wrong stops the start: all of it is listed at once,",
        "one sentence each, and the exit code is 78.",
    ]
    for group, fields in _groups():
        lines += ["", f"## {group}", "", "| variable | default | example | what it does |"]
        lines += ["|---|---|---|---|"]
        for name, field in fields:
            default = "**required**" if field.is_required() else _code(_default(name, field))
            shown = _code(example(field))
            lines += [f"| `{variable(name)}` | {default} | {shown} | {field.description} |"]
    return "\n".join(lines) + "\n"


def _code(value: str) -> str:
    return f"`{value}`" if value else ""


if __name__ == "__main__":
    EXAMPLE.write_text(env_example())
    TABLE.write_text(table())
